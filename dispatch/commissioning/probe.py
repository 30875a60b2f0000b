"""One setpoint, moved by small steps and back, and what was seen meanwhile.

A probe is a dialogue with the edge: each cycle it looks at what was decided and read, and says what to ask
next. It never moves a setpoint by more than 5 % of the rating at once and ends where it began. A PV limit
takes away no more than that in all, and for no longer than `BITE_S`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from dispatch.commissioning.conditions import rated_kw, room_kw, unmet
from dispatch.layout import Layout
from dispatch.vocabulary import Decisions
from ems.invariants import clamp
from ems.points import AssetKind
from ems.requests import Ask, Operate, Release, Select
from ems.telemetry import Snapshot

STEP_RATIO = 0.05  # of the rating
NUDGE_RATIO = 0.005  # first of all so little: ten times of it is still 5 %
REST_LOOKS = 4  # readings that make a state of rest
MOVE_S, HOME_S = 20.0, 10.0  # a step that has not arrived by then does not arrive
ANSWER_S = 5.0  # for select and operate
FAR_RATIO = 0.02  # of the rating beyond what was asked: at once back
HOPS_MAX = 60
CLEAR_RATIO = 0.2  # of a step: so far above the output a limit takes nothing away, whatever noise does
BITE_RATIO = 0.5  # of a step: less taken away shows nothing
BITE_S = 60.0  # so long after a limit first bit it is home
NEAR_RATIO = 0.25  # of a step: it has arrived


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Powers at rest [kW]; `rest_kw` is what grid and all other sources give beyond the load."""

    own_kw: float
    rest_kw: float | None
    others_kw: Mapping[str, float]
    noise_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One step and what came of it, everything as a change [kW].

    Parameters
    ----------
    value : what was written in the end: what was asked, or what a layer of authority left of it.
    read_back : what the device says it holds [unit of the setpoint]; None: it does not say.
    expected_kw : by how much the unit's power should change.
    own_kw : by how much it reads to have changed; None: no good reading.
    poi_kw : the same as the rest of the plant saw it.
    others_kw : changes of the other sources.
    cut_short : it went too far, and was ended at once.
    is_nudge : so little that noise hides what follows: it shows what goes far too far, and no more.
    """

    before: float  # unit of the setpoint; ratio
    asked: float  # unit of the setpoint; ratio
    value: float  # unit of the setpoint; ratio
    read_back: float | None  # unit of the setpoint; ratio
    expected_kw: float
    own_kw: float | None
    poi_kw: float | None
    others_kw: Mapping[str, float]
    noise_kw: float
    cut_short: bool
    is_nudge: bool
    why: str = ""  # of a write that was refused, narrowed or not taken


@dataclass(slots=True)
class _Look:
    """Readings of one cycle."""

    own_kw: float | None
    rest_kw: float | None
    others_kw: dict[str, float]
    read_back: float | None


@dataclass(slots=True)
class _Moving:
    """A step on its way."""

    asked: float  # unit of the setpoint; ratio
    value: float  # unit of the setpoint; ratio
    before: float  # unit of the setpoint; ratio
    seen: Seen
    since_s: float
    commanded: list[float] = field(default_factory=list)  # one a cycle, as it stands
    looks: list[_Look] = field(default_factory=list)
    why: str = ""


class Probe:
    """The steps of one setpoint.

    Parameters
    ----------
    point : the setpoint.
    """

    def __init__(self, layout: Layout, point: str) -> None:
        self.point = point
        self.hops: list[Hop] = []
        self.refused = ""  # why it was not begun, or not gone on with
        self.done = False
        self.start: float | None = None  # where it stood before [unit of the setpoint]
        self._layout = layout
        self._asset = point.partition(".")[0]
        self._kind = layout.kinds[self._asset]
        self._rated_kw = rated_kw(layout, point)
        self._room_kw = (0.0, 0.0)
        self._free_kw = 0.0  # what a PV plant gave, newest, before its limit bit
        self._most_kw = -math.inf  # the most of it
        self._bit_s: float | None = None  # when its limit first bit
        self._looks: list[_Look] = []
        self._moving: _Moving | None = None
        self._asked_s: float | None = None
        self._selected: float | None = None  # value that was selected
        self._homing = False

    @property
    def bipolar(self) -> bool:
        """Whether both directions must be shown."""
        a = self._layout.setpoints[self.point]
        return a.low < 0.0 < a.high

    def stop(self, why: str) -> None:
        """Go back to where it stood, and end."""
        self.refused = self.refused if self.refused else why
        self._homing = True

    def step(self, decisions: Decisions, snapshot: Snapshot, outcome: str = "") -> list[Ask]:
        """What to ask in the next cycle. `outcome`: what the device answered to a write it did not take."""
        now_s, look = snapshot.monotonic_s, self._look(snapshot)
        if self.done:
            return []
        if not self._homing and (why := unmet(self._layout, self.point, decisions, snapshot)) is not None:
            self.stop(why)
        if self._selected is not None:
            return self._answered(decisions, now_s)
        if self._moving is not None:
            self._move(decisions, look, now_s, outcome)
            return []
        self._looks.append(look)
        if len(self._looks) < REST_LOOKS and not self._homing:
            return []
        return self._next(snapshot, now_s)

    # ---- the dialogue ---------------------------------------------------------------------------

    def _next(self, snapshot: Snapshot, now_s: float) -> list[Ask]:
        """Select the next step, or end."""
        stands = self._looks[-1].read_back
        if self.start is None:
            self.start = stands
            self._room_kw = room_kw(self._layout, snapshot)
        if stands is None:
            self.refused = (
                self.refused
                if self.refused
                else f"{self.point} is not read back: where it stands is not known"
            )
            self.done = True
            return []
        if self._bit_s is None and not self._homing:
            self._gives(stands)
        value = self._target(stands, snapshot)
        if value is None or len(self.hops) >= HOPS_MAX:
            self.done = True
            return []
        self._selected, self._asked_s = value, now_s
        return [Release(point=self.point), Select(point=self.point, value=value)]

    def _answered(self, decisions: Decisions, now_s: float) -> list[Ask]:
        """The answer to select, then to operate."""
        assert self._selected is not None
        assert self._asked_s is not None
        answers = [a for a in decisions.answers if a.code != "not_held" and "released" not in a.text]
        token = next((a.token for a in answers if a.done and a.token is not None), None)
        if token is not None:
            return [Operate(token=token)]
        no = next((a for a in answers if not a.done), None)
        if no is not None or now_s - self._asked_s > ANSWER_S:
            said = "no answer" if no is None else f"{no.code}: {no.text}"
            self._selected = None
            if self._homing:
                self.done = True
            self.stop(f"the edge refused it ({said})")
        elif any(a.done for a in answers):
            stands = self._looks[-1].read_back
            assert stands is not None
            seen = self._seen()
            self._moving = _Moving(
                asked=self._selected, value=self._selected, before=stands, seen=seen, since_s=now_s
            )
            self._note(self._moving, decisions)
            self._selected = None
        return []

    def _move(self, decisions: Decisions, look: _Look, now_s: float, outcome: str) -> None:
        """Watch a step until it has arrived, gone too far, or not arrived in time."""
        m = self._moving
        assert m is not None
        m.looks.append(look)
        m.why = outcome if outcome else m.why
        expected_kw = self._expected_kw(m)
        far = self._far(m)
        there = self._arrived(m, expected_kw)
        late = now_s - m.since_s >= (HOME_S if self._homing else MOVE_S)
        if far or there or late:
            self.hops.append(self._hop(m, expected_kw, cut_short=far))
            self._moving, self._looks = None, [look]
            self._homing = self._homing or far or not there  # nothing more is to be found out by moving on
            return
        self._note(m, decisions)

    def _note(self, m: _Moving, decisions: Decisions) -> None:
        """What was written in this cycle, and shows in the next one."""
        m.value = next((c.value for c in decisions.commands if c.point == self.point), m.value)
        m.commanded.append(m.value)
        if self._bit_s is None and self._expected_kw(m) < 0.0:
            self._bit_s = m.since_s
        for refusal in decisions.refusals:
            if refusal.point == self.point:
                m.why = f"{refusal.code}: {refusal.reason}"

    # ---- where to ------------------------------------------------------------------------------

    def _target(self, stands: float, snapshot: Snapshot) -> float | None:
        """The next value; None: nothing is left to do."""
        assert self.start is not None
        step_kw = STEP_RATIO * self._rated_kw
        resolution = 1e-3 * self._rated_kw
        if self._homing:
            if abs(stands - self.start) <= resolution or self._stuck(stands):
                return None
            return clamp(self.start, stands - step_kw, stands + step_kw)
        if self._kind is AssetKind.PV:
            return self._next_limit(stands, snapshot)
        for change_kw in self._changes_kw():
            if not any(abs(h.asked - (self.start + change_kw)) <= resolution for h in self.hops):
                away = abs(stands - self.start) > resolution
                return self.start if away else self.start + change_kw
        self._homing = True
        return self._target(stands, snapshot)

    def _changes_kw(self) -> list[float]:
        """Up and down, as far as the caps at the POI and the limits of the setpoint leave room [kW]."""
        assert self.start is not None
        a, step_kw = self._layout.setpoints[self.point], STEP_RATIO * self._rated_kw
        fall_kw, rise_kw = self._room_kw
        low, high = self._live_kw(a.low, a.high)
        up = rise_kw >= step_kw and self.start + step_kw <= high
        down = fall_kw >= step_kw and self.start - step_kw >= low
        nudge_kw = NUDGE_RATIO * self._rated_kw
        first = [nudge_kw] if up else [-nudge_kw] if down else []
        return [*first, *([step_kw] if up else []), *([-step_kw] if down else [])]

    def _live_kw(self, low: float, high: float) -> tuple[float, float]:
        if self._kind is not AssetKind.GENSET:
            return low, high
        return max(low, self._layout.gensets[self._asset].p_min_kw), high

    def _next_limit(self, stands: float, snapshot: Snapshot) -> float | None:
        """Down a step at a time to just above what the plant gives, one step that bites, then back up."""
        step_kw = STEP_RATIO * self._rated_kw
        bitten = any(h.expected_kw < -BITE_RATIO * step_kw for h in self.hops)
        target = self._lower(stands, step_kw)
        fall_kw = room_kw(self._layout, snapshot)[0]
        low = self._layout.setpoints[self.point].low
        if self._most_kw - self._free_kw > (1.0 - BITE_RATIO) * step_kw and not bitten:
            fell_kw = self._most_kw - self._free_kw
            self.stop(
                f"the power fell by {fell_kw:.1f} kW before the limit bit: another time, by a steady sun"
            )
        elif self._time_is_up(snapshot.monotonic_s) and not bitten:
            self.stop(f"{BITE_S:.0f} s would not do for a step that shows and the way back")
        if self._homing or bitten or fall_kw < step_kw or target < low:
            self._homing = True
            return self._target(stands, snapshot)
        return target

    def _lower(self, stands: float, step_kw: float) -> float:
        """The next lower limit; all that it takes away is at most one step of what was given at first."""
        clear_kw = CLEAR_RATIO * step_kw
        least = self._most_kw - step_kw
        if not self.hops:
            return max(stands - NUDGE_RATIO * self._rated_kw, least)
        above_kw = stands - self._free_kw - clear_kw
        if above_kw >= clear_kw:  # it can be brought nearer without a bite
            return stands - min(step_kw, above_kw)
        return max(stands - step_kw, least)

    def _gives(self, stands: float) -> None:
        """What the plant gives before its limit bites. A limit that may bite from the start counts for it."""
        self._free_kw = min(self._seen().own_kw, stands)
        near = not self.hops and stands - self._free_kw <= CLEAR_RATIO * STEP_RATIO * self._rated_kw
        self._most_kw = max(self._most_kw, stands if near else self._free_kw)

    def _time_is_up(self, now_s: float) -> bool:
        """After a first bite another step and the way back might take more than `BITE_S`."""
        ramp = self._layout.setpoints[self.point].ramp_per_s
        way_s = HOME_S + (STEP_RATIO * self._rated_kw / ramp if ramp else 0.0)
        return self._bit_s is not None and now_s - self._bit_s + MOVE_S + way_s > BITE_S

    def _stuck(self, stands: float) -> bool:
        """It was asked twice to go home and did not move."""
        last = self.hops[-2:]
        still = all(h.asked == last[0].asked and self._holds(stands, h.before) for h in last)
        return len(last) == 2 and still

    def home(self, snapshot: Snapshot) -> bool:
        """Whether the setpoint stands where it stood before; also where it was never moved."""
        if self.start is None or not self.hops:
            return True
        last, stands = self.hops[-1], snapshot.value(self.point)
        narrowed = last.asked == self.start and not self._holds(last.value, self.start)
        return self._holds(stands, self.start) or (narrowed and self._holds(stands, last.value))

    # ---- what is seen --------------------------------------------------------------------------

    def _look(self, snapshot: Snapshot) -> _Look:
        layout = self._layout
        kw = {a: v for a in layout.metered if (v := snapshot.value(layout.p[a])) is not None}
        rest_kw = None
        if len(kw) == len(layout.metered):
            rest_kw = math.fsum(-v if a in layout.feeders else v for a, v in kw.items() if a != self._asset)
        elif layout.site.grid.id in kw:
            rest_kw = kw[layout.site.grid.id]
        others = {
            a: v
            for a, v in kw.items()
            if a not in layout.feeders and a not in (self._asset, layout.site.grid.id)
        }
        return _Look(
            own_kw=kw.get(self._asset),
            rest_kw=rest_kw,
            others_kw=others,
            read_back=snapshot.value(self.point),
        )

    def _seen(self) -> Seen:
        looks = self._looks[-REST_LOOKS:]
        own = [x.own_kw for x in looks if x.own_kw is not None]
        rest = [x.rest_kw for x in looks if x.rest_kw is not None]
        others = {a: fmean(x.others_kw[a] for x in looks if a in x.others_kw) for a in looks[-1].others_kw}
        noise = max(pstdev(own) if own else 0.0, pstdev(rest) if rest else 0.0)
        return Seen(
            own_kw=fmean(own) if own else 0.0,
            rest_kw=fmean(rest) if rest else None,
            others_kw=others,
            noise_kw=noise,
        )

    def _expected_kw(self, m: _Moving) -> float:
        """By how much the unit's power should change; a limit above what it gave at first changes nothing."""
        if self._kind is not AssetKind.PV:
            return m.value - m.before
        return min(m.value, self._free_kw) - min(m.before, self._free_kw)

    def _far(self, m: _Moving) -> bool:
        """Twice in a row much further than asked, by its own reading or by the rest of the plant's."""
        allowed_kw = 2.0 * abs(m.value - m.before) + FAR_RATIO * self._rated_kw + 4.0 * m.seen.noise_kw
        last = m.looks[-2:]
        if len(last) < 2:
            return False
        own = all(x.own_kw is not None and abs(x.own_kw - m.seen.own_kw) > allowed_kw for x in last)
        rest = m.seen.rest_kw is not None and all(
            x.rest_kw is not None and abs(x.rest_kw - m.seen.rest_kw) > allowed_kw for x in last
        )
        return own or rest

    def _arrived(self, m: _Moving, expected_kw: float) -> bool:
        if len(m.looks) < REST_LOOKS or not self._taken(m):
            return False
        if self._is_nudge(m):
            return True
        still = expected_kw == 0.0  # a limit that does not bite: noise may not pass for a step
        moved_kw = STEP_RATIO * self._rated_kw if still else abs(expected_kw)
        near_kw = max(NEAR_RATIO * moved_kw, 3.0 * m.seen.noise_kw)
        own = [x.own_kw for x in m.looks[-REST_LOOKS:]]
        if not all(x is not None and abs(x - m.seen.own_kw - expected_kw) <= near_kw for x in own):
            return False
        if m.seen.rest_kw is None:
            return True
        rest = [x.rest_kw for x in m.looks[-REST_LOOKS:]]
        return all(x is not None and abs(m.seen.rest_kw - x - expected_kw) <= 2.0 * near_kw for x in rest)

    def _is_nudge(self, m: _Moving) -> bool:
        return abs(m.asked - m.before) < 0.2 * STEP_RATIO * self._rated_kw

    def _taken(self, m: _Moving) -> bool:
        """The device holds what was written, now or a moment ago."""
        return any(self._holds(m.looks[-1].read_back, v) for v in m.commanded[-2:])

    def _holds(self, read_back: float | None, value: float) -> bool:
        deadband = self._layout.setpoints[self.point].deadband
        return read_back is not None and abs(read_back - value) <= max(deadband, 2e-3 * self._rated_kw)

    def _hop(self, m: _Moving, expected_kw: float, *, cut_short: bool) -> Hop:
        looks = m.looks[-2:] if cut_short else m.looks[-REST_LOOKS:]
        own = [x.own_kw for x in looks if x.own_kw is not None]
        rest = [x.rest_kw for x in looks if x.rest_kw is not None]
        whole = len(own) == len(looks)
        poi = None if not rest or m.seen.rest_kw is None else m.seen.rest_kw - fmean(rest)
        others = {
            a: fmean(x.others_kw[a] for x in looks if a in x.others_kw) - kw
            for a, kw in m.seen.others_kw.items()
            if any(a in x.others_kw for x in looks)
        }
        return Hop(
            before=m.before,
            asked=m.asked,
            value=m.looks[-1].read_back if self._taken(m) and m.looks[-1].read_back is not None else m.value,
            read_back=m.looks[-1].read_back,
            expected_kw=expected_kw,
            own_kw=fmean(own) - m.seen.own_kw if whole else None,
            poi_kw=poi,
            others_kw=others,
            noise_kw=m.seen.noise_kw,
            cut_short=cut_short,
            is_nudge=self._is_nudge(m),
            why=m.why,
        )
