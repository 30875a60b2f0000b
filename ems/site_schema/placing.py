"""Which point of the plant each row of a map is: maps and families read and placed on connections."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ems.phases import PHASE_POINTS
from ems.points import POINTS, split_point_id
from ems.site_schema.checks_phases import declared_phases
from ems.site_schema.draft import Draft, PlacedPoint, begin_draft
from ems.site_schema.families import (
    FOLDER,
    Overlaid,
    family_file,
    known_families,
    read_family,
    resolve,
    settings_of,
)
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import FamilyForm, FamilyPointForm, MapForm, PointForm
from ems.site_schema.providers import place_providers
from ems.site_schema.text import Document, Loc, read_document, show_value
from ems.site_schema.validating import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a map or family before anything of the site file is laid over it."""

    key: str  # short or full name of the point
    form: PointForm
    loc: Loc


def read_draft(path: Path) -> Draft:
    """Read the site file and every map and family it names; all problems of form are in the documents."""
    draft = begin_draft(path)
    for connection_id, connection in list(draft.connections.items()):
        at = ("connections", connection_id)
        if (connection.map is None) == (connection.family is None):
            both = "both `map` and `family`" if connection.map is not None else "neither `map` nor `family`"
            draft.add((*at, "map"), both, "a point map file, or a device family")
            draft.unread_connections.add(connection_id)
        elif connection.family is not None:
            _place_family(draft, path.parent, connection_id, connection.family)
        else:
            _place_map(draft, path.parent, connection_id)
    place_providers(draft, path.parent)
    return draft


def _place_map(draft: Draft, folder: Path, connection_id: str) -> None:
    connection = draft.connections[connection_id]
    assert connection.map is not None
    document = draft.map_documents.get(connection.map)
    if document is None:
        document = read_document(folder / connection.map)
        draft.map_documents[connection.map] = document
        if document.data is not None and not isinstance(document.data, dict):
            document.add((), show_value(document.data), "a mapping of keys to values")
    if not isinstance(document.data, dict):
        draft.add(("connections", connection_id, "map"), repr(connection.map), "a readable point map")
        draft.unread_connections.add(connection_id)
        return
    bad = validate(MapForm, document.data, document, {})
    raw = document.data.get("points")
    if not isinstance(raw, dict) or any(len(b) == 1 for b in bad):
        draft.unread_connections.add(connection_id)
        return
    bad_points = {b[1] for b in bad if len(b) > 1 and b[0] == "points"}
    good = {k: v for k, v in raw.items() if k not in bad_points}
    stand_in = {"x": {"address": 0, "type": "u16", "range": [0, 1], "age_s_max": 1}}
    blocks = {b[0] for b in bad}  # those with a problem inside are left out whole
    rest = {k: v for k, v in document.data.items() if k not in blocks}
    form = MapForm.model_validate({**rest, "points": good or stand_in})
    for key in raw:
        if key in bad_points:
            draft.broken_points.add(".".join(_full_name(str(key), connection)))
    for name in connection.settings:
        at = ("connections", connection_id, "settings", name)
        draft.add(at, "a setting", "only with `family`", "a map holds its numbers itself")
    rows = [
        Row(key=str(k), form=form.points[str(k)], loc=("points", str(k))) for k in raw if k not in bad_points
    ]
    _place_rows(draft, connection_id, form, document, rows)


def _place_family(draft: Draft, folder: Path, connection_id: str, name: str) -> None:
    path, is_own = family_file(name, folder)
    at = ("connections", connection_id)
    if not path.is_file():
        known = known_families(folder)
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else "`ems families` lists them"
        draft.add((*at, "family"), repr(name), f"{FOLDER}/{name}.yaml here, or a shipped family", hint)
        draft.unread_connections.add(connection_id)
        return
    document, form = read_family(path)
    # read once for each device: what is wrong with it is told once all the same
    (draft.map_documents if is_own else draft.shipped_documents)[f"{FOLDER}/{name}.yaml"] = document
    if form is None:
        draft.unread_connections.add(connection_id)
        return
    connection = draft.connections[connection_id]
    if form.points and connection.asset is None:
        draft.add((*at, "asset"), "nothing", f"the asset that the points of family {name} belong to")
        draft.unread_connections.add(connection_id)
        return
    settings = settings_of(draft.document, connection_id, connection, form)
    if settings is None:
        draft.unread_connections.add(connection_id)
        return
    draft.connections[connection_id] = _with_heartbeats(connection, form)
    draft.families[connection_id] = form
    rows = list(_family_rows(draft, connection_id, form))
    _place_rows(draft, connection_id, form, document, rows, settings)


