"""The site looked at from the edge: point names, orders and limits worked out once at start."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from dispatch.authority.layout import ControlLayout, control_layout
from dispatch.observing.plausible_range import default_ranges
from ems.assets import BessParams, FeederParams, GensetParams, PvParams
from ems.capability import PqCapability
from ems.phases import PhaseParams
from ems.points import LIVE_LIMITS, AssetKind, point_id
from ems.reactive import ReactiveControl
from ems.site import Connection, PointMap, SetpointAuthority, Site

DEFAULT_AGE_S_MAX = 30.0  # for points that no connection maps
NEEDED = {  # readings a setpoint depends on, by kind of asset
    AssetKind.BESS: ("soc", "p_charge_kw_max", "p_discharge_kw_max", "state"),
    AssetKind.GENSET: ("state",),
    AssetKind.FEEDER: ("closed",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """How our heartbeat is written to one device."""

    period_s: float
    wrap: int  # the counter starts again at 0 here


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatIn:
    """A device's own heartbeat: `points` are worth nothing when `point` has stood still for `still_s_max`."""

    device: str
    point: str
    still_s_max: float
    points: tuple[str, ...]


def _watchdog(connection: Connection) -> Watchdog:
    high = next((m.high for m in connection.points if m.point == connection.watchdog_point), 65535.0)
    return Watchdog(period_s=connection.watchdog_period_s, wrap=int(min(high, 65535.0)) + 1)


