"""Does the reactive power follow its setpoint? It is told, and nothing is written or left out because of it.

Reactive parameters act slowly and are chosen rarely, so windows of a minute are judged: the mean that a
converter gave in one against everything it was asked for in that window and the one before. Three windows in
a row off by more than a tenth of the rating, and it is told; three in a row that follow, and it is over.
Where it was told, a window counts as followed only once the converter gives something else than it did while
it was off: one that is stuck at 0 follows a setpoint of 0 as well.

Judged are kvar and the power factor. What a stored curve makes of the voltage hangs on the voltage at the
converter's own terminals, which is not read: it is not judged.

Not judged either: away from the mains, a battery that does not follow, next to no active power (what is off
gives none, and filters and cables are all there is), what was asked for within 5 % of what the converter can
beside its active power, a voltage at which converters do what their grid code says, a setpoint whose write is
not confirmed or that is not sent again and again (off, test, local, held safe), and anything while the
measured powers contradict each other.
"""

import math
from collections.abc import Collection, Iterator, Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import Written
from dispatch.vocabulary import Alarm
from dispatch.writing.effect_memory import ReactiveFollowing, ReactiveMemory
from ems.frozen import replace
from ems.invariants import clamp
from ems.points import BessState
from ems.reactive import ReactiveControl, ReactiveTakes
from ems.site import GridMode
from ems.telemetry import Snapshot

WINDOW_S = 60.0  # and the time of a poll
WINDOWS = 3
# Of the apparent power: IEEE 1547-2018 (table 3) lets a converter be 5 % off in reactive power, and its own
# measurement as far; the model knows no meter of a converter that is worse.
TOLERANCE_RATIO = 0.1
LITTLE_RATIO = 0.05  # of the apparent power: less active power is next to none
FULL_RATIO = 0.95  # of the apparent power
V_LOW_PU, V_HIGH_PU = 0.9, 1.1  # beyond, converters ride through or limit their current
NOT_YET = ReactiveFollowing()


def check_reactive(
    layout: Layout,
    memory: ReactiveMemory,
    written: Mapping[str, Written],
    snapshot: Snapshot,
    observed: Observed,
    asked: Collection[str],
) -> ReactiveMemory:
    """What to remember after this snapshot.

    Parameters
    ----------
    asked : devices that are sent setpoints as plan, rules or people want them.
    """
    following: dict[str, ReactiveFollowing] = {}
    for asset, control in layout.reactive.items():
        point = f"{asset}.{control.takes}"
        before, w = memory.following.get(point, NOT_YET), written.get(point)
        if w is not None and not w.known:
            following[point] = before
            continue
        seen = None
        if w is not None and asset in asked:
            seen = _seen(layout, snapshot, observed, asset, control, w.value)
        if seen is None:
            nothing = NOT_YET
            following[point] = replace(
                nothing, row=before.row, marked=before.marked, gave_kvar=before.gave_kvar,
                asked_kvar=before.asked_kvar,
            )  # fmt: skip
            continue
        window_s = WINDOW_S + layout.poll_s.get(asset, 0.0)
        tolerance_kvar = TOLERANCE_RATIO * layout.reactive_kva[asset]
        following[point] = _judged(before, seen, tolerance_kvar, window_s, snapshot.monotonic_s)
    return ReactiveMemory(following={p: f for p, f in following.items() if f != NOT_YET})


