"""Site load from readings of unlike age: what makes a cap held by feed-forward hunt, and what prevents it.

The load of the bus is what the reference (the meter at the POI, in an island the forming source) and the
sources that are steered give together. Each of them is read at its own age. Where the ages differ by a cycle,
every move of a battery shows up as a load that is not there, the next setpoint answers it, and the plant
oscillates. Nothing is wrong with any device then, and a slower loop would only hide it.

Two remedies. The age of each source's reading against the reference is measured from the plant's own moves:
of all shifts, the true one leaves the smallest jumps in the load. Until it is known, a change of load no
larger than what was just commanded is taken for the echo of that command, for as long as an echo can take.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import NetDemandMemory, Sample, Shift
from ems.frozen import replace
from ems.points import BessState
from ems.site import GridMode

DELAY_S_MAX = 3.0  # largest difference of age that is looked for
ECHO_S = 6.0  # a command shows everywhere within this: dead time and age of a reading together
ECHO_RATIO = 1.2  # an echo is no larger than this times the move
SWITCHED_CYCLES = 3  # a feeder that has switched so lately changes the load for sure
MOVE_RATIO = 0.01  # of the rating: a smaller move teaches nothing
TAUGHT_RATIO = 0.05  # of the rating: moves together as large as this are enough to tell
CLEAR_RATIO = 0.5  # the best shift leaves less than half of what the median one leaves
STEADY_RATIO = (
    0.02  # of what the source moved: a wrong shift leaves at least so much, or all shifts are alike
)
FORGET_RATIO = 0.93  # of what was learnt, kept from one move to the next
SAME_CYCLE_RATIO = 0.2  # cycles that differ by more are not one series


def aligned(
    layout: Layout,
    memory: NetDemandMemory,
    observed: Observed,
    sent: Mapping[str, float],
    now_s: float,
    dt_s: float,
) -> tuple[NetDemandMemory, Observed]:
    """The observation with a load whose parts are of one age.

    Parameters
    ----------
    sent : last value of each setpoint, in its own unit.
    dt_s : how long this cycle's decisions will stand [s]; cycles too long to see an echo change nothing.
    """
    reference = _reference(observed)
    if reference is None or not _sources_read(layout, observed) or dt_s > DELAY_S_MAX / 2.0:
        return replace(memory, reference=reference, samples=(), load_kw=None), observed
    sample = _sample(layout, observed, sent, reference, now_s)
    before = memory.samples
    if reference != memory.reference or not _one_series(before, sample, dt_s):
        before = ()
    most = round(max(3.0 * DELAY_S_MAX, ECHO_S) / dt_s) + 2
    samples = (*before, sample)[-most:]
    n = round(DELAY_S_MAX / dt_s)
    shifts = dict(memory.shifts)
    if len(samples) >= 2 * n + 2:
        shifts |= _learnt(layout, memory.shifts, reference, samples, n, dt_s)
    load_kw = _echo_held(layout, shifts, reference, samples, dt_s, memory.load_kw if before else None)
    after = NetDemandMemory(reference=reference, samples=samples, shifts=shifts, load_kw=load_kw)
    return after, replace(observed, power=replace(observed.power, load_kw=load_kw))


def _reference(observed: Observed) -> str | None:
    c = observed.condition
    match c.grid_mode:
        case GridMode.GRID_TIED | GridMode.ISLANDED:
            return c.forming
        case _:
            return None


def _sources_read(layout: Layout, observed: Observed) -> bool:
    """Whether all that the load is worked out from is read; feeders are no part of that."""
    feeders = {layout.p[f] for f in layout.feeders}
    return feeders.issuperset(observed.substituted)


def _one_series(samples: tuple[Sample, ...], now: Sample, dt_s: float) -> bool:
    """Whether `now` goes on with them: of the same sources, a cycle later."""
    if not samples:
        return True
    same = samples[-1].own_kw.keys() == now.own_kw.keys()
    return same and abs(now.at_s - samples[-1].at_s - dt_s) <= SAME_CYCLE_RATIO * dt_s


def _sample(
    layout: Layout, observed: Observed, sent: Mapping[str, float], reference: str, now_s: float
) -> Sample:
    """Powers of the reference and of all other sources; batteries that form together count as one, and so do
    gensets that share the bus: each moves with the other, which would teach a wrong age.
    """
    c = observed.condition
    own_kw = {b: x.p_kw for b, x in c.bess.items()}
    own_kw |= {g: x.p_kw for g, x in c.gensets.items()}
    own_kw |= c.pv_kw
    asked_kw, ceiling_kw = {}, {}
    for asset, p_kw in own_kw.items():
        limit_kw = sent.get(layout.setpoint_of.get((asset, "p_limit_kw"), ""))
        setpoint_kw = sent.get(layout.setpoint_of.get((asset, "p_set_kw"), ""))
        if limit_kw is not None:
            available_kw = observed.pv_available_kw[asset]
            asked_kw[asset] = limit_kw
            ceiling_kw[asset] = p_kw if available_kw is None else max(p_kw, available_kw)
        elif setpoint_kw is not None and (asset in c.bess or c.gensets[asset].on_load):
            asked_kw[asset] = setpoint_kw
    if reference in own_kw:
        forming = [b for b, s in observed.bess_state.items() if s is BessState.FORMING]
        sharing = [g for g, x in c.gensets.items() if x.on_load]
        kin = next((k for k in (forming, sharing) if reference in k), [reference])
        reference_kw = sum(own_kw.pop(a) for a in kin)
        asked_kw = {a: kw for a, kw in asked_kw.items() if a not in kin}
    else:
        reference_kw = observed.power.grid_kw
    closed = frozenset(f for f, is_closed in c.feeder_closed.items() if is_closed)
    return Sample(now_s, reference_kw, own_kw, asked_kw, ceiling_kw, closed)


def _rating_kw(layout: Layout, asset: str) -> float:
    if asset in layout.bess:
        return layout.bess[asset].battery.p_nominal_kw
    return layout.gensets[asset].p_rated_kw if asset in layout.gensets else layout.pv[asset].p_ac_kw


def _cycles(shift: Shift | None, dt_s: float) -> int:
    return 0 if shift is None or shift.older_s is None else round(shift.older_s / dt_s)


def _learnt(
    layout: Layout,
    shifts: Mapping[tuple[str, str], Shift],
    reference: str,
    samples: tuple[Sample, ...],
    n: int,
    dt_s: float,
) -> dict[tuple[str, str], Shift]:
    """Weigh every shift of every source that has moved, `n` cycles after the fact."""
    out = {}
    at = len(samples) - 1 - n
    assets = list(samples[-1].own_kw)

    def move_kw(asset: str, k: int) -> float:
        return samples[at - k].own_kw[asset] - samples[at - k - 1].own_kw[asset]

    moved_kw = {a: [move_kw(a, k) for k in range(-n, n + 1)] for a in assets}
    known = {a: s.older_s for a in assets if (s := shifts.get((reference, a))) and s.older_s is not None}
    jump_kw = samples[at].reference_kw - samples[at - 1].reference_kw
    for a, moves_kw in moved_kw.items():
        rating_kw = _rating_kw(layout, a)
        if max(abs(m) for m in moves_kw) < MOVE_RATIO * rating_kw:
            continue
        shift = shifts.get((reference, a))
        if shift is None or len(shift.left_kw2) != len(moves_kw) or shift.cycle_s != dt_s:
            older_s = None if shift is None else shift.older_s
            shift = Shift(dt_s, (0.0,) * len(moves_kw), 0.0, older_s)
        # sources not known yet share this one's shift: most often it is the reference that is late
        at_k = {b: n + round(older_s / dt_s) for b, older_s in known.items() if b != a}
        jumps_kw = [
            jump_kw + sum(kw[max(0, min(2 * n, at_k.get(b, i)))] for b, kw in moved_kw.items())
            for i in range(2 * n + 1)
        ]
        left = tuple(FORGET_RATIO * x + j * j for x, j in zip(shift.left_kw2, jumps_kw, strict=True))
        moved = FORGET_RATIO * shift.moved_kw2 + moves_kw[n] ** 2
        older_s = _told(left, moved, rating_kw, shift.older_s, n, dt_s)
        out[(reference, a)] = Shift(dt_s, left, moved, older_s)
    return out


def _told(
    left_kw2: tuple[float, ...],
    moved_kw2: float,
    rating_kw: float,
    before_s: float | None,
    n: int,
    dt_s: float,
) -> float | None:
    """The shift the moves point to, once they are large enough and point clearly."""
    best = min(range(len(left_kw2)), key=lambda i: (left_kw2[i], abs(i - n)))
    median = sorted(left_kw2)[len(left_kw2) // 2]
    if moved_kw2 < (TAUGHT_RATIO * rating_kw) ** 2 or left_kw2[best] > CLEAR_RATIO * median:
        return before_s
    if median < STEADY_RATIO * moved_kw2:  # a steady ramp looks the same at every shift: only noise differs
        return before_s
    if before_s is not None:
        now = max(0, min(len(left_kw2) - 1, n + round(before_s / dt_s)))
        if left_kw2[best] > CLEAR_RATIO * left_kw2[now]:
            return before_s
    return (best - n) * dt_s


def _echo_held(
    layout: Layout,
    shifts: Mapping[tuple[str, str], Shift],
    reference: str,
    samples: tuple[Sample, ...],
    dt_s: float,
    before_kw: float | None,
) -> float:
    """The load by the shifts known; what may be the echo of a command of a source not yet known is held."""
    load_kw = _load_kw(shifts, reference, samples, dt_s)
    switched = len({s.closed for s in samples[-SWITCHED_CYCLES:]}) > 1
    if before_kw is None or switched:
        return load_kw
    moved_kw = 0.0
    for a in samples[-1].asked_kw:
        shift = shifts.get((reference, a))
        if shift is None or shift.older_s is None:
            most_kw = samples[-1].ceiling_kw.get(a, math.inf)
            asked = [s.asked_kw.get(a) for s in samples[-round(ECHO_S / dt_s) - 1 :]]
            pairs = ((x, y) for x, y in pairwise(asked) if x is not None and y is not None)
            moves = sum(abs(min(y, most_kw) - min(x, most_kw)) for x, y in pairs)
            moved_kw += moves if moves >= MOVE_RATIO * _rating_kw(layout, a) else 0.0
    return before_kw if abs(load_kw - before_kw) <= ECHO_RATIO * moved_kw else load_kw


def _load_kw(
    shifts: Mapping[tuple[str, str], Shift], reference: str, samples: tuple[Sample, ...], dt_s: float
) -> float:
    known = {a: _cycles(shifts.get((reference, a)), dt_s) for a in samples[-1].own_kw}
    back = max(0, *(-k for k in known.values())) if known else 0
    last = len(samples) - 1
    if last < back:
        known, back = dict.fromkeys(known, 0), 0
    own_kw = sum(samples[max(0, last - back - k)].own_kw[a] for a, k in known.items())
    return samples[last - back].reference_kw + own_kw
