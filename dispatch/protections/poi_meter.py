"""A meter at the POI that stands still while what the edge commands moves: it counts as lost.

Caps are held by feed-forward from the load, which is the meter's reading and the measured sources together. A
reading that stands still makes an integrator of that: each move of a battery looks like load that has moved
as far, and is answered once more. A frozen gateway has no other sign than the physics: what sources give
more, the meter reads less.

A reading that stands still alone says nothing: a plant at rest, a meter of whole kilowatts. Nor does it
beside sources that follow a slow ramp of the load well. So the load is held first, which stops the sources:
a meter that is alive shows what moves on, and nothing was lost, because what it read did not change. One that
still reads the same after the time in which a command shows everywhere is lost.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import MeterDoubt, MeterLoss, MeterMove, MeterWatch
from dispatch.protections.net_demand import DELAY_S_MAX, ECHO_S
from dispatch.protections.poi import FAST_S
from dispatch.state import Written
from ems.control_site import LimitKind
from ems.frozen import replace
from ems.site import GridMode
from ems.telemetry import Snapshot

STILL_S = DELAY_S_MAX  # a reading that has stood still for less may only be late
MOVED_RATIO = 0.04  # of the POI's rating: sources that moved by less prove nothing
NOISE_RATIO = 0.02  # ... nor by less than this of the largest rating on the bus: that is noise
STEPS = 8.0  # ... nor by less than so many of the smallest change the meter was seen to make
STEP_KW = 1.0  # which is taken for this before one was seen: a meter of whole kilowatts
RECENT_S = 30.0  # moves within this are found by themselves, slower ones from when the reading last changed
SLOW_RATIO = 0.25  # of the time a slow move took: so long it is waited for its end to show
ANSWERS = 3  # changes of the reading that make it believed again; twice as many with each further loss
ANSWERS_MAX = 192
FORGET_S = 3600.0  # a loss so long ago was another one
SAMPLE_S = 1.0


def watch_meter(
    layout: Layout,
    before: MeterWatch,
    snapshot: Snapshot,
    observed: Observed,
    written: Mapping[str, Written],
    dt_s: float,
) -> tuple[MeterWatch, Observed]:
    """(memory, the observation: as without a reading at the POI while the meter is lost).

    Parameters
    ----------
    written : setpoints as they stand; units without one are not moved by the edge and prove nothing.
    dt_s : length of this cycle [s]; longer ones than `FAST_S` see too little.
    """
    if dt_s > FAST_S:
        return MeterWatch(), observed
    now_s, reading_kw = snapshot.monotonic_s, snapshot.value(layout.p[layout.site.grid.id])
    if reading_kw is None:
        return replace(before, moves=(), doubt=None), _unread(layout, before, observed)
    seen = _read(before, reading_kw, now_s)
    if observed.condition.grid_mode is not GridMode.GRID_TIED:
        loss = None if seen.loss is None else replace(seen.loss, gave_kw=None)
        seen = replace(seen, moves=(), doubt=None, loss=loss)
    else:
        units, move = _powers(layout, snapshot, written, now_s)
        least_kw = _least_kw(layout, seen)
        seen = _moved(seen, units, move)
        if seen.loss is None:
            seen = _doubted(seen, reading_kw, least_kw, dt_s)
        else:
            seen = _answered(seen, reading_kw, least_kw)
    return seen, _unread(layout, seen, observed)


def hold_load(watch: MeterWatch, observed: Observed) -> tuple[MeterWatch, Observed]:
    """The load as it was when the meter came into doubt, while it is: sources that follow it stop."""
    doubt = watch.doubt
    if doubt is None or watch.loss is not None:
        return watch, observed
    if doubt.load_kw is None:
        return replace(watch, doubt=replace(doubt, load_kw=observed.power.load_kw)), observed
    return watch, replace(observed, power=replace(observed.power, load_kw=doubt.load_kw))


def _read(before: MeterWatch, reading_kw: float, now_s: float) -> MeterWatch:
    """The reading taken in: when it last changed, and by how little it was ever seen to change."""
    if before.reading_kw == reading_kw:
        return before
    if before.reading_kw is None:
        return replace(before, reading_kw=reading_kw, since_s=now_s, moves=(), doubt=None)
    change_kw = abs(reading_kw - before.reading_kw)
    step_kw = change_kw if before.step_kw is None else min(change_kw, before.step_kw)
    shown = (*(x for x in before.shown if now_s - x[0] <= DELAY_S_MAX), (now_s, change_kw))
    loss = before.loss
    loss = None if loss is None else replace(loss, changes=loss.changes + 1)
    return replace(
        before,
        reading_kw=reading_kw,
        since_s=now_s,
        step_kw=step_kw,
        shown=shown,
        moves=(),
        doubt=None,
        loss=loss,
    )


def _powers(
    layout: Layout, snapshot: Snapshot, written: Mapping[str, Written], now_s: float
) -> tuple[frozenset[str], MeterMove]:
    """(what is read, what it gives now): beside the feeders' load, as far as that is read."""
    own = {
        a: v
        for a in (*layout.bess, *layout.gensets, *layout.pv)
        if (v := snapshot.value(layout.p[a])) is not None
    }
    feeders = {f: snapshot.value(layout.p[f]) for f in layout.feeders}
    known = {f: v for f, v in feeders.items() if v is not None}
    ours = {a for (a, name), p in layout.setpoint_of.items() if a in own and name in _POWERS and p in written}
    gave_kw = sum(own.values()) - sum(known.values())
    units = frozenset((*own, *known, *(f"{a} by us" for a in ours)))
    return units, MeterMove(now_s, gave_kw, sum(own[a] for a in ours))