def _seen(
    layout: Layout,
    snapshot: Snapshot,
    observed: Observed,
    asset: str,
    control: ReactiveControl,
    value: float,
) -> tuple[float, float] | None:
    """(kvar that the setpoint asks for, kvar that are given); None where they need not be the same."""
    p_kw, q_kvar = snapshot.value(layout.p[asset]), snapshot.value(f"{asset}.q_kvar")
    v_pu, mode = observed.condition.grid_v_pu, observed.condition.grid_mode
    if p_kw is None or q_kvar is None or v_pu is None or not V_LOW_PU <= v_pu <= V_HIGH_PU:
        return None
    if observed.suspect or mode is not GridMode.GRID_TIED or control.takes is ReactiveTakes.CURVE:
        return None
    if asset in layout.bess and observed.bess_state.get(asset) is not BessState.FOLLOWING:
        return None
    if abs(p_kw) < LITTLE_RATIO * layout.reactive_kva[asset]:
        return None
    asked_kvar = value
    if control.takes is ReactiveTakes.POWER_FACTOR:
        factor = clamp(abs(value), control.pf_min, 1.0)
        asked_kvar = math.copysign(abs(p_kw) * math.tan(math.acos(factor)), value)
    able = _able(layout, observed, asset, (p_kw, asked_kvar), v_pu)
    return (asked_kvar, q_kvar) if able else None


def _able(layout: Layout, observed: Observed, asset: str, power: tuple[float, float], v_pu: float) -> bool:
    """Whether the converter can give (kW, kvar) and is not near the edge of what it can."""
    p_kw, q_kvar = power
    s_kva = layout.reactive_kva[asset]
    now_kva = min(s_kva, observed.live_limits.get(f"{asset}.p_pcs_kw_max", math.inf)) * min(1.0, v_pu)
    if math.hypot(p_kw, q_kvar) > FULL_RATIO * now_kva:
        return False
    own = layout.capability.get(asset)
    return own is None or own.over_kva(p_kw, q_kvar) <= -(1.0 - FULL_RATIO) * s_kva


def _judged(
    before: ReactiveFollowing,
    seen: tuple[float, float],
    tolerance_kvar: float,
    window_s: float,
    now_s: float,
) -> ReactiveFollowing:
    """The window with one reading more; where it is over, what it says, and the next one."""
    asked_kvar, q_kvar = seen
    count, began_s = before.count + 1, now_s if before.began_s is None else before.began_s
    mean_kvar = before.mean_kvar + (q_kvar - before.mean_kvar) / count
    low_kvar, high_kvar = min(before.low_kvar, asked_kvar), max(before.high_kvar, asked_kvar)
    if now_s - began_s < window_s:
        return replace(
            before, began_s=began_s, count=count, mean_kvar=mean_kvar, low_kvar=low_kvar, high_kvar=high_kvar
        )
    after = replace(
        NOT_YET, began_s=now_s, earlier_kvar=(low_kvar, high_kvar), row=before.row, marked=before.marked,
        gave_kvar=before.gave_kvar, asked_kvar=before.asked_kvar,
    )  # fmt: skip
    if before.earlier_kvar is None:  # the parameter may just have been set
        return after
    nearest_kvar = clamp(
        mean_kvar, min(before.earlier_kvar[0], low_kvar), max(before.earlier_kvar[1], high_kvar)
    )
    if abs(mean_kvar - nearest_kvar) > tolerance_kvar:
        row = max(0, before.row) + 1
        return replace(
            after, row=row, marked=before.marked or row >= WINDOWS, gave_kvar=mean_kvar,
            asked_kvar=nearest_kvar,
        )  # fmt: skip
    if before.marked and abs(mean_kvar - before.gave_kvar) <= tolerance_kvar:
        return replace(after, row=0)
    row = min(0, before.row) - 1
    return replace(after, row=row, marked=before.marked and row > -WINDOWS)


def reactive_alarms(memory: ReactiveMemory) -> Iterator[Alarm]:
    """One for each converter whose reactive power does not follow."""
    for point, f in memory.following.items():
        if f.marked:
            gave, asked = f"{f.gave_kvar:.0f} kvar", f"{f.asked_kvar:.0f} kvar"
            text = f"the reactive power does not follow {point}: {gave} in the mean where it asks for {asked}"
            yield Alarm(code="setpoint.reactive_not_followed", asset=point, text=text)
