"""A site file as far as its form is right: what is broken is left out, the checks look at the rest."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from ems.points import POINTS, AssetKind, PointSpec, split_point_id
from ems.site_schema.forms import (
    ConnectionForm,
    DeliveryForm,
    DispatchForm,
    FormingForm,
    HierarchyForm,
    LocationForm,
    MaintenanceForm,
    MapForm,
    MoneyForm,
    OutageForm,
    PointForm,
    ReserveForm,
    SetpointForm,
    SiteForm,
    SourcesForm,
    WeatherForm,
)
from ems.site_schema.forms_assets import BessForm, FeederForm, GensetForm, GridForm, PvForm
from ems.site_schema.forms_base import IN_WORDS, Form
from ems.site_schema.forms_control import ControlForm
from ems.site_schema.forms_loads import DeferrableForm
from ems.site_schema.forms_mqtt import TelemetryForm
from ems.site_schema.forms_tariff import TariffForm
from ems.site_schema.text import Document, Key, Loc, Plain, read_document, show_value

_ITEMS: Mapping[str, type[Form]] = {
    "bess": BessForm,
    "gensets": GensetForm,
    "pv": PvForm,
    "feeders": FeederForm,
    "authority": SetpointForm,
    "connections": ConnectionForm,
    "telemetry": TelemetryForm,
    "outages": OutageForm,
    "maintenance": MaintenanceForm,
    "deliveries": DeliveryForm,
    "deferrables": DeferrableForm,
}
_ALLOWED = {
    "missing": "this key is required",
    "bool_type": "true or false",
    "string_type": "a text",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a mapping of names to entries",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "string_too_short": "a text that is not empty",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "enum": "{expected}",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPoint:
    """One point of one device: what it is, and where it was written down."""

    point: str
    asset: str
    name: str
    spec: PointSpec | None  # None: no such point in the vocabulary
    form: PointForm
    connection_id: str
    connection: ConnectionForm
    map: MapForm
    document: Document
    loc: Loc


@dataclass(slots=True)
class Draft:
    """Every section of a site file that could be read."""

    document: Document
    name: str | None = None
    hierarchy: HierarchyForm | None = None
    location: LocationForm | None = None
    weather: WeatherForm | None = None
    money: MoneyForm | None = None
    grid: GridForm | None = None
    bess: dict[str, BessForm] = field(default_factory=dict)
    gensets: dict[str, GensetForm] = field(default_factory=dict)
    pv: dict[str, PvForm] = field(default_factory=dict)
    feeders: dict[str, FeederForm] = field(default_factory=dict)
    tariff: TariffForm | None = None
    forming: FormingForm | None = None
    reserve: ReserveForm | None = None
    sources: SourcesForm | None = None
    dispatch: DispatchForm | None = None
    authority: dict[str, SetpointForm] = field(default_factory=dict)
    control: ControlForm | None = None
    outages: dict[int, OutageForm] = field(default_factory=dict)  # by place in the file
    maintenance: dict[int, MaintenanceForm] = field(default_factory=dict)  # by place in the file
    deferrables: dict[str, DeferrableForm] = field(default_factory=dict)
    deliveries: dict[int, DeliveryForm] = field(default_factory=dict)  # by place in the file
    connections: dict[str, ConnectionForm] = field(default_factory=dict)
    telemetry: dict[str, TelemetryForm] = field(default_factory=dict)
    kinds: dict[str, AssetKind] = field(default_factory=dict)  # also of assets whose form is broken
    complete: frozenset[str] = frozenset()  # sections without any error of form
    points: list[PlacedPoint] = field(default_factory=list)
    broken_points: set[str] = field(default_factory=set)  # mapped, but not readably
    unread_connections: set[str] = field(default_factory=set)
    map_documents: dict[str, Document] = field(default_factory=dict)

    def add(self, loc: Sequence[Key], found: str, allowed: str, message: str = "") -> None:
        """Note a problem in the site file itself."""
        self.document.add(loc, found, allowed, message)

    def spec(self, point: str) -> PointSpec | None:
        """What the vocabulary says of a point, or None."""
        asset, name = split_point_id(point)
        kind = self.kinds.get(asset)
        return next((s for s in POINTS[kind] if s.name == name), None) if kind is not None else None

    def of_kind(self, kind: AssetKind) -> Iterator[str]:
        """Asset ids of a kind."""
        return (asset for asset, k in self.kinds.items() if k is kind)


def read_draft(path: Path) -> Draft:
    """Read the site file and every map it names; all problems of form are in the documents."""
    draft = Draft(document=read_document(path))
    data = draft.document.data
    if data is None:
        return draft
    if not isinstance(data, dict):
        draft.add((), show_value(data), "a mapping of keys to values")
        return draft
    _sections(draft, data)
    _kinds(draft, data)
    for connection_id, connection in draft.connections.items():
        _place_points(draft, path.parent, connection_id, connection)
    return draft


def _sections(draft: Draft, data: dict[str, Plain]) -> None:
    context = {"currency": _currency(data)}
    bad = _validate(SiteForm, data, draft.document, context)
    for name, info in SiteForm.model_fields.items():
        if name == "schema_version":
            continue
        if name in _ITEMS:
            items = _items(data.get(name))
            good = {k: v for k, v in items.items() if (name, k) not in {b[:2] for b in bad}}
            adapter: TypeAdapter[Any] = TypeAdapter(_ITEMS[name])
            setattr(draft, name, {k: adapter.validate_python(v, context=context) for k, v in good.items()})
        elif name in data and not any(b[:1] == (name,) for b in bad):
            whole: TypeAdapter[Any] = TypeAdapter(info.annotation)  # type: ignore[arg-type]
            setattr(draft, name, whole.validate_python(data[name], context=context))
    draft.complete = frozenset(SiteForm.model_fields) - {str(b[0]) for b in bad if b}


def _items(section: Plain) -> dict[Any, Plain]:
    if isinstance(section, list):
        return dict(enumerate(section))
    return section if isinstance(section, dict) else {}


def _currency(data: dict[str, Plain]) -> str:
    money = data.get("money")
    found = money.get("currency") if isinstance(money, dict) else None
    return found if isinstance(found, str) else "CUR"


def _kinds(draft: Draft, data: dict[str, Plain]) -> None:
    """Asset ids by kind, also where the asset itself could not be read; one id twice is a problem."""
    seen: dict[str, Loc] = {}
    for section, kind in (
        ("grid", AssetKind.GRID),
        ("bess", AssetKind.BESS),
        ("gensets", AssetKind.GENSET),
        ("pv", AssetKind.PV),
        ("feeders", AssetKind.FEEDER),
    ):
        found = data.get(section)
        if not isinstance(found, dict):
            continue
        ids = [found.get("id")] if section == "grid" else list(found)
        for asset in ids:
            if not isinstance(asset, str):
                continue
            loc: Loc = ("grid", "id") if section == "grid" else (section, asset)
            if asset in seen or asset == "bus":
                first = f"line {draft.document.line(seen[asset])}" if asset in seen else "the bus of the site"
                draft.add(loc, f"the id {asset!r} again", "each id once", f"already the name of {first}")
                continue
            seen[asset] = loc
            draft.kinds[asset] = kind
    draft.kinds["bus"] = AssetKind.BUS


def _place_points(draft: Draft, folder: Path, connection_id: str, connection: ConnectionForm) -> None:
    loc = ("connections", connection_id, "map")
    document = draft.map_documents.get(connection.map)
    if document is None:
        target = folder / connection.map
        document = read_document(target)
        draft.map_documents[connection.map] = document
        if document.data is not None and not isinstance(document.data, dict):
            document.add((), show_value(document.data), "a mapping of keys to values")
    if not isinstance(document.data, dict):
        draft.add(loc, repr(connection.map), "a readable point map")
        draft.unread_connections.add(connection_id)
        return
    bad = _validate(MapForm, document.data, document, {})
    raw = document.data.get("points")
    if not isinstance(raw, dict) or any(len(b) == 1 for b in bad):
        draft.unread_connections.add(connection_id)
        return
    bad_points = {b[1] for b in bad if len(b) > 1 and b[0] == "points"}
    form = MapForm.model_validate(
        {**document.data, "points": {k: v for k, v in raw.items() if k not in bad_points}}
        if len(bad_points) < len(raw)
        else {
            **document.data,
            "points": {"x": {"address": 0, "type": "u16", "range": [0, 1], "age_s_max": 1}},
        }
    )
    for key in raw:
        asset, name = _full_name(str(key), connection)
        point = f"{asset}.{name}"
        if key in bad_points:
            draft.broken_points.add(point)
            continue
        draft.points.append(
            PlacedPoint(
                point=point,
                asset=asset,
                name=name,
                spec=draft.spec(point),
                form=form.points[str(key)],
                connection_id=connection_id,
                connection=connection,
                map=form,
                document=document,
                loc=("points", str(key)),
            )
        )


def _full_name(key: str, connection: ConnectionForm) -> tuple[str, str]:
    if "." in key:
        return split_point_id(key)
    return (connection.asset if connection.asset is not None else "?"), key


def _validate(model: type[Form], data: Any, document: Document, context: dict[str, str]) -> list[Loc]:
    """Note every error of form in `document`; return where they are."""
    try:
        model.model_validate(data, context=context)
    except ValidationError as error:
        locs = []
        for one in error.errors(include_url=False):
            loc = tuple(p for p in one["loc"] if p != "[key]")
            locs.append(loc)
            _note(model, document, loc, one)
        return locs
    return []


def _note(model: type[Form], document: Document, loc: Loc, one: Any) -> None:
    context = one.get("ctx", {})
    if one["type"] == "ems":
        document.add(loc, show_value(one["input"]), context["allowed"], context["note"])
    elif one["type"] == "extra_forbidden":
        known = keys_at(model, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), known, 1, 0.65)
        hint = f"did you mean {close[0]!r}?" if close else ""
        document.add(loc, "an unknown key", f"one of {', '.join(known)}", hint)
    elif one["type"] == "missing":
        document.add(loc, "nothing", _ALLOWED["missing"])
    else:
        pattern = IN_WORDS.get(context.get("pattern", ""))
        allowed = pattern if pattern is not None else _ALLOWED.get(one["type"], one["msg"]).format(**context)
        document.add(loc, show_value(one["input"]), allowed, _trap(one["type"], one["input"]))


def _trap(kind: str, value: object) -> str:
    if (
        kind == "bool_type"
        and isinstance(value, str)
        and value.lower() in ("yes", "no", "on", "off", "y", "n")
    ):
        return f"in YAML 1.2 {value} is a text"
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes if a text is meant"
    return ""


def keys_at(model: type[Form], loc: Sequence[Key]) -> list[str]:
    """Keys that the form at a place knows, in the order of the form."""
    annotation: Any = model
    for part in loc:
        annotation = _child(_bare(annotation), part)
    bare = _bare(annotation)
    if not (isinstance(bare, type) and issubclass(bare, Form)):
        return []
    return [info.alias if info.alias is not None else name for name, info in bare.model_fields.items()]


def _bare(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bare(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _bare(next(a for a in get_args(annotation) if a is not type(None)))
    return annotation


def _child(annotation: Any, part: Key) -> Any:
    origin = get_origin(annotation)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is list:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Form):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
    return object