_POWERS = ("p_set_kw", "p_limit_kw")


def _least_kw(layout: Layout, seen: MeterWatch) -> float:
    """What sources must move by for a meter that does not answer to be wrong [kW]."""
    ratings = layout.control.ratings_kw
    on_bus = [b.battery.p_nominal_kw for b in layout.bess.values()]
    on_bus += [g.p_rated_kw for g in layout.gensets.values()]
    on_bus += [p.p_ac_kw for p in layout.pv.values()] + [f.p_peak_kw for f in layout.feeders.values()]
    return max(
        MOVED_RATIO * max(ratings[LimitKind.IMPORT], ratings[LimitKind.EXPORT]),
        NOISE_RATIO * max(on_bus, default=0.0),
        STEPS * (STEP_KW if seen.step_kw is None else seen.step_kw),
    )


def _moved(seen: MeterWatch, units: frozenset[str], now: MeterMove) -> MeterWatch:
    """What sources gave since the reading last changed; of other units it is another series."""
    if units != seen.units or not seen.moves:
        return replace(seen, units=units, moves=(now,), doubt=None)
    moves = seen.moves
    if len(moves) > 1 and moves[-1].at_s - moves[-2].at_s < SAMPLE_S:
        moves = moves[:-1]
    first, recent = moves[0], tuple(m for m in moves[1:] if now.at_s - m.at_s <= RECENT_S)
    return replace(seen, moves=(first, *recent, now))


def _by(old: MeterMove, new: MeterMove, least_kw: float) -> bool:
    """Whether the bus, and of it what the edge commands, has moved so far, one way."""
    bus_kw, ours_kw = new.gave_kw - old.gave_kw, new.ours_kw - old.ours_kw
    return min(abs(bus_kw), abs(ours_kw)) >= least_kw and bus_kw * ours_kw > 0.0


def _doubted(seen: MeterWatch, reading_kw: float, least_kw: float, dt_s: float) -> MeterWatch:
    """In doubt while the reading does not answer a move; lost once it has not for the time it may take."""
    now, doubt = seen.moves[-1], seen.doubt
    now_s = now.at_s
    if doubt is not None and not _by(doubt.was, now, 0.5 * least_kw):
        return replace(seen, moves=(now,), doubt=None)  # it went back: there is nothing left to answer
    if doubt is None:
        # a source that is read later than the meter moves when the meter has shown it already
        shown_kw = sum(kw for _, kw in seen.shown)
        late_s = seen.since_s + DELAY_S_MAX
        needs = ((m, least_kw + (shown_kw if m.at_s < late_s else 0.0)) for m in reversed(seen.moves))
        was = next((m for m, kw in needs if _by(m, now, kw)), None)
        if was is None or now_s - seen.since_s < STILL_S:
            return replace(seen, doubt=None)
        wait_s = max(ECHO_S, SLOW_RATIO * (now_s - was.at_s)) + dt_s
        return replace(seen, doubt=MeterDoubt(was=was, until_s=now_s + wait_s))
    if now_s < doubt.until_s:
        return replace(seen, doubt=doubt)
    again = seen.lost_s is not None and now_s - seen.lost_s < FORGET_S
    loss = MeterLoss(reading_kw=reading_kw, gave_kw=now.gave_kw)
    return replace(seen, doubt=None, loss=loss, lost_s=now_s, times=seen.times + 1 if again else 1)


def _answered(seen: MeterWatch, reading_kw: float, least_kw: float) -> MeterWatch:
    """Believed again: it has changed often enough, or, for the first time, by what the sources gave less."""
    loss = seen.loss
    if loss is None:
        return seen
    back = loss.changes >= min(ANSWERS_MAX, ANSWERS * 2 ** (seen.times - 1))
    if seen.times == 1 and loss.gave_kw is not None:
        less_kw = loss.gave_kw - seen.moves[-1].gave_kw
        answer_kw = reading_kw - loss.reading_kw
        back = back or (abs(less_kw) >= least_kw and abs(answer_kw - less_kw) <= 0.5 * least_kw)
    return replace(seen, loss=None) if back else seen


def _unread(layout: Layout, watch: MeterWatch, observed: Observed) -> Observed:
    """The observation of a plant whose meter at the POI is not read, while it is lost."""
    if watch.loss is None:
        return observed
    power, point = observed.power, layout.p[layout.site.grid.id]
    load_kw = sum(observed.condition.feeder_kw.values())
    grid_kw = load_kw - power.pv_kw - power.genset_kw - power.bess_kw
    return replace(
        observed,
        condition=replace(observed.condition, grid_p_kw=None),
        power=replace(power, load_kw=load_kw, grid_kw=grid_kw, measured=False),
        meter_ok=False,
        meter_still=True,
        substituted=(*(p for p in observed.substituted if p != point), point),
    )
