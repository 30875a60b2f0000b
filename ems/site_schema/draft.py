"""A site file as far as its form is right: what is broken is left out, the checks look at the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ems.points import POINTS, AssetKind, PointSpec, split_point_id
from ems.site_schema.forms import (
    ConnectionForm,
    DeliveryForm,
    DispatchForm,
    FormingForm,
    HierarchyForm,
    LocationForm,
    MaintenanceForm,
    MoneyForm,
    OutageForm,
    ReserveForm,
    SetpointForm,
    SiteForm,
    SourcesForm,
    WeatherForm,
)
from ems.site_schema.forms_assets import BessForm, FeederForm, GensetForm, GridForm, PvForm
from ems.site_schema.forms_base import Form
from ems.site_schema.forms_control import ControlForm
from ems.site_schema.forms_historian import HistorianForm
from ems.site_schema.forms_inputs import InputForm, ProviderForm
from ems.site_schema.forms_links import DatabaseForm, ExportForm
from ems.site_schema.forms_loads import DeferrableForm
from ems.site_schema.forms_maps import FamilyForm, MapForm, PointForm
from ems.site_schema.forms_mqtt import TelemetryForm
from ems.site_schema.forms_northbound import NorthboundForm
from ems.site_schema.forms_tariff import TariffForm
from ems.site_schema.forms_utility import UtilityServerForm
from ems.site_schema.text import Document, Key, Loc, Plain, read_document, show_value
from ems.site_schema.validating import validate

_ITEMS: Mapping[str, type[Form]] = {
    "bess": BessForm,
    "gensets": GensetForm,
    "pv": PvForm,
    "feeders": FeederForm,
    "authority": SetpointForm,
    "connections": ConnectionForm,
    "telemetry": TelemetryForm,
    "databases": DatabaseForm,
    "exports": ExportForm,
    "inputs": InputForm,
    "utility": UtilityServerForm,
    "outages": OutageForm,
    "maintenance": MaintenanceForm,
    "deliveries": DeliveryForm,
    "deferrables": DeferrableForm,
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
    kind: AssetKind | None = None  # of the asset; None: no such asset


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
    databases: dict[str, DatabaseForm] = field(default_factory=dict)
    exports: dict[str, ExportForm] = field(default_factory=dict)
    inputs: dict[str, InputForm] = field(default_factory=dict)
    northbound: NorthboundForm | None = None
    utility: dict[str, UtilityServerForm] = field(default_factory=dict)
    historian: HistorianForm | None = None
    kinds: dict[str, AssetKind] = field(default_factory=dict)  # also of assets whose form is broken
    complete: frozenset[str] = frozenset()  # sections without any error of form
    points: list[PlacedPoint] = field(default_factory=list)
    broken_points: set[str] = field(default_factory=set)  # mapped, but not readably
    unread_connections: set[str] = field(default_factory=set)
    map_documents: dict[str, Document] = field(default_factory=dict)  # files beside the site file, by name
    families: dict[str, FamilyForm] = field(default_factory=dict)  # by connection
    providers: dict[str, ProviderForm] = field(default_factory=dict)  # by input
    shipped_documents: dict[str, Document] = field(default_factory=dict)  # families of the package, by name

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


def begin_draft(path: Path) -> Draft:
    """Read the site file alone; all problems of its form are in its document."""
    draft = Draft(document=read_document(path))
    data = draft.document.data
    if data is None:
        return draft
    if not isinstance(data, dict):
        draft.add((), show_value(data), "a mapping of keys to values")
        return draft
    _sections(draft, data)
    _kinds(draft, data)
    return draft


def _sections(draft: Draft, data: dict[str, Plain]) -> None:
    context = {"currency": _currency(data)}
    bad = validate(SiteForm, data, draft.document, context)
    for name, info in SiteForm.model_fields.items():
        if name == "schema_version":
            continue
        if name in _ITEMS:
            items = {} if (name,) in bad else _items(data.get(name))
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
