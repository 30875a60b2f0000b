"""What authority looks up at a site: devices, their setpoints, their selectors, every input it watches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.points import point_id
from ems.site import Site

SITE_SELECTOR = point_id("bus", "remote")
STOP_CIRCUIT = point_id("bus", "emergency_stop")
CAP_WATCHDOG_S = 60.0  # of a cap read at the POI that has no entry in `control.limits`
CAP_ON_LOSS_KW = {LimitKind.EXPORT: 0.0}  # ... and its value on loss; None, so on import: the last one told
CONTRACT_CAPS = ((LimitKind.IMPORT, "p_import_kw_max"), (LimitKind.EXPORT, "p_export_kw_max"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLayout:
    """Look-ups of authority, worked out once at start."""

    params: ControlParams
    points_of: Mapping[str, tuple[str, ...]]  # device -> its setpoints, only those the edge may write
    selectors: Mapping[str, str]  # device -> its local/remote selector, if it has one
    inputs: tuple[str, ...]  # every point authority watches
    mapped: frozenset[str]  # those of them that a connection maps: no good reading is a fault
    ratings_kw: Mapping[LimitKind, float]  # what each kind of limit is a share of
    shares: Mapping[LimitKind, Mapping[str, float]]  # setpoint -> its share of a common cap
    caps: Mapping[LimitKind, str] = field(default_factory=dict)  # caps read at the POI that no entry names

    @property
    def limits(self) -> tuple[UtilityLimit, ...]:
        """All that others tell: the entries of the site file, then the caps that no entry names.

        A cap without an entry is watched as any other. Nobody is harmed by no export; import that a lost
        point would end is somebody's light, so there the last word holds.
        """
        unnamed = (
            UtilityLimit(id=p, kind=k, watchdog_s=CAP_WATCHDOG_S, on_loss_kw=CAP_ON_LOSS_KW.get(k), point=p)
            for k, p in self.caps.items()
        )
        return (*self.params.limits, *unnamed)

    def known(self, subject: str) -> bool:
        """Whether authority may name it: an interlock or its bypass, a limit, a kind of cap, or one side of
        a setpoint.
        """
        ids = {i.id for i in self.params.interlocks}
        named = ids | {f"interlock.{i}" for i in ids} | {x.id for x in self.limits}
        point, _, side = subject.rpartition(".")
        sides = side in ("low", "high") and any(point in points for points in self.points_of.values())
        return subject in named or subject in {str(k) for k in LimitKind} or sides


def control_layout(site: Site) -> ControlLayout:
    """Work out authority's look-ups of a site."""
    params = site.control
    writable = sorted(p for p, a in site.authority.setpoints.items() if a.writer == "edge")
    points_of: dict[str, tuple[str, ...]] = {}
    for point in writable:
        device = point.partition(".")[0]
        points_of[device] = (*points_of.get(device, ()), point)
    named = {x.point for x in params.limits}
    grid = site.grid.id
    caps = {k: p for k, n in CONTRACT_CAPS if (p := point_id(grid, n)) not in named}
    selectors = {d: point_id(d, "remote") for d in points_of if d != grid}
    watched = [SITE_SELECTOR, STOP_CIRCUIT, *selectors.values(), *caps.values()]
    watched += [i.point for i in params.interlocks]
    for limit in params.limits:
        watched += [p for p in (limit.point, limit.heartbeat) if p is not None]
        watched += [c.point for c in limit.contacts]
    mapped = {m.point for c in site.connections for m in c.points}
    return ControlLayout(
        params=params,
        points_of=points_of,
        selectors=selectors,
        inputs=tuple(dict.fromkeys(watched)),
        mapped=frozenset(mapped.intersection(watched)),
        ratings_kw=_ratings_kw(site),
        shares=_shares(site, frozenset(writable)),
        caps=caps,
    )


def _ratings_kw(site: Site) -> dict[LimitKind, float]:
    return {
        LimitKind.IMPORT: site.grid.p_import_kw_max,
        LimitKind.EXPORT: site.grid.p_export_kw_max,
        LimitKind.PV: sum(p.p_ac_kw for p in site.pv),
        LimitKind.BESS_CHARGE: sum(b.battery.p_charge_kw_max for b in site.bess),
        LimitKind.BESS_DISCHARGE: sum(b.battery.p_discharge_kw_max for b in site.bess),
    }


def _shares(site: Site, writable: frozenset[str]) -> dict[LimitKind, dict[str, float]]:
    """How a cap on all PV or all batteries is split among their setpoints: by rating."""
    kinds = {
        LimitKind.PV: {point_id(p.id, "p_limit_kw"): p.p_ac_kw for p in site.pv},
        LimitKind.BESS_CHARGE: {point_id(b.id, "p_set_kw"): b.battery.p_charge_kw_max for b in site.bess},
        LimitKind.BESS_DISCHARGE: {
            point_id(b.id, "p_set_kw"): b.battery.p_discharge_kw_max for b in site.bess
        },
    }
    totals = {kind: sum(rated.values()) for kind, rated in kinds.items()}
    return {
        kind: {p: kw / totals[kind] for p, kw in rated.items() if p in writable and totals[kind] > 0.0}
        for kind, rated in kinds.items()
    }
