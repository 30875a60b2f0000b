"""Devices, people and a production edge that hostile steps drive, and what must hold at each write.

What must hold is worked out anew here, at each write, from what was told to the edge until that moment. The
edge's own invariants are switched off: gate and last line have to stand alone.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dispatch.layout import layout_of
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from dispatch.writing.contention import LAG_S
from dispatch.writing.last_line import Newest
from dispatch.writing.outcomes import slack_of
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Proposal, WriteOutcome, WriteResult
from ems.control import ControlMode, Role
from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.requests import Ask, Received, Request, SetSetpoint, SwitchMode
from ems.site import GridMode, Site
from ems.telemetry import Quality, Reading
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import BASE
from tests.unit.dispatch.test_runtime import FakeRecorder, NoPlans, drive

BESS, PV, GEN, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request", "essential.close_request"
OTHERS = "gen2.p_set_kw"  # written by somebody else
CHARGE, DISCHARGE, STATE = "bess1.p_charge_kw_max", "bess1.p_discharge_kw_max", "bess1.state"
NEEDED = ("bess1.soc", CHARGE, DISCHARGE, STATE)
CAP, STOP, REMOTE, OWN = "grid1.p_discharge_kw_max", "bus.emergency_stop", "bus.remote", "bess1.remote"
RAMP = {BESS: 20.0, PV: 7.0}  # kW in a second
FREE = (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)
FORCED = (*FREE, Cause.PROTECTION)
AGE_S, CONTACT_AGE_S, TINY = 30.0, 3.0, 1e-6
BUDGET = 6
TOLD = UtilityLimit(
    id="dso", kind=LimitKind.BESS_DISCHARGE, point=CAP, watchdog_s=10.0, on_loss_kw=0.0
)  # fmt: skip


def plant() -> Site:
    base = site()
    setpoints = {
        p: replace(a, ramp_per_s=RAMP[p]) if p in RAMP else a for p, a in base.authority.setpoints.items()
    }
    setpoints["gen2.p_set_kw"] = replace(setpoints["gen2.p_set_kw"], writer="scada")  # somebody else's
    control = ControlParams(
        users={"ann": frozenset({Role.OPERATOR})}, emergency_stop={BESS: 0.0, PV: 0.0}, limits=(TOLD,)
    )
    return replace(base, control=control, authority=replace(base.authority, setpoints=setpoints))


SITE = plant()
LAYOUT = replace(layout_of(SITE), writes_per_day={BESS: BUDGET, PV: BUDGET})
OWNED = {p: a for p, a in SITE.authority.setpoints.items() if a.writer == "edge"}
CALM: dict[str, object] = {
    **BASE, CAP: 500.0, STOP: 1.0, REMOTE: 1.0, OWN: 1.0, "gen1.state": 0.0, "gen2.state": 0.0,
    CHARGE: 300.0, DISCHARGE: 250.0,
}  # fmt: skip
GRIDS: Mapping[str, Mapping[str, object]] = {
    "tied": {"grid1.breaker_closed": 1.0, "grid1.v_pu": 1.0, "bus.alive": 1.0, "bus.v_pu": 1.0, STATE: 1.0},
    "island": {"grid1.breaker_closed": 0.0, "grid1.v_pu": 0.0, "bus.alive": 1.0, STATE: 2.0},
    "black": {"grid1.breaker_closed": 0.0, "grid1.v_pu": 0.0, "bus.alive": 0.0, STATE: 0.0},
    "contradiction": {"grid1.breaker_closed": 1.0, "grid1.v_pu": 0.0},
    "unread": {"grid1.breaker_closed": None, "grid1.v_pu": None},
}


class Wanting:
    """A controller that wants whatever the step says."""

    name = "wanting"

    def __init__(self) -> None:
        self.wish: Mapping[str, Any] = {}

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        def of(point: str) -> dict[str, Target]:
            if point not in self.wish:
                return {}
            target = Target(value=self.wish[point], cause=Cause.PLAN, reason="a wish")
            return {point.partition(".")[0]: target}

        return Targets(
            source=Source.PLAN,
            bess_p_kw=of(BESS),
            pv_limit_kw=of(PV),
            genset_run=of(GEN),
            genset_p_kw=of(OTHERS),
            feeder_close=of(FEEDER),
        ), context.memory


class Recorder(FakeRecorder):
    """What was recorded of each command, in order."""

    def __init__(self) -> None:
        super().__init__([])
        self.of: dict[tuple[int, int], list[str]] = {}

    def intent(self, command: Command) -> None:
        self.of.setdefault((command.epoch, command.seq), []).append("intent")

    def outcome(self, result: WriteResult) -> None:
        self.of.setdefault((result.command.epoch, result.command.seq), []).append("outcome")


@dataclass
class Hostile:
    """Devices, people and an edge; `step` drives one cycle and judges it."""

    shadow: bool = False
    values: dict[str, object] = field(default_factory=lambda: dict(CALM))
    holds: dict[str, float] = field(default_factory=lambda: {BESS: 0.0, PV: 600.0, GEN: 0.0, FEEDER: 1.0})
    told: dict[str, tuple[object, float]] = field(default_factory=dict)  # to the edge: value, when it arrived
    contacts: dict[str, float] = field(default_factory=dict)  # last good position of each
    frozen: dict[str, float] = field(default_factory=dict)  # asset -> since
    silent: set[str] = field(default_factory=set)  # assets that answer nothing
    ends_s: dict[str, float] = field(default_factory=dict)  # request -> end of what was asked
    confirmed: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # (at, ours), taken
    highest: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    masked: set[str] = field(default_factory=set)  # another master's value that may pass for ours
    tried: set[str] = field(default_factory=set)  # points written to in this cycle
    late: tuple[int, tuple[str, Any]] | None = None
    outcome: tuple[WriteOutcome, bool] = (WriteOutcome.CONFIRMED, True)
    dt_s: float = 1.0
    epoch: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        self.clock, self.recorder, self.controller = VirtualClock(T0), Recorder(), Wanting()
        self.start()

    def start(self) -> None:
        """Another edge, with nothing known."""
        self.epoch += 1
        self.confirmed, self.ends_s, self.masked = {}, {}, set()
        self.edge = EdgeRuntime(
            SITE, clock=self.clock, device_io=self, plans=NoPlans(), recorder=self.recorder,
            controller=self.controller, shadow=self.shadow, epoch=self.epoch, newest=self.newest,
        )  # fmt: skip
        object.__setattr__(self.edge.setup, "layout", LAYOUT)
        self.edge._sender._layout = LAYOUT
        for name in ("decided", "writing", "sent"):  # the second net is taken away
            setattr(self.edge.invariants, name, lambda *_: None)

    # ---- the devices ----------------------------------------------------------------------------

    def change(self, what: tuple[str, Any]) -> None:
        point, value = what
        if point == "grid":
            self.values |= GRIDS[value]
        elif point == "calm":
            self.values, self.frozen, self.silent = dict(CALM), {}, set()
        elif point == "frozen":
            self.frozen.setdefault(value, self.clock.monotonic_s())
        elif point == "silent":
            self.silent.add(value)
        else:
            self.values[point] = value

    def foreign(self, point: str, value: float) -> None:
        """Another master; right after our own write, or with a value of ours, it cannot be told from us."""
        sent, slack = self.confirmed.get(point, []), slack_of(LAYOUT, point)
        lately = bool(sent) and self.clock.monotonic_s() - sent[-1][0] <= LAG_S
        self.holds[point] = value
        self.masked.discard(point)
        if lately or any(abs(value - x) <= slack for _, x in sent):
            self.masked.add(point)

    def readings(self) -> list[Reading]:
        now, now_s = self.clock.now(), self.clock.monotonic_s()
        values = {**self.values, BESS: self.holds[BESS], PV: self.holds[PV]}
        out = []
        for point, value in values.items():
            arrived_s = self.frozen.get(point.partition(".")[0], now_s)
            if arrived_s < now_s and point in self.told:
                value = self.told[point][0]  # it stands still
            value = None if point.partition(".")[0] in self.silent else value
            quality = Quality.COMM_FAILED if value is None else Quality.GOOD
            self.told[point] = value, arrived_s
            if point in (STOP, REMOTE, OWN) and value is not None and arrived_s == now_s:
                assert isinstance(value, float)
                self.contacts[point] = value
            out.append(
                Reading(point=point, value=value, quality=quality, source_time=now, arrived_s=arrived_s)  # type: ignore[arg-type]
            )
        return out

    async def read_all(self) -> Sequence[Reading]:
        return self.readings()

    def newest(self) -> Newest:
        if self.late is not None:
            count, what = self.late
            self.late = (count - 1, what) if count > 0 else None
            if count == 0:
                self.change(what)
                self.seen["late"] += 1
        return Newest(readings=self.readings())

    async def close(self) -> None:
        pass

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        (c,) = commands
        self.judge(c)
        self.tried.add(c.point)
        self.seen[c.cause] += 1
        outcome, done = self.outcome
        if outcome is WriteOutcome.CONFIRMED or (outcome is WriteOutcome.UNKNOWN and done):
            self.holds[c.point] = c.value
        if outcome is WriteOutcome.CONFIRMED:
            self.masked.discard(c.point)
            self.confirmed.setdefault(c.point, []).append((self.clock.monotonic_s(), c.value))
        return [WriteResult(command=c, outcome=outcome, detail="", finished_at=self.clock.now())]

    # ---- what must hold -------------------------------------------------------------------------

    def good(self, point: str, age_s: float = AGE_S) -> float | None:
        """What the edge may use of a point now."""
        value, arrived_s = self.told.get(point, (None, 0.0))
        if not isinstance(value, float) or self.clock.monotonic_s() - arrived_s > age_s:
            return None
        low, high = LAYOUT.range_of.get(point, (-1e300, 1e300))
        return value if low <= value <= high else None

    def stopped(self) -> bool:
        """The stop circuit was read open, now."""
        return self.good(STOP, CONTACT_AGE_S) == 0.0

    def interval(self) -> tuple[float, float]:
        """What the battery's setpoint may be: live limits, site file, protections, utility, in this order."""
        charge, discharge, cap = self.good(CHARGE), self.good(DISCHARGE), self.good(CAP)
        usable = self.good(STATE) in (1.0, 2.0)
        low = high = 0.0
        if usable and charge is not None and discharge is not None and self.good("bess1.soc") is not None:
            low, high = -max(0.0, charge), max(0.0, discharge)  # of what is known in part nothing is asked
        layers = [(OWNED[BESS].low, OWNED[BESS].high)]
        if self.edge.last is not None and not self.edge.state.held_safe:
            layers += [(b.low, b.high) for b in self.edge.last.bounds.get(BESS, ())]
        if cap is not None and cap >= 0.0:
            layers.append((-1e9, cap))
        for b_low, b_high in layers:
            low, high = min(max(low, b_low), high), max(min(high, b_high), low)
        return low, high

    def judge(self, c: Command) -> None:
        """At the wire, with what is known at this moment."""
        assert not self.shadow, "shadow writes nothing"
        a = OWNED[c.point]  # KeyError: not the edge's to write
        assert isinstance(c.value, float)
        assert math.isfinite(c.value), "finite"
        assert a.low <= c.value <= a.high, "the site file"
        device = c.point.partition(".")[0]
        assert self.contacts.get(REMOTE, 1.0) == 1.0, "the plant is in local"
        assert device != "bess1" or self.contacts.get(OWN, 1.0) == 1.0, "the device is in local"
        assert not self.stopped() or c.cause is Cause.EMERGENCY_STOP, "the stop is open"
        assert not self.edge.state.held_safe or c.cause in FREE, "held safe"
        if c.request_id in self.ends_s:
            assert c.cause is not Cause.OPERATOR or c.decided_s < self.ends_s[c.request_id], "over is over"
            assert c.cause is not Cause.OPERATOR or c.owner == "ann"
        assert (c.epoch, c.seq) > self.highest.get(device, (0, 0)), "epoch and sequence grow"
        assert c.epoch == self.epoch
        self.highest[device] = (c.epoch, c.seq)
        assert self.recorder.of.get((c.epoch, c.seq)) == ["intent"], (
            "an intent before the write, no outcome yet"
        )
        if c.point == BESS:
            self.judge_battery(c)
        elif c.point == PV and c.cause not in FREE:
            base_kw = self.bases(PV)
            most_kw = max(base_kw, default=math.inf) + RAMP[PV] * self.dt_s
            assert c.value <= most_kw + TINY, f"PV from {base_kw} to {c.value} by {c.cause}: {c.reason}"

    def judge_battery(self, c: Command) -> None:
        low, high = self.interval()
        if not self.stopped():
            assert low - TINY <= c.value <= high + TINY, f"inside [{low}, {high}], the tightest now"
        alone = self.good("grid1.breaker_closed") == 0.0
        assert not (alone and self.good(STATE) == 2.0), "who forms has no power setpoint"
        base_kw = self.bases(BESS)
        if c.cause in FORCED or not base_kw:
            return
        eases = any(abs(c.value) <= abs(b) + TINY and c.value * b >= 0.0 for b in base_kw)
        if any(self.good(p) is None for p in NEEDED):
            assert c.value == 0.0 or eases, "nothing new is asked for on bad readings"
        step = RAMP[BESS] * self.dt_s + TINY
        starts = [*base_kw, *(min(max(b, low), high) for b in base_kw)]
        near = any(abs(c.value - b) <= step or (abs(c.value) <= step and c.value * b <= 0.0) for b in starts)
        assert eases or near, f"from {starts} to {c.value} by {c.cause}: {c.reason}"

    def bases(self, point: str) -> list[float]:
        """Where a ramp may start: at what the device holds, where that was told; else at what it may."""
        held, sent = self.holds[point], self.confirmed.get(point, [])
        since = not sent or self.told[point][1] > sent[-1][0]  # told after our last write, not before it
        if self.good(point) == held and since and point not in self.masked:
            return [held, *([0.0] if self.in_doubt(point) else [])]
        read = self.good(point)
        return [held, sent[-1][1], *([] if read is None else [read])] if sent else []

    def in_doubt(self, point: str) -> bool:
        written = self.edge.state.written.get(point)
        return written is not None and not written.known

    # ---- a cycle --------------------------------------------------------------------------------

    def step(self, step: Mapping[str, Any]) -> None:
        self.tried, self.late = set(), step.get("late")
        self.dt_s, self.outcome = step["dt_s"], step.get("outcome", (WriteOutcome.CONFIRMED, True))
        for what in step.get("changes", ()):
            self.change(what)
        if "foreign" in step:
            point, value = step["foreign"]
            self.foreign(point, max(0.0, value) if point == PV else value)
        self.controller.wish = {**step["wish"], **({BESS: step["odd"]} if "odd" in step else {})}
        before = dict(self.holds)
        doubt = {p for p in (BESS, PV) if self.in_doubt(p)}
        was_late = self.late is not None
        received = self.received(step.get("ask"))
        decisions = drive(self.edge.cycle(self.dt_s, self.proposals(step.get("proposed")), received=received))
        for a in decisions.answers:
            self.seen["asked" if a.done else "not asked"] += 1
            if not a.done:
                self.ends_s.pop(a.request_id, None)
        self.seen.update(code for code, _ in self.edge.state.refused.values())
        if not was_late and self.outcome[0] is WriteOutcome.CONFIRMED:
            self.judge_protection(before, doubt)
        if step.get("end") == "safe_stop":
            drive(self.edge.safe_stop())
        self.judge_records()
        if step.get("end") == "restart":
            self.start()
        self.clock.advance(self.dt_s)

    def judge_protection(self, before: Mapping[str, float], doubt: set[str]) -> None:
        """What protects was written: no deadband, refresh, budget or other master withheld it."""
        d = self.edge.last
        assert d is not None
        if self.shadow or d.mode is not GridMode.GRID_TIED or self.edge.state.held_safe or self.stopped():
            return
        low, high = self.interval()
        wanted = {BESS: d.targets.bess_p_kw.get("bess1"), PV: d.targets.pv_limit_kw.get("pv1")}
        for point, target in wanted.items():
            asset = point.partition(".")[0]
            whole = all(self.good(p) is not None for p in (*(NEEDED if point == BESS else ()), point))
            auto = d.control[asset] is ControlMode.AUTO and self.contacts.get(REMOTE) == 1.0
            local = point == BESS and self.contacts.get(OWN, 1.0) != 1.0
            if target is None or point in doubt | self.masked or not whole or not auto or local:
                continue
            if asset not in self.edge.state.ready or (point == BESS and self.good(STATE) != 1.0):
                continue
            held = before[point]
            lower = abs(target.value) < abs(held) - TINY and target.value * held >= 0.0
            outside = point == BESS and not low - TINY <= held <= high + TINY
            if lower or outside:
                self.seen["protects"] += 1
                assert point in self.tried, f"{point} holds {held}, wanted {target.value} in [{low}, {high}]"

    def judge_records(self) -> None:
        """One outcome to each intent, and nothing else."""
        assert all(x == ["intent", "outcome"] for x in self.recorder.of.values())
        assert not self.shadow or not self.recorder.of
        self.recorder.of.clear()

    def proposals(self, proposed: tuple[str, float] | None) -> Sequence[Proposal]:
        if proposed is None:
            return ()
        point, value = proposed
        return (Proposal(point=point, value=value, cause=Cause.PLAN, reason="a program", owner="another"),)

    def received(self, ask: Ask | None) -> Sequence[Received]:
        if ask is None:
            return ()
        if isinstance(ask, SwitchMode):
            ask = replace(ask, mode=ControlMode(ask.mode))
        self.asked += 1
        name, now_s = f"r{self.asked}", self.clock.monotonic_s()
        if isinstance(ask, SetSetpoint) and ask.for_s is not None:
            self.ends_s[name] = now_s + ask.for_s
        request = Request(id=name, session="s", epoch=self.epoch, ttl_s=10.0, reason="why", ask=ask)
        return (Received(user="ann", n=self.asked, seen_s=now_s, request=request),)


def run(given_steps: Sequence[Mapping[str, Any]], *, shadow: bool = False) -> Hostile:
    world = Hostile(shadow=shadow)
    world.step({"wish": {BESS: 60.0, PV: 300.0}, "dt_s": 1.0})
    for step in given_steps:
        world.step(step)
    return world
