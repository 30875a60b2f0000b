"""Providers of inputs: found by name as device families are, read, and checked by themselves."""

import re
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ems.inputs import AIR, CLOUD, EXPORT, GHI, IMPORT, SPOT
from ems.site_schema.draft import Draft
from ems.site_schema.forms_inputs import ProviderForm
from ems.site_schema.text import Document, Loc, read_document, show_value
from ems.site_schema.validating import validate
from ems.site_schema.words import hint

FOLDER = "providers"  # beside a site file, and in this package
POINTER = re.compile(r"(/([^~/]|~[01])*)*")  # RFC 6901
FORMS = ("iso", "s", "ms")
SERIES = {"price": (SPOT, IMPORT, EXPORT), "weather": (GHI, AIR, CLOUD)}


def provider_file(name: str, site_folder: Path) -> tuple[Path, bool]:
    """The file of a provider, and whether it is the site's own: that one counts before a shipped one."""
    own = site_folder / FOLDER / f"{name}.yaml"
    return (own, True) if own.is_file() else (shipped_folder() / f"{name}.yaml", False)


def shipped_folder() -> Path:
    """Where the providers that come with the package lie."""
    return Path(str(files("ems"))) / FOLDER


def known_providers(site_folder: Path) -> list[str]:
    """Names of all providers that a site file in this folder can use."""
    found = {p.stem for folder in (site_folder / FOLDER, shipped_folder()) for p in folder.glob("*.yaml")}
    return sorted(found)


def place_providers(draft: Draft, folder: Path) -> None:
    """Read the provider of each input that names one."""
    for input_id, form in draft.inputs.items():
        if form.provider is None:
            continue
        path, is_own = provider_file(form.provider, folder)
        if not path.is_file():
            known = known_providers(folder)
            allowed = f"{FOLDER}/{form.provider}.yaml here, or one of {', '.join(known)}"
            draft.add(
                ("inputs", input_id, "provider"), repr(form.provider), allowed, hint(form.provider, known)
            )
            continue
        document, provider = read_provider(path)
        shown = draft.map_documents if is_own else draft.shipped_documents
        shown[f"{FOLDER}/{form.provider}.yaml"] = document
        if provider is not None:
            draft.providers[input_id] = provider


def read_provider(path: Path) -> tuple[Document, ProviderForm | None]:
    """A provider's file as far as it is right; every problem is in the document."""
    document = read_document(path)
    if not isinstance(document.data, dict):
        if document.data is not None:
            document.add((), show_value(document.data), "a mapping of keys to values")
        return document, None
    if validate(ProviderForm, document.data, document, {}):
        return document, None
    form = ProviderForm.model_validate(document.data)
    before = len(document.problems)
    _check(document, form, path.stem)
    return document, form if len(document.problems) == before else None


def _check(document: Document, form: ProviderForm, stem: str) -> None:
    if form.provider != stem:
        document.add(("provider",), repr(form.provider), repr(stem), "the name of its file")
    if form.time.form not in FORMS and "%" not in form.time.form:
        wanted = "iso, s, ms, or a form of strptime such as %d/%m/%Y %H:%M"
        document.add(("time", "form"), repr(form.time.form), wanted)
    if form.time.zone is not None:
        try:
            ZoneInfo(form.time.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            document.add(("time", "zone"), repr(form.time.zone), "an IANA time zone such as Europe/Vienna")
    if form.delimiter == form.decimal:
        document.add(("decimal",), repr(form.decimal), "another character than `delimiter`")
    _check_shape(document, form)
    _check_content(document, form)


def _check_shape(document: Document, form: ProviderForm) -> None:
    if form.shape == "columns" and form.body == "csv":
        document.add(("shape",), "columns", "records with body: csv")
    if not POINTER.fullmatch(form.rows):
        document.add(("rows",), repr(form.rows), "a JSON pointer such as /data, or nothing")
    if form.rows and (form.body == "csv" or form.shape == "columns"):
        document.add(("rows",), repr(form.rows), "nothing with csv or with shape: columns")
    places: list[tuple[Loc, str]] = [(("time", "at"), form.time.at)]
    places += [(("columns", name, "at"), c.at) for name, c in form.columns.items()]
    for loc, at in places:
        if form.shape == "columns" and not (at.startswith("/") and POINTER.fullmatch(at)):
            document.add(loc, repr(at), "a JSON pointer to a list, such as /hourly/time")


def _check_content(document: Document, form: ProviderForm) -> None:
    if (form.kind == "outages") is not (form.outage is not None):
        found = "nothing" if form.outage is None else "a value"
        document.add(("outage",), found, "where the parts of an announcement stand, with kind: outages alone")
    if form.kind == "outages":
        if form.columns or form.shape == "columns":
            document.add(("columns",), "a value", "nothing with kind: outages, whose shape is records")
        return
    if not form.columns and form.body != "csv":
        document.add(("columns",), "nothing", "where each series stands")
    for name in form.columns:
        known = SERIES.get(form.kind)
        if known is not None and name not in known:
            document.add(("columns", name), repr(name), f"one of {', '.join(known)}", hint(name, known))
