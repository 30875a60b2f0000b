"""Does the power follow the setpoint? A read-back proves that a register holds a value, and nothing more.

A battery in following mode gives what its setpoint says, inside its live limits; a PV plant gives no more
than its limit. A unit that does not, by more than 5 % of its rating for more than 5 s without coming nearer,
is written to again, three times; then it is told, and not counted on any more (`UnitState.NOT_EFFECTIVE`). It
is counted on again when its power has followed for a minute, for twice as long after each further time.

A unit that gives more at low frequency, or less at high, by its own droop (`dispatch.droop` of the site file)
follows as well, where the frequency is measured.

A genset beside the mains or a forming battery that has room gives what its setpoint says, after its own ramp.
One that is off has nothing to follow: it is tried again after the same times as a unit that follows.

Not judged: whatever forms (it carries the island: what was known against it is forgotten), a genset beside
another one (their controllers share load by themselves) or on its way out, a setpoint whose write is not
confirmed or that is not sent again and again (off, test, local, held safe), and anything while the measured
powers contradict each other.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.live_limits import bess_limits
from dispatch.state import Written
from dispatch.vocabulary import Alarm
from dispatch.writing.effect_memory import EffectMemory, Following
from ems.assets import DroopParams
from ems.condition import UnitState
from ems.frozen import replace
from ems.invariants import clamp
from ems.points import AssetKind, BessState
from ems.site import GridMode
from ems.telemetry import Snapshot

TOLERANCE_RATIO = 0.05  # of the rating
NEARER_RATIO = 0.02  # of the rating: who has come so much nearer is on the way, however slow its own ramp
SETTLE_S = 3.0  # a setpoint this old has been carried out; and its power read, after the time of a poll
OFF_S = 5.0  # so long off, and the setpoint is written again
RETRY_EVERY_S = 3.0
RETRIES = 3
WELL_S = 60.0  # so long well after a first mark; doubled with each further one
WELL_S_MAX = 3600.0
# The setpoints that a power follows.
JUDGED = {AssetKind.BESS: "p_set_kw", AssetKind.PV: "p_limit_kw", AssetKind.GENSET: "p_set_kw"}
NOT_YET = Following()
NOMINAL_HZ = (50.0, 60.0)
BEYOND_RATIO = (
    0.06  # of the nominal frequency: who is further off is tripped, and a reading that is, is wrong
)
ANY_DROOP = DroopParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """A unit now: what it gives, what it may be asked for, how it is judged [kW]."""

    p_kw: float
    low_kw: float
    high_kw: float
    rated_kw: float
    is_limit: bool
    settle_s: float
    droop_kw: float = 0.0  # what its own droop may add to the setpoint at this frequency; negative: take away


def check_effect(
    layout: Layout,
    memory: EffectMemory,
    written: Mapping[str, Written],
    snapshot: Snapshot,
    observed: Observed,
    asked: Collection[str],
) -> tuple[EffectMemory, Mapping[str, Written]]:
    """(memory after this snapshot, what is written: a setpoint to be tried again counts as not confirmed).

    Parameters
    ----------
    asked : devices that are sent setpoints as plan, rules or people want them.
    """
    now_s, out = snapshot.monotonic_s, dict(written)
    following: dict[str, Following] = {}
    for (asset, name), point in layout.setpoint_of.items():
        if JUDGED.get(layout.kinds[asset]) != name:
            continue
        before = memory.following.get(point, NOT_YET)
        if observed.bess_state.get(asset) is BessState.FORMING or _shares(observed, asset):
            following[point] = Following(times=before.times)
            continue
        if asset in layout.gensets and not observed.condition.gensets[asset].on_load:
            following[point] = _well(replace(before, held=()), now_s) if before.times else before
            continue
        w = written.get(point)
        if asset in layout.gensets:
            unit = _genset(layout, written, snapshot, observed, asset)
        else:
            unit = _unit(layout, snapshot, observed, asset)
        if unit is None or w is None or observed.suspect or asset not in asked:
            following[point] = replace(before, held=(), off_since_s=None, well_since_s=None, retries=0)
            continue
        if not w.known:
            following[point] = before
            continue
        after = _judged(before, unit, w, now_s)
        if after.retries > before.retries:
            out[point] = replace(w, known=False)
        following[point] = after
    return EffectMemory(following={p: f for p, f in following.items() if f != NOT_YET}), out


def _unit(layout: Layout, snapshot: Snapshot, observed: Observed, asset: str) -> _Unit | None:
    """The unit behind a setpoint; None where its power need not follow, or cannot be read."""
    p_kw = snapshot.value(layout.p[asset])
    if p_kw is None:
        return None
    kind, settle_s = layout.kinds[asset], SETTLE_S + layout.poll_s.get(asset, 0.0)
    if kind is AssetKind.PV:
        return _Unit(
            p_kw=p_kw, low_kw=0.0, high_kw=layout.pv[asset].p_ac_kw, rated_kw=layout.pv[asset].p_ac_kw,
            is_limit=True, settle_s=settle_s,
            droop_kw=_droop_kw(layout, snapshot, asset, layout.pv[asset].p_ac_kw),
        )  # fmt: skip
    charge, discharge = bess_limits(observed.live_limits, snapshot, asset)
    if observed.bess_state[asset] is not BessState.FOLLOWING or charge is None or discharge is None:
        return None
    return _Unit(
        p_kw=p_kw, low_kw=-max(0.0, charge), high_kw=max(0.0, discharge),
        rated_kw=layout.bess[asset].battery.p_nominal_kw, is_limit=False,
        settle_s=settle_s,
        droop_kw=_droop_kw(layout, snapshot, asset, layout.bess[asset].battery.p_nominal_kw),
    )  # fmt: skip


def _shares(observed: Observed, asset: str) -> bool:
    """A genset on load in an island that gensets form: together they carry what there is."""
    c = observed.condition
    island = c.grid_mode is GridMode.ISLANDED and c.forming in c.gensets
    return island and asset in c.gensets and c.gensets[asset].on_load


def _genset(
    layout: Layout, written: Mapping[str, Written], snapshot: Snapshot, observed: Observed, asset: str
) -> _Unit | None:
    """A set on load beside the mains or a forming battery, asked to run, that has had time to take load.

    Where the forming battery is near its limits the governors carry what it cannot: nothing is judged then.
    """
    params, c = layout.gensets[asset], observed.condition
    p_kw, run = snapshot.value(layout.p[asset]), written.get(f"{asset}.run_request")
    ramp_kw_s = min(params.ramp_kw_s, params.ramp_down_or_up_kw_s)
    settle_s = SETTLE_S + layout.poll_s.get(asset, 0.0) + params.p_rated_kw / ramp_kw_s
    if p_kw is None or run is None or run.value < 0.5 or c.gensets[asset].age_s < settle_s:
        return None
    if c.grid_mode is not GridMode.GRID_TIED:
        former = c.bess.get(c.forming or "")
        if former is None:
            return None
        room_kw = TOLERANCE_RATIO * layout.bess[c.forming or ""].battery.p_nominal_kw
        if not room_kw - former.p_charge_kw_max < former.p_kw < former.p_discharge_kw_max - room_kw:
            return None
    return _Unit(
        p_kw=p_kw, low_kw=0.0, high_kw=params.p_rated_kw, rated_kw=params.p_rated_kw, is_limit=False,
        settle_s=settle_s, droop_kw=_droop_kw(layout, snapshot, asset, params.p_rated_kw),
    )  # fmt: skip


def _droop_kw(layout: Layout, snapshot: Snapshot, asset: str, rated_kw: float) -> float:
    """What a unit may do by itself at the measured frequency; 0 where none is measured [kW].

    Of a unit of which the site file says nothing, as much as any may: nobody is called deaf who helps. A
    frequency at which nothing stays connected is none: with 0 Hz from a dead transducer nobody would be deaf.
    """
    told = (snapshot.value(p) for p in ("bus.f_hz", f"{layout.site.grid.id}.f_hz"))
    known = [(f, n) for f in told if f is not None for n in NOMINAL_HZ if abs(f - n) <= BEYOND_RATIO * n]
    if not known:
        return 0.0
    f_hz, nominal_hz = known[0]
    droop = layout.site.droop.get(asset, ANY_DROOP)
    beyond_hz = max(0.0, abs(f_hz - nominal_hz) - droop.dead_band_hz)
    kw = min(1.0, beyond_hz / (nominal_hz * droop.droop_ratio)) * rated_kw
    return kw if f_hz < nominal_hz else -kw


def _judged(before: Following, unit: _Unit, w: Written, now_s: float) -> Following:
    held = before.held if before.held and before.held[-1][1] == w.value else (*before.held, (now_s, w.value))
    old = [i for i, (at_s, _) in enumerate(held) if now_s - at_s >= unit.settle_s]
    settled = bool(old)
    held = held[old[-1] :] if settled else held
    seen = replace(before, held=held)
    off_kw = _off_kw(unit, held)
    if off_kw <= TOLERANCE_RATIO * unit.rated_kw or (before.off_since_s is None and not settled):
        return _well(seen, now_s)
    since_s, least_kw = before.off_since_s, before.off_kw
    if since_s is None or off_kw <= least_kw - NEARER_RATIO * unit.rated_kw:
        since_s, least_kw = now_s, off_kw
    seen = replace(seen, off_since_s=since_s, off_kw=least_kw, well_since_s=None)
    if now_s - since_s < OFF_S or now_s - before.retried_s < RETRY_EVERY_S or before.marked:
        return seen
    if before.retries < RETRIES:
        return replace(seen, retries=before.retries + 1, retried_s=now_s)
    return replace(seen, marked=True, times=before.times + 1)


def _off_kw(unit: _Unit, held: tuple[tuple[float, float], ...]) -> float:
    """How far the power lies outside of what the setpoints of the last seconds ask for [kW]."""
    asked_kw = [clamp(kw, unit.low_kw, unit.high_kw) for _, kw in held]
    under_kw = 0.0 if unit.is_limit else min(asked_kw) + min(0.0, unit.droop_kw) - unit.p_kw
    return max(0.0, unit.p_kw - max(asked_kw) - max(0.0, unit.droop_kw), under_kw)


def _well(seen: Following, now_s: float) -> Following:
    """It follows; marked, it has to for a while before it is counted on again."""
    since_s = now_s if seen.well_since_s is None else seen.well_since_s
    needed_s = min(WELL_S_MAX, WELL_S * 2.0 ** (max(1, min(seen.times, 8)) - 1))
    marked = seen.marked and now_s - since_s < needed_s
    return replace(seen, off_since_s=None, well_since_s=since_s, retries=0, marked=marked)


def marks_of(memory: EffectMemory) -> dict[str, tuple[UnitState, ...]]:
    """What is known against units that do not follow, by unit."""
    marked = {p.partition(".")[0] for p, f in memory.following.items() if f.marked}
    return dict.fromkeys(sorted(marked), (UnitState.NOT_EFFECTIVE,))


def effect_alarms(memory: EffectMemory) -> Iterator[Alarm]:
    """One for each unit that does not follow."""
    for point, f in memory.following.items():
        if f.marked:
            text = f"the power does not follow {point}, written {RETRIES} times more; not counted on"
            yield Alarm(code="setpoint.not_effective", asset=point, text=text)
