"""Device families: a file checked by itself, and what a site says of silence held against its families."""

from pathlib import Path

from ems.errors import ConfigError, Problem
from ems.family import Family
from ems.points import AssetKind
from ems.site_schema.checks_identity import built_identity, check_field
from ems.site_schema.checks_modbus import check_block
from ems.site_schema.checks_wire import check_registers, check_row
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.families import FOLDER, read_family, resolve, shipped_folder
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import FamilyForm, FamilyPointForm
from ems.site_schema.text import Document, Loc


def check_silence(draft: Draft) -> None:
    """What the site file says a device does in silence must be what its family is known to do."""
    for connection_id, family in draft.families.items():
        asset = draft.connections[connection_id].asset
        for name, known in family.silence.items():
            told = draft.authority.get(f"{asset}.{name}")
            if told is None or f"{asset}.{name}" not in {p.point for p in draft.points}:
                continue
            at = ("authority", f"{asset}.{name}", "silence")
            why = f"family {family.family}: {known.about}"
            if known.action is not None and told.silence.action is not known.action:
                draft.add((*at, "action"), repr(told.silence.action.value), known.action.value, why)
            if known.timeout_s is not None and told.silence.timeout_s != known.timeout_s:
                draft.add((*at, "timeout_s"), f"{told.silence.timeout_s:g} s", f"{known.timeout_s:g} s", why)


def check_family_file(path: Path) -> list[Problem]:
    """Everything that is wrong with a family file, whatever asset its points are of; empty: nothing."""
    return list(_checked(path)[0].problems)


def load_families(site_folder: Path | None = None) -> dict[str, Family]:
    """Every family by name: the shipped ones, and those beside a site file, which count before them.

    Raises
    ------
    ConfigError : with every problem of every file.
    """
    folders = [shipped_folder(), *([site_folder / FOLDER] if site_folder is not None else [])]
    out: dict[str, Family] = {}
    problems: list[Problem] = []
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            document, form = _checked(path)
            problems += document.problems
            if form is not None:
                out[form.family] = _family(form, folder == folders[0])
    if problems:
        raise ConfigError(problems)
    return dict(sorted(out.items()))


def _checked(path: Path) -> tuple[Document, FamilyForm | None]:
    document, form = read_family(path)
    if form is not None:
        for kind in form.assets:
            _check_rows(document, form, form.points, kind)
        _check_rows(document, form, form.channels, None)
        document.problems = list(dict.fromkeys(document.problems))
    return document, form


def _check_rows(
    document: Document, form: FamilyForm, rows: dict[str, FamilyPointForm], kind: AssetKind | None
) -> None:
    """The rows of a family as if they were on a device of a site, with every number it asks for as 1."""
    draft = Draft(document=Document(file=""), kinds={"asset": kind} if kind is not None else {})
    connection = ConnectionForm(protocol=form.protocol, poll_s=0.001, timeout_s=0.001, family=form.family)
    settings = {name: f"1.0 {ask.unit}".rstrip() for name, ask in form.asks.items()}
    section = "points" if kind is not None else "channels"
    for name, row in rows.items():
        spec = draft.spec(f"asset.{name}")
        named = (s for k in form.silence.values() for s in (k.timeout_point, k.value_point))
        beats = (form.watchdog_point, form.heartbeat_in, *named)
        if kind is not None and spec is None and name not in beats:
            continue
        loc: Loc = (section, name)
        draft.points.append(
            PlacedPoint(
                point=f"asset.{name}",
                asset="asset",
                name=name,
                spec=spec,
                form=resolve(row, settings),
                connection_id="device",
                connection=connection,
                map=form,
                document=document,
                loc=loc,
                kind=kind,
            )
        )
    for placed in draft.points:
        check_row(placed)
    check_registers(draft)
    if form.modbus is not None:
        check_block(document, ("modbus",), form.modbus, form.protocol)
    for name, field in form.identity.items() if draft.points else ():
        check_field(draft.points[0], name, field)


def _family(form: FamilyForm, is_shipped: bool) -> Family:
    return Family(
        name=form.family,
        device=form.device,
        maker=form.maker,
        protocol=form.protocol,
        identity=tuple(built_identity(form, form.protocol, None)),
        assets=tuple(form.assets),
        asks=tuple((n, f"{a.about}{f' [{a.unit}]' if a.unit else ''}") for n, a in form.asks.items()),
        channels=tuple(form.channels),
        is_shipped=is_shipped,
    )
