"""Inputs from elsewhere: one way in, a provider that fits, nothing secret in the open."""

import re
from urllib.parse import urlsplit

from ems.errors import BadValue
from ems.inputs import AIR, CLOUD, EXPORT, GHI, IMPORT, SPOT
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_inputs import InputForm, ProviderColumnForm, ProviderForm
from ems.site_schema.text import Loc
from ems.units import conversion_factor

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PRICES = (SPOT, IMPORT, EXPORT)
_OF_KIND = {
    "price": ("price_min_per_kwh", "price_max_per_kwh", "import", "export"),
    "outages": ("certainty_min", "complete", "mains_back_s"),
}
_OF_URL = ("timeout_s", "protection", "ca", "token_file", "token_env", "auth_header", "auth_scheme")


def check_inputs(draft: Draft) -> None:
    """Contradictions in how an input is reached and read; two inputs that would take each other's files."""
    folders: dict[str, str] = {}
    for input_id, form in draft.inputs.items():
        loc: Loc = ("inputs", input_id)
        if (form.folder is None) == (form.url is None):
            found = "neither `folder` nor `url`" if form.folder is None else "both `folder` and `url`"
            draft.add((*loc, "url"), found, "a folder that files are dropped into, or a URL to ask")
        if form.folder is not None:
            _folder(draft, loc, form)
            if (other := folders.setdefault(form.folder, input_id)) != input_id:
                draft.add((*loc, "folder"), repr(form.folder), f"another folder than that of {other!r}")
        if form.url is not None:
            _url(draft, loc, form, form.url)
        for kind, keys in _OF_KIND.items():
            for key in keys if form.kind != kind else ():
                if key in _given(form):
                    draft.add((*loc, key), "a value", f"nothing with kind: {form.kind}", f"it is of {kind}")
        low, high = form.price_min_per_kwh, form.price_max_per_kwh
        if low is not None and high is not None and not low < high:
            draft.add((*loc, "price_max_per_kwh"), f"{high:g}", f"more than price_min_per_kwh, {low:g}")
        _terms(draft, loc, form)
        if (provider := draft.providers.get(input_id)) is not None:
            _provider(draft, loc, form, provider)


def _given(form: InputForm) -> set[str]:
    return {"import" if key == "import_" else key for key in form.model_fields_set}


def _folder(draft: Draft, loc: Loc, form: InputForm) -> None:
    for key in _OF_URL:
        if key in form.model_fields_set:
            draft.add((*loc, key), "a value", "nothing with `folder`: nobody is asked")


def _url(draft: Draft, loc: Loc, form: InputForm, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as it is looked up: no part of it is empty, or longer than 63
    except ValueError:
        host = port = None
        parts = urlsplit("")
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not host or port == 0 or not plain:
        allowed = "https://host/path, or http:// on this machine; other letters as %C3%A4"
        draft.add((*loc, "url"), repr(url), allowed)
        return
    if not _HEADER.fullmatch(form.auth_header):
        draft.add((*loc, "auth_header"), repr(form.auth_header), "the name of a header, such as X-Api-Key")
    if not (form.auth_scheme.isascii() and form.auth_scheme.isprintable()):
        draft.add((*loc, "auth_scheme"), repr(form.auth_scheme), "a word such as Bearer, or nothing")
    if parts.username is not None or parts.password is not None:
        draft.add(
            (*loc, "url"), "a user in it", "a token in `token_file` or `token_env`: this file is no secret"
        )
    if form.token_file is not None and form.token_env is not None:
        draft.add((*loc, "token_file"), "a second place for the token", "token_file or token_env")
    protection = protection_of(form)
    if parts.scheme == "http" and protection != "plain":
        why = "whoever is on the way could tell us any price or outage"
        draft.add((*loc, "url"), repr(url), "https, or protection: plain", why)
    if parts.scheme == "https" and protection == "plain":
        draft.add((*loc, "protection"), "plain, with https", "verified, or left out")
    has_token = form.token_file is not None or form.token_env is not None
    if parts.scheme == "http" and has_token and not is_loopback(host):
        draft.add((*loc, "url"), "http with a token", "https: a token is not sent in the open")
    if form.ca is not None and parts.scheme == "http":
        draft.add((*loc, "ca"), "a value", "nothing with http")
    if form.every_s is not None and form.every_s < 30.0:
        draft.add((*loc, "every_s"), f"{form.every_s:g} s", "30 s or more with `url`")


def _terms(draft: Draft, loc: Loc, form: InputForm) -> None:
    provider = draft.providers.get(loc[1]) if isinstance(loc[1], str) else None
    if form.kind != "price" or provider is None or SPOT not in provider.columns:
        return
    if form.import_ is None and form.export is None:
        allowed = "`import`, `export` or both: {} where the market price is that of the contract"
        draft.add((*loc, "import"), "nothing", allowed, f"{provider.provider} tells a market price")


def _provider(draft: Draft, loc: Loc, form: InputForm, provider: ProviderForm) -> None:
    if provider.kind != form.kind:
        draft.add((*loc, "kind"), form.kind, provider.kind, f"that is what {provider.provider} tells")
        return
    if provider.kind == "forecast":
        known = {f"load.{f}" for f in draft.feeders} | {f"pv.{p}" for p in draft.pv}
        for name in provider.columns:
            if name.removesuffix(".p10").removesuffix(".p90") not in known:
                draft.add(
                    (*loc, "provider"), f"{provider.provider}, which tells {name}", ", ".join(sorted(known))
                )
    for name, column in provider.columns.items():
        try:
            unit_factor(draft, name, column)
        except BadValue as why:
            wanted = f"a provider whose {name} is in a unit of {column_unit(draft, name) or 'ratios'}"
            draft.add((*loc, "provider"), f"{provider.provider}: {name} in {column.unit}", wanted, str(why))


def protection_of(form: InputForm) -> str:
    """What is said, or else TLS for everybody but this machine."""
    if form.protection is not None:
        return form.protection
    try:
        parts = urlsplit(form.url or "")
        here = is_loopback(parts.hostname or "")
    except ValueError:
        return "verified"
    return "plain" if parts.scheme == "http" and here else "verified"


def column_unit(draft: Draft, series: str) -> str:
    """Our unit of a series."""
    if series in _PRICES:
        return f"{'CUR' if draft.money is None else draft.money.currency}/kWh"
    return {GHI: "W/m2", AIR: "degC", CLOUD: ""}.get(series, "kW")


def unit_factor(draft: Draft, series: str, column: ProviderColumnForm) -> float:
    """From what is found to our unit. Raises BadValue where the two measure different things."""
    return 1.0 if column.unit is None else conversion_factor(column.unit, column_unit(draft, series))