def _heartbeat_in(connection: Connection) -> HeartbeatIn:
    assert connection.heartbeat_in is not None
    return HeartbeatIn(
        device=connection.id,
        point=connection.heartbeat_in,
        still_s_max=connection.heartbeat_in_s_max,
        points=tuple(m.point for m in connection.points if m.point != connection.heartbeat_in),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Look-ups derived from a Site."""

    site: Site
    zone: ZoneInfo
    kinds: Mapping[str, AssetKind]
    bess: Mapping[str, BessParams]
    gensets: Mapping[str, GensetParams]  # in order of start priority, as strong as they may be now
    nameplate_kw: Mapping[str, float]  # of gensets, whatever limits them now
    pv: Mapping[str, PvParams]
    feeders: Mapping[str, FeederParams]
    shed_order: tuple[str, ...]  # feeders with a breaker the edge may open, least critical first
    age_s_max: Mapping[str, float]
    range_of: Mapping[str, tuple[float, float]]
    rate_of: Mapping[str, float]  # point -> most it can move in a second, where a map says so
    stamped: frozenset[str]  # points whose stamp is the moment the device took the sample
    setpoints: Mapping[str, SetpointAuthority]
    watchdogs: Mapping[str, Watchdog]  # by the point that is written
    heartbeats_in: tuple[HeartbeatIn, ...]
    p: Mapping[str, str]  # asset id -> its p_kw point
    state: Mapping[str, str]  # asset id -> its state point
    told_silence: tuple[str, ...]  # setpoints whose device tells what it does in silence
    metered: tuple[str, ...]  # assets whose powers must add up: sources, storage, grid, feeders
    written_assets: tuple[str, ...]  # assets with a setpoint the edge may write
    setpoint_of: Mapping[tuple[str, str], str]  # (asset id, name) -> point, only where the edge may write
    reads: Mapping[str, tuple[str, ...]]  # asset id -> its read points
    needed: Mapping[str, tuple[str, ...]]  # asset id -> points its setpoints depend on
    devices: Mapping[str, tuple[str, ...]]  # connection id (without connections: asset id) -> its read points
    served: Mapping[str, frozenset[str]]  # device -> assets it reads or writes
    live_limits: tuple[str, ...]  # points of limits that are told beside those of a BMS
    phased: Mapping[str, PhaseParams]  # assets whose phases are read, and how they are held
    reactive: Mapping[str, ReactiveControl]  # converters whose reactive setpoint the edge writes
    reactive_kva: Mapping[str, float]  # and their rating
    capability: Mapping[str, PqCapability]  # converters whose maker's P-Q polygon is known
    pv_ac_kw: float
    poi_bias_kw: float  # distance kept from both POI caps
    control: ControlLayout
    device_of: Mapping[str, str]  # point -> connection, of mapped points
    poll_s: Mapping[str, float]  # asset id -> longest time between two readings of it, where mapped
    writes_per_day: Mapping[str, int]  # written point -> its daily budget, where its register wears out
    step_of: Mapping[str, float]  # written point -> one count of its register, where it holds counts

    def device(self, point: str) -> str:
        """The device that holds a point: its connection, or its asset where no map says."""
        return self.device_of.get(point, point.partition(".")[0])

    @property
    def genset_order(self) -> tuple[str, ...]:
        """Gensets, first to start first."""
        return tuple(self.gensets)


def _tells(authority: SetpointAuthority) -> bool:
    behaviour = authority.safety.behaviour
    return behaviour.timeout_point is not None or behaviour.value_point is not None


def _counts(m: PointMap) -> bool:
    """Whether its register holds whole counts, and zero among them."""
    return m.data_type.lower() not in ("f32", "f64", "float", "double") and m.offset == 0.0


def _genset_order(site: Site) -> dict[str, GensetParams]:
    by_id = {g.id: g for g in site.gensets}
    ranked = [i for i in site.forming.islanded if i in by_id]
    return {i: by_id[i] for i in [*ranked, *(i for i in by_id if i not in ranked)]}


def _devices(site: Site, reads: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What is read over each connection; a site without connections has a device for each asset."""
    if not site.connections:
        return dict(reads)
    read = {c.id: tuple(m.point for m in c.points if not m.writable) for c in site.connections}
    return {device: points for device, points in read.items() if points}


def _reactive(
    site: Site, setpoint_of: Mapping[tuple[str, str], str]
) -> dict[str, tuple[ReactiveControl | None, float]]:
    own = {b.id: (b.pcs.reactive, b.pcs.s_kva) for b in site.bess}
    own |= {p.id: (p.reactive, p.p_ac_kw if p.s_kva is None else p.s_kva) for p in site.pv}
    return {a: x for a, x in own.items() if x[0] is not None and (a, x[0].takes) in setpoint_of}


def _capability(site: Site) -> dict[str, PqCapability]:
    own = {b.id: b.pcs.capability for b in site.bess} | {p.id: p.capability for p in site.pv}
    return {a: x for a, x in own.items() if x is not None}


def _poll_s(site: Site) -> dict[str, float]:
    out: dict[str, float] = {}
    for c in site.connections:
        for asset in {m.point.partition(".")[0] for m in c.points}:
            out[asset] = max(c.poll_s, out.get(asset, 0.0))
    return out


def _served(site: Site, devices: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    points = {c.id: [m.point for m in c.points] for c in site.connections} if site.connections else devices
    return {d: frozenset(p.partition(".")[0] for p in points[d]) for d in devices}


def layout_of(site: Site) -> Layout:
    """Work out every look-up of a site."""
    kinds = site.asset_kinds()
    maps = [m for c in site.connections for m in c.points]
    reads = {a: tuple(point_id(a, n) for n in names) for a, names in site.read_names().items()}
    devices = _devices(site, reads)
    writable = {p for p, a in site.authority.setpoints.items() if a.writer == "edge"}
    setpoint_of = {}
    for point in writable:
        asset, _, name = point.partition(".")
        setpoint_of[(asset, name)] = point
    reactive = _reactive(site, setpoint_of)
    shed = [f for f in site.feeders if f.has_breaker and (f.id, "close_request") in setpoint_of]
    return Layout(
        site=site,
        zone=ZoneInfo(site.tariff.timezone),
        kinds=kinds,
        bess={b.id: b for b in site.bess},
        gensets=_genset_order(site),
        nameplate_kw={g.id: g.p_rated_kw for g in site.gensets},
        pv={p.id: p for p in site.pv},
        feeders={f.id: f for f in site.feeders},
        shed_order=tuple(f.id for f in sorted(shed, key=lambda f: (-f.tier, f.voll_per_kwh))),
        age_s_max={m.point: m.age_s_max for m in maps},
        range_of={**default_ranges(site), **{m.point: (m.low, m.high) for m in maps}},
        rate_of={m.point: m.rate_per_s_max for m in maps if m.rate_per_s_max is not None},
        stamped=frozenset(m.point for c in site.connections if c.stamps_sampled for m in c.points),
        setpoints={p: a for p, a in site.authority.setpoints.items() if p in writable},
        watchdogs={c.watchdog_point: _watchdog(c) for c in site.connections if c.watchdog_point is not None},
        heartbeats_in=tuple(_heartbeat_in(c) for c in site.connections if c.heartbeat_in is not None),
        p={a: point_id(a, "p_kw") for a in kinds},
        state={a: point_id(a, "state") for a in kinds},
        told_silence=tuple(p for p, a in site.authority.setpoints.items() if p in writable and _tells(a)),
        metered=tuple(a for a, k in kinds.items() if k is not AssetKind.BUS),
        written_assets=tuple(dict.fromkeys(a for a, _ in setpoint_of)),
        setpoint_of=setpoint_of,
        reads=reads,
        needed={a: tuple(point_id(a, n) for n in NEEDED.get(k, ())) for a, k in kinds.items()},
        devices=devices,
        served=_served(site, devices),
        live_limits=tuple(p for own in reads.values() for p in own if p.partition(".")[2] in LIVE_LIMITS),
        phased=site.phased(),
        reactive={a: r for a, (r, _) in reactive.items() if r is not None},
        reactive_kva={a: s_kva for a, (r, s_kva) in reactive.items() if r is not None},
        capability=_capability(site),
        pv_ac_kw=sum(p.p_ac_kw for p in site.pv),
        poi_bias_kw=site.grid.poi_bias_kw,
        device_of={m.point: c.id for c in site.connections for m in c.points},
        poll_s=_poll_s(site),
        writes_per_day={m.point: m.writes_per_day for m in maps if m.writes_per_day is not None},
        step_of={m.point: abs(m.scale) for m in maps if m.writable and _counts(m)},
        control=control_layout(site),
    )