def _with_heartbeats(connection: ConnectionForm, family: FamilyForm) -> ConnectionForm:
    """The heartbeats a family knows of are used unless the site file says otherwise."""
    told: dict[str, Any] = {}
    for key in ("watchdog_point", "heartbeat_in"):
        own = getattr(family, key)
        if own is not None and getattr(connection, key) is None and own not in connection.leave_out:
            told[key] = f"{connection.asset}.{own}"
    return connection.model_copy(update=told)


def _family_rows(draft: Draft, connection_id: str, family: FamilyForm) -> Iterator[Row]:
    """Points of a family that its asset has, and channels that the site file gives a point."""
    connection = draft.connections[connection_id]
    kind = None if connection.asset is None else draft.kinds.get(connection.asset)
    wanted = {s.name for s in POINTS[kind]} if kind is not None else set(family.points)
    if connection.asset not in declared_phases(draft):
        wanted -= PHASE_POINTS  # nobody asks for them, and a site that does not hold phases may not have them
    wanted |= {n.partition(".")[2] for n in (connection.watchdog_point, connection.heartbeat_in) if n}
    for setpoint in draft.authority.values():
        for told in (setpoint.silence.timeout_point, setpoint.silence.value_point):
            if told is not None and told.startswith(f"{connection.asset}."):
                wanted.add(split_point_id(told)[1])
    for name, form in family.points.items():
        if name in wanted:
            yield Row(key=name, form=form, loc=("points", name))
    for key, change in connection.points.items():
        if change.from_ is None:
            continue
        if change.from_ in family.channels:
            yield Row(key=key, form=family.channels[change.from_], loc=("channels", change.from_))
        else:
            at = ("connections", connection_id, "points", key, "from")
            channels = ", ".join(family.channels)
            draft.add(at, repr(change.from_), f"one of {channels}" if channels else "nothing: no channels")


def _place_rows(
    draft: Draft,
    connection_id: str,
    form: MapForm,
    document: Document,
    rows: list[Row],
    settings: dict[str, str] | None = None,
) -> None:
    connection = draft.connections[connection_id]
    at = ("connections", connection_id)
    known = [r.key for r in rows]
    for key in connection.leave_out:
        if key not in known:
            draft.add((*at, "leave_out"), repr(key), f"one of {', '.join(known)}")
    for key, change in connection.points.items():
        if change.from_ is None and key not in known:
            hint = "`from` says which channel it is" if isinstance(form, FamilyForm) and form.channels else ""
            draft.add((*at, "points", key), "no point of its map", f"one of {', '.join(known)}", hint)
        elif change.from_ is not None and not isinstance(form, FamilyForm):
            draft.add((*at, "points", key, "from"), repr(change.from_), "only with `family`")
    for row in rows:
        if row.key in connection.leave_out:
            continue
        asset, name = _full_name(row.key, connection)
        changed, where = _changed(draft, connection_id, document, row)
        placed_form = (
            resolve(changed, settings if settings is not None else {})
            if isinstance(changed, FamilyPointForm)
            else changed
        )
        point = f"{asset}.{name}"
        draft.points.append(
            PlacedPoint(
                point=point,
                asset=asset,
                name=name,
                spec=draft.spec(point),
                form=placed_form,
                connection_id=connection_id,
                connection=connection,
                map=form,
                document=where,
                loc=row.loc,
                kind=draft.kinds.get(asset),
            )
        )


def _changed(draft: Draft, connection_id: str, document: Document, row: Row) -> tuple[PointForm, Document]:
    """A row with what the site file says of it, and the document that problems of it are noted in."""
    change = draft.connections[connection_id].points.get(row.key)
    if change is None:
        return row.form, document
    told = change.model_dump(exclude_unset=True, exclude={"from_"})
    before = row.form.model_dump(exclude_unset=True)
    if "range" in told:
        before.pop("range_times", None)
    if "scale" in told or "unit" in told:
        before.pop("times", None)
        before.pop("per", None)
    where = Overlaid(
        file=document.file,
        data=document.data,
        lines=document.lines,
        problems=document.problems,
        site=draft.document,
        own=row.loc,
        there=("connections", connection_id, "points", row.key),
        keys=frozenset(told),
    )
    return type(row.form).model_validate({**before, **told}), where


def _full_name(key: str, connection: ConnectionForm) -> tuple[str, str]:
    if "." in key:
        return split_point_id(key)
    return (connection.asset if connection.asset is not None else "?"), key
