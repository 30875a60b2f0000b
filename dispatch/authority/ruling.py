"""What authority rules for one cycle: modes, who may write, layers above and below, people's setpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispatch.authority.leases import in_force
from dispatch.authority.state import AuthorityMemory, Chosen, Lease
from dispatch.authority.told_limits import Cap
from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import Written
from dispatch.vocabulary import Alarm, Decisions, Event, Target
from ems.commands import Bound, Cause, Proposal
from ems.condition import BessCondition, PlantCondition
from ems.control import ControlMode, may_write, strictest
from ems.control_site import LimitKind
from ems.frozen import replace
from ems.requests import PLANT, Answer, Standing
from ems.site import GridMode

Bounds = Mapping[str, Sequence[Bound]]
STOP = "emergency_stop"
AWAY = (
    ControlMode.LOCAL,
    ControlMode.OFF,
    ControlMode.TEST,
)  # modes in which a device is not there to be dispatched


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """Authority's view of one cycle. `strong` layers stand above those of the devices, `weak` ones below."""

    plant: ControlMode
    modes: Mapping[str, ControlMode]  # of each device
    local: frozenset[str] = frozenset()  # devices whose selector, or the site's, says local
    stopping: bool = False  # the emergency stop is pressed: what it demands, and nothing else
    blocked: Mapping[str, str] = field(default_factory=dict)  # setpoint -> why nothing may be written
    strong: Bounds = field(default_factory=dict)
    weak: Bounds = field(default_factory=dict)
    caps: tuple[Cap, ...] = ()
    held: Mapping[str, Lease] = field(default_factory=dict)  # people's setpoints in force
    step: Mapping[str, float] = field(default_factory=dict)  # largest move in a transfer; the setpoint's unit
    standing: Mapping[str, float] = field(default_factory=dict)  # what each setpoint stands at; its unit
    answers: tuple[Answer, ...] = ()
    events: tuple[Event, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    as_read: PlantCondition | None = None  # live limits of the devices, before authority narrowed them
    released: bool = False  # a person lets an edge that was held safe decide again

    def cap_kw(self, kind: LimitKind) -> float | None:
        """The lowest cap of this kind that holds now [kW]; None: nobody set one."""
        values = [c.cap_kw for c in self.caps if c.kind is kind]
        return min(values) if values else None

    @property
    def asked(self) -> frozenset[str]:
        """Devices that are sent setpoints as plan, rules or people want them."""
        follow = (ControlMode.AUTO, ControlMode.MANUAL)
        ours = {d for d, m in self.modes.items() if m in follow and d not in self.local}
        return frozenset() if self.stopping else frozenset(ours)

    def silent(self, device: str) -> bool:
        """Nothing at all is written to this device, no heartbeat either."""
        off = self.modes.get(device, self.plant) is ControlMode.OFF
        return device in self.local or (off and not self.stopping)


def narrowed(layout: Layout, ruling: Ruling) -> Layout:
    """The layout with the caps at the POI that hold now: whoever holds a cap holds this one."""
    grid = layout.site.grid
    import_kw, export_kw = ruling.cap_kw(LimitKind.IMPORT), ruling.cap_kw(LimitKind.EXPORT)
    most_in = grid.p_import_kw_max if import_kw is None else min(grid.p_import_kw_max, import_kw)
    most_out = grid.p_export_kw_max if export_kw is None else min(grid.p_export_kw_max, export_kw)
    if (most_in, most_out) == (grid.p_import_kw_max, grid.p_export_kw_max):
        return layout
    tight = replace(grid, p_import_kw_max=most_in, p_export_kw_max=most_out)
    return replace(layout, site=replace(layout.site, grid=tight))


def as_ruled(observed: Observed, ruling: Ruling, people: Mapping[str, Target | None]) -> Observed:
    """What was observed with what authority knows, so that protections and planner reckon with it.

    Units in local, off or test are not there to be dispatched; batteries and PV give no more than their
    bounds, and beside the grid no more than the ramp of a transfer allows. In manual they give what `people`
    want, and protection may reduce it; a genset that they do not want to run is started by nobody else. A
    battery that forms the island stays as it is: its power is a result, whoever may command it.
    """
    c = observed.condition
    if not (people or ruling.strong or ruling.weak or ruling.step or ruling.caps):
        return observed  # everything in auto and nothing limited
    away = frozenset(d for d, m in ruling.modes.items() if m in AWAY and d != c.forming)
    tied = c.grid_mode is GridMode.GRID_TIED
    condition = replace(
        c,
        bess={
            b: x if b == c.forming else _bounded(x, b, away, ruling, people, tied) for b, x in c.bess.items()
        },
        gensets={
            g: replace(x, available=x.available and g not in away and not _kept_off(g, ruling, people))
            for g, x in c.gensets.items()
        },
        import_cap_kw=ruling.cap_kw(LimitKind.IMPORT),
        export_cap_kw=ruling.cap_kw(LimitKind.EXPORT),
    )
    available = {p: _available(observed, ruling, people, p) for p in observed.pv_available_kw}
    return replace(observed, condition=condition, pv_available_kw=available)


def as_protected(observed: Observed, ruling: Ruling) -> Observed:
    """What the protections reckon with: a battery in test is there, with what it stands at and no more.

    For everybody else it is not there to be dispatched.
    """
    known, c = ruling.as_read, observed.condition
    tested = [b for b in c.bess if ruling.modes.get(b) is ControlMode.TEST]
    if known is None or not tested:
        return observed
    bess = {b: replace(c.bess[b], available=known.bess[b].available) for b in tested}
    return replace(observed, condition=replace(c, bess={**c.bess, **bess}))


def _kept_off(genset: str, ruling: Ruling, people: Mapping[str, Target | None]) -> bool:
    """In manual, and no person wants it to run: somebody may be working at it."""
    point = f"{genset}.run_request"
    if ruling.modes.get(genset) is not ControlMode.MANUAL or point not in people:
        return False
    wanted = people[point]
    return wanted is None or wanted.value < 0.5


def _bounded(
    c: BessCondition,
    bess: str,
    away: frozenset[str],
    ruling: Ruling,
    people: Mapping[str, Target | None],
    tied: bool,
) -> BessCondition:
    point = f"{bess}.p_set_kw"
    charge_kw, discharge_kw = c.p_charge_kw_max, c.p_discharge_kw_max
    ranges = [(b.low, b.high) for b in (*ruling.strong.get(point, ()), *ruling.weak.get(point, ()))]
    wanted = people.get(point)
    if wanted is not None:
        ranges.append((wanted.value, wanted.value))
    if point in ruling.step and tied:
        stands = ruling.standing.get(point, c.p_kw)
        ranges.append((stands - ruling.step[point], stands + ruling.step[point]))
    for low, high in ranges:
        charge_kw = min(charge_kw, max(0.0, -low))
        discharge_kw = min(discharge_kw, max(0.0, high))
    return replace(
        c,
        available=c.available and bess not in away,
        p_charge_kw_max=charge_kw,
        p_discharge_kw_max=discharge_kw,
    )


def _available(
    observed: Observed, ruling: Ruling, people: Mapping[str, Target | None], pv: str
) -> float | None:
    """What a PV plant could give under its bounds and people's setpoint; None: what it gives [kW]."""
    point, available = f"{pv}.p_limit_kw", observed.pv_available_kw[pv]
    if ruling.modes.get(pv) in AWAY:
        return None
    highs = [b.high for b in (*ruling.strong.get(point, ()), *ruling.weak.get(point, ()))]
    wanted = people.get(point)
    if wanted is not None:
        highs.append(wanted.value)
    return available if available is None or not highs else min(available, *highs)


def still_written(written: Mapping[str, Written], ruling: Ruling) -> Mapping[str, Written]:
    """What the edge wrote and still stands: a device in local is somebody else's until it comes back."""
    if not ruling.local:
        return written
    return {p: w for p, w in written.items() if p.partition(".")[0] not in ruling.local}


def carried_out(
    proposals: Sequence[Proposal], ruling: Ruling, people: Mapping[str, Target | None]
) -> list[Proposal]:
    """What the transition function asks for, as far as the modes of control let it.

    In auto it is the edge that carries out an order of a person, by its own steps. In manual it is
    the person's: what `people` want, once the transition function asks for the same.
    """
    out: list[Proposal] = []
    for p in proposals:
        device = p.point.partition(".")[0]
        mode = ruling.modes.get(device, ruling.plant)
        if p.cause is Cause.OPERATOR and mode is ControlMode.AUTO:
            p = replace(p, cause=Cause.RULES)
        want, lease = people.get(p.point), ruling.held.get(p.point)
        if mode is ControlMode.MANUAL and want is not None and want.value == p.value:
            if p.cause is Cause.RULES:
                p = replace(p, cause=Cause.OPERATOR, reason=f"{want.reason}; {p.reason}")
            if p.cause is Cause.OPERATOR and lease is not None:
                p = replace(p, owner=lease.owner, request_id=lease.request_id)
        if device not in ruling.local and not ruling.stopping and may_write(mode, p.cause):
            out.append(p)
    return out


def ruled(decisions: Decisions, ruling: Ruling, standing: Standing) -> Decisions:
    """A cycle's decisions with what authority adds to them."""
    return replace(
        decisions,
        plant_control=ruling.plant,
        control=ruling.modes,
        answers=ruling.answers,
        standing=standing,
    )


def standing_of(memory: AuthorityMemory, held_safe: bool) -> Standing:
    """What must outlive a restart. Test becomes manual: nobody is there to end a probe. Of a mode for a time
    and what it ends in the stricter one is kept; where it ends in auto, so does what is kept.
    """

    def kept(chosen: Chosen) -> ControlMode:
        after = ControlMode.AUTO if chosen.lasting is None else chosen.lasting.mode
        mode = strictest(chosen.mode, after)
        return ControlMode.MANUAL if mode is ControlMode.TEST else mode

    chosen = {PLANT: memory.plant, **memory.devices}
    devices = {d: kept(c) for d, c in memory.devices.items()}
    timed = {d: c.until_s for d, c in chosen.items() if c.before is None and c.until_s is not None}
    return Standing(
        chosen_by={d: c.user for d, c in chosen.items()},
        mode_until_s=timed,
        held_until_s={p: x.until_s for p, x in in_force(memory.leases).items()},
        plant=kept(memory.plant),
        devices={d: mode for d, mode in devices.items() if mode is not ControlMode.AUTO},
        limits=memory.limits,
        told_kw={k: t.value_kw for k, t in memory.told.items()},
        held_safe=held_safe,
        stopped=memory.stopped,
        lost=memory.standing_lost,
    )
