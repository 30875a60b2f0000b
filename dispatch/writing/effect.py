"""Does the power follow the setpoint? A read-back proves that a register holds a value, and nothing more.

A battery in following mode gives what its setpoint says, inside its live limits; a PV plant gives no more
than its limit. A unit that does not, by more than 5 % of its rating for more than 5 s, is written to again,
three times; then it is told, and not counted on any more (`UnitState.NOT_EFFECTIVE`). It is counted on again
when its power has followed for a minute, for twice as long after each further time.

Not judged: a genset (its controller shares load by itself), a battery that forms, a setpoint whose write is
not confirmed, and anything while the measured powers contradict each other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import Written
from dispatch.vocabulary import Alarm
from dispatch.writing.effect_memory import EffectMemory, Following
from ems.condition import UnitState
from ems.invariants import clamp
from ems.points import AssetKind, BessState
from ems.telemetry import Snapshot

TOLERANCE_RATIO = 0.05  # of the rating
SETTLE_S = 3.0  # a setpoint this old has been carried out, and its power read
OFF_S = 5.0  # so long off, and the setpoint is written again
RETRY_EVERY_S = 3.0
RETRIES = 3
WELL_S = 60.0  # so long well after a first mark; doubled with each further one
WELL_S_MAX = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """A unit now: what it gives, what it may be asked for, how it is judged [kW]."""

    p_kw: float
    low_kw: float
    high_kw: float
    rated_kw: float
    is_limit: bool


def check_effect(
    layout: Layout,
    memory: EffectMemory,
    written: Mapping[str, Written],
    snapshot: Snapshot,
    observed: Observed,
) -> tuple[EffectMemory, Mapping[str, Written]]:
    """(memory after this snapshot, what is written: a setpoint to be tried again counts as not confirmed)."""
    now_s, out = snapshot.monotonic_s, dict(written)
    following: dict[str, Following] = {}
    for point in layout.setpoint_of.values():
        before = memory.following.get(point, Following())
        unit, w = _unit(layout, snapshot, observed, point), written.get(point)
        if unit is None or w is None or observed.suspect:
            following[point] = replace(before, held=(), off_since_s=None, well_since_s=None, retries=0)
            continue
        if not w.known:
            following[point] = before
            continue
        after = _judged(before, unit, w, now_s)
        if after.retries > before.retries:
            out[point] = replace(w, known=False)
        following[point] = after
    return EffectMemory(following={p: f for p, f in following.items() if f != Following()}), out


def _unit(layout: Layout, snapshot: Snapshot, observed: Observed, point: str) -> _Unit | None:
    """The unit behind a setpoint; None where its power need not follow, or cannot be read."""
    asset, _, name = point.partition(".")
    p_kw = snapshot.value(layout.p[asset]) if asset in layout.p else None
    if p_kw is None:
        return None
    kind = layout.kinds[asset]
    if kind is AssetKind.PV and name == "p_limit_kw":
        return _Unit(
            p_kw=p_kw, low_kw=0.0, high_kw=layout.pv[asset].p_ac_kw, rated_kw=layout.pv[asset].p_ac_kw,
            is_limit=True,
        )  # fmt: skip
    if kind is not AssetKind.BESS or name != "p_set_kw":
        return None
    charge = snapshot.value(f"{asset}.p_charge_kw_max")
    discharge = snapshot.value(f"{asset}.p_discharge_kw_max")
    if observed.bess_state[asset] is not BessState.FOLLOWING or charge is None or discharge is None:
        return None
    return _Unit(
        p_kw=p_kw, low_kw=-max(0.0, charge), high_kw=max(0.0, discharge),
        rated_kw=layout.bess[asset].battery.p_nominal_kw, is_limit=False,
    )  # fmt: skip


def _judged(before: Following, unit: _Unit, w: Written, now_s: float) -> Following:
    held = before.held if before.held and before.held[-1][1] == w.value else (*before.held, (now_s, w.value))
    old = [i for i, (at_s, _) in enumerate(held) if now_s - at_s >= SETTLE_S]
    settled = bool(old)
    held = held[old[-1] :] if settled else held
    seen = replace(before, held=held)
    if _follows(unit, held) or (before.off_since_s is None and not settled):
        return _well(seen, now_s)
    since_s = now_s if before.off_since_s is None else before.off_since_s
    seen = replace(seen, off_since_s=since_s, well_since_s=None)
    if now_s - since_s < OFF_S or before.marked:
        return seen
    if before.retries < RETRIES:
        again = before.retries == 0 or now_s - before.retried_s >= RETRY_EVERY_S
        return replace(seen, retries=before.retries + 1, retried_s=now_s) if again else seen
    if now_s - before.retried_s < RETRY_EVERY_S:
        return seen
    return replace(seen, marked=True, times=before.times + 1)


def _follows(unit: _Unit, held: tuple[tuple[float, float], ...]) -> bool:
    """Whether the power lies where the setpoints of the last seconds ask for it."""
    slack_kw = TOLERANCE_RATIO * unit.rated_kw
    asked_kw = [clamp(kw, unit.low_kw, unit.high_kw) for _, kw in held]
    above = unit.p_kw <= max(asked_kw) + slack_kw
    return above and (unit.is_limit or unit.p_kw >= min(asked_kw) - slack_kw)


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
