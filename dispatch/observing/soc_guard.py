"""A second opinion on the charge of each battery: what went in and out, counted, beside what the BMS tells.

A reading that jumps, wanders off or stands still is found by the difference. From a small difference on, the
edge reckons with the worse of both: with the lower charge to discharge, with the higher one to charge.

The count starts from the first reading after a start of the edge: a reading that is wrong from the beginning
is believed. It follows the reading by `FOLLOW_PER_H` and by `FOLLOW_RATIO` of what moves, which covers
unknown losses; a drift of 1 % an hour is faster than that.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.availability import each_once
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import SocWatch
from dispatch.vocabulary import Alarm
from ems.assets import BatteryParams
from ems.condition import BessCondition, UnitState, usable
from ems.frozen import replace
from ems.points import BessState
from ems.telemetry import Snapshot
from plant_models.battery import step

APART_SOC = 0.05  # more than this apart: one of both is wrong
CLOSE_SOC = 0.03
ON = (BessState.FOLLOWING, BessState.FORMING)
CONFIRM_S = 3.0
CLEAR_S = 60.0
WORSE_SOC = 0.02  # from this difference on the worse of both counts
FROZEN_SOC = 0.0125  # moved while the reading stood still; a register of whole per cent stands for 1 %
STILL_SOC = 1e-4  # a smaller change of the reading is none
FOLLOW_PER_H = 0.001  # of charge
FOLLOW_RATIO = 0.02  # of the charge that moves
COUNT_S_MAX = 15.0  # over a longer cycle one reading of the power says nothing


def guarded(
    layout: Layout, watches: Mapping[str, SocWatch], snapshot: Snapshot, observed: Observed, passed_s: float
) -> tuple[dict[str, SocWatch], Observed]:
    """The observation with each battery's charge and states after the second opinion.

    Parameters
    ----------
    passed_s : time since the last tick [s].
    """
    after, bess = {}, {}
    for b, c in observed.condition.bess.items():
        told = snapshot.value(f"{b}.soc")
        power_known = snapshot.value(layout.p[b]) is not None
        battery, on = (
            layout.bess[b].battery,
            observed.bess_state[b] in (BessState.FOLLOWING, BessState.FORMING),
        )
        watch = watches.get(b)
        if watch is None:
            if told is not None:
                after[b] = SocWatch(counted_soc=told, told_soc=told)
            bess[b] = c
            continue
        if passed_s > COUNT_S_MAX or not power_known:
            after[b] = (
                watch if told is None else replace(watch, counted_soc=told, told_soc=told, moved_soc=0.0)
            )
            after[b] = watch if watch.suspect or watch.frozen else after[b]
        else:
            after[b] = _counted(battery, watch, c.p_kw, told, on, passed_s)
        bess[b] = _judged(c, after[b], told)
    return after, replace(observed, condition=replace(observed.condition, bess=bess))


def _counted(
    battery: BatteryParams, watch: SocWatch, p_kw: float, told: float | None, on: bool, passed_s: float
) -> SocWatch:
    """Count what moved, compare, and follow slowly what is believed."""
    before_kwh = watch.counted_soc * battery.energy_kwh
    moved = (step(battery, before_kwh, p_kw, passed_s, on=on)[0] - before_kwh) / battery.energy_kwh
    counted = min(1.0, max(0.0, watch.counted_soc + moved))
    if told is None:
        return replace(watch, counted_soc=counted, moved_soc=watch.moved_soc + moved)
    still = abs(told - watch.told_soc) < STILL_SOC
    moved_soc = watch.moved_soc + moved if still else 0.0
    told_soc = watch.told_soc if still else told
    apart = abs(told - counted)
    apart_s = watch.apart_s + passed_s if apart > APART_SOC else 0.0
    close_s = watch.close_s + passed_s if apart < CLOSE_SOC else 0.0
    suspect = (watch.suspect or apart_s >= CONFIRM_S) and close_s < CLEAR_S
    frozen = abs(moved_soc) > FROZEN_SOC or (watch.frozen and (still or apart > CLOSE_SOC))
    if not suspect and not frozen:
        follow = FOLLOW_PER_H * passed_s / 3600.0 + FOLLOW_RATIO * abs(moved)
        counted += min(follow, max(-follow, told - counted))
    return SocWatch(
        counted_soc=counted,
        told_soc=told_soc,
        moved_soc=moved_soc,
        apart_s=apart_s,
        close_s=close_s,
        suspect=suspect,
        frozen=frozen,
    )


def _judged(c: BessCondition, watch: SocWatch, told: float | None) -> BessCondition:
    """The worse of both opinions, and what is the matter; a battery whose charge is not told is not used."""
    reading = watch.counted_soc if told is None else told
    low, high = min(reading, watch.counted_soc), max(reading, watch.counted_soc)
    doubt = watch.suspect or watch.frozen
    if not doubt and high - low <= WORSE_SOC:
        low = high = reading
    states = each_once([*c.states, UnitState.SUSPECT]) if doubt else c.states
    return replace(
        c,
        soc=low,
        soc_high=high if high > low else None,
        soc_counted=watch.counted_soc if high > low or told is None else None,
        states=states,
        available=c.available and usable(states),
    )


def soc_alarms(watches: Mapping[str, SocWatch]) -> tuple[Alarm, ...]:
    """What an operator should know about readings of charge."""
    out = []
    for b, w in watches.items():
        apart = f"{b} tells {w.told_soc:.1%}, {w.counted_soc:.1%} is counted"
        if w.suspect:
            out.append(Alarm(code="bess.soc.suspect", asset=b, text=f"{apart}: the worse of both counts"))
        if w.frozen:
            out.append(Alarm(code="bess.soc.frozen", asset=b, text=f"{apart}: the reading stands still"))
    return tuple(out)
