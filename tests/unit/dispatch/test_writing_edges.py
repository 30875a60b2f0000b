"""The gate before the wire at its edges: what no plant of a scenario brings about, and what must hold."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import observe
from dispatch.state import EdgeState, ObserverMemory, Written
from dispatch.vocabulary import Source, Target, Targets, TickInput
from dispatch.writing.commands import (
    Asked,
    _assert_safe,
    assert_may,
    gate_input_of,
    news,
    only_numbers,
    proposals_of,
    write,
)
from dispatch.writing.contention_memory import ContentionMemory, Contest
from dispatch.writing.gate import gate
from dispatch.writing.last_line import LINE_AGE_S, Line, Newest
from dispatch.writing.safe_table import safe_proposals
from dispatch.writing.sending import Decided, Sender, has_loop
from ems.assets import ActuatorSafety
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Proposal, Refusal, WriteOutcome, WriteResult
from ems.control import ControlMode
from ems.control_site import ControlParams
from ems.errors import InvariantBroken
from ems.points import BessState
from ems.site import GridMode
from ems.telemetry import Reading, Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import LAYOUT, condition, gate_input, setpoint
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_last_line import RULING, command, in_mode
from tests.unit.dispatch.test_runtime import FakeIO, FakeRecorder, drive

BESS, PV, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "essential.close_request"


class TestProposals:
    """Who is heard at all, before authority ranks them."""

    layout = layout_of(
        replace(site(), control=ControlParams(emergency_stop={BESS: 0.0, PV: 0.0}))  # its list
    )
    shot = snapshot(T0, 0.0)
    wishes = Targets(
        source=Source.PLAN,
        plan_id="p1",
        bess_p_kw={"bess1": Target(value=80.0, cause=Cause.PLAN, reason="plan")},
        pv_limit_kw={"pv1": Target(value=300.0, cause=Cause.PLAN, reason="plan")},
        feeder_close={"critical": Target(value=1.0, cause=Cause.PLAN, reason="it has no breaker")},
    )

    def asked(
        self,
        ruling=RULING,
        *,
        held_safe: bool = False,
        wishes: Targets = wishes,
        people: Sequence[Proposal] = (),
    ) -> list[Proposal]:
        _, observed = observe(self.layout, ObserverMemory(mode=GridMode.GRID_TIED), self.shot, {}, 1.0, {})
        given = TickInput(snapshot=self.shot, plan=None, outages=(), dt_s=1.0, proposals=tuple(people))
        state = EdgeState(epoch=1, held_safe=held_safe)
        return proposals_of(self.layout, "owner", state, observed, wishes, given, ruling)

    def test_plan_is_asked_in_its_own_name_and_what_has_no_setpoint_is_not(self):
        got = {p.point: (p.value, p.cause, p.owner, p.plan_id) for p in self.asked()}
        assert got == {
            BESS: (80.0, Cause.PLAN, "owner", "p1"),
            PV: (300.0, Cause.PLAN, "owner", "p1"),
        }

    def test_plan_that_is_followed_no_longer_is_the_edges_own_doing(self):
        got = self.asked(wishes=replace(self.wishes, plan_id=None))
        assert {p.cause for p in got} == {Cause.RULES}

    def test_what_a_person_or_a_protection_wants_without_a_plan_stays_theirs(self):
        bess = {"bess1": Target(value=80.0, cause=Cause.PROTECTION, reason="a cap")}
        got = self.asked(wishes=replace(self.wishes, plan_id=None, bess_p_kw=bess))
        assert {p.point: p.cause for p in got} == {BESS: Cause.PROTECTION, PV: Cause.RULES}

    def test_emergency_stop_speaks_alone_whatever_else_holds(self):
        ruling = replace(RULING, stopping=True, blocked={BESS: "a door"})
        for held_safe in (False, True):
            got = {p.point: (p.value, p.cause) for p in self.asked(ruling, held_safe=held_safe)}
            assert got == {BESS: (0.0, Cause.EMERGENCY_STOP), PV: (0.0, Cause.EMERGENCY_STOP)}

    def test_held_safe_is_the_safe_table_alone_without_what_an_interlock_blocks(self):
        got = self.asked(replace(RULING, blocked={BESS: "a door"}), held_safe=True)
        assert [(p.point, p.value, p.cause) for p in got] == [(PV, 0.0, Cause.SAFE_TABLE)]

    def test_device_in_off_has_its_safe_value_and_the_others_their_plan(self):
        modes = {**RULING.modes, "bess1": ControlMode.OFF}
        got = {p.point: (p.value, p.cause) for p in self.asked(replace(RULING, modes=modes))}
        assert got == {BESS: (0.0, Cause.SAFE_TABLE), PV: (300.0, Cause.PLAN)}
        blocked = replace(RULING, modes=modes, blocked={BESS: "a door"})
        assert [p.point for p in self.asked(blocked)] == [PV]

    def test_device_in_local_is_asked_for_nothing(self):
        got = self.asked(replace(RULING, local=frozenset({"bess1"})))
        assert [p.point for p in got] == [PV]

    @pytest.mark.parametrize(("expires_s", "heard"), [(None, True), (0.5, True), (0.0, False), (-1.0, False)])
    def test_wish_of_a_person_counts_until_it_expires(self, expires_s: float | None, heard: bool):
        wish = Proposal(
            point=BESS, value=5.0, cause=Cause.OPERATOR, reason="r", owner="anna", expires_s=expires_s
        )
        assert (wish in self.asked(people=[wish])) is heard


def test_oracles_in_production_break_on_what_the_gate_must_never_let_pass():
    """A gate that is wrong must not be found out by the plant."""
    _assert_safe(LAYOUT, command(value=500.0), -500.0, 500.0)
    for wrong, low, high in (
        (command("nobody.p_set_kw"), -500.0, 500.0),
        (command(value=math.nan), -500.0, 500.0),
        (command(value=math.inf), -math.inf, math.inf),
        (command(value=100.0), -500.0, 99.0),
        (command(value=100.0), 101.0, 500.0),
        (command(value=501.0), -1000.0, 1000.0),  # inside its layers, outside the site file
        (command(value=-501.0), -1000.0, 1000.0),
    ):
        with pytest.raises(InvariantBroken, match=wrong.point.replace(".", r"\.")):
            _assert_safe(LAYOUT, wrong, low, high)


@pytest.mark.parametrize(
    "ruling",
    [
        replace(RULING, local=frozenset({"bess1"})),
        replace(RULING, blocked={BESS: "a door"}),
        in_mode(ControlMode.MANUAL),
        replace(RULING, modes={}),  # a device that authority does not know
    ],
)
def test_oracle_breaks_on_a_command_without_the_right(ruling):
    assert_may(command(), RULING)
    with pytest.raises(InvariantBroken, match=r"authority let bess1\.p_set_kw"):
        assert_may(command(), ruling)


def ramped(per_s: float) -> Layout:
    plant = site()
    setpoints = dict(plant.authority.setpoints)
    setpoints[PV] = replace(setpoints[PV], ramp_per_s=per_s)
    return layout_of(replace(plant, authority=replace(plant.authority, setpoints=setpoints)))


@pytest.mark.parametrize(
    ("value", "cause", "sent"),
    [
        (300.0, Cause.PLAN, 107.0),  # from the 100 that it was sent, not from the 400 that are read back
        (50.0, Cause.PLAN, 50.0),
        (300.0, Cause.SAFE_TABLE, 300.0),
        (300.0, Cause.EMERGENCY_STOP, 300.0),
    ],
)
def test_gate_pv_limit_read_back_higher_rises_only_from_what_was_sent(
    value: float, cause: Cause, sent: float
):
    """A device that reads 400 back may hold 100: going to 300 may be a step up of 200."""
    given = replace(gate_input(), ours={PV: 100.0})
    stands = Written(value=400.0, at_s=0.0, known=True)
    out = gate(ramped(7.0), setpoint(PV, value, cause=cause, protective=True), stands, given, 1)
    assert isinstance(out, Command)
    assert out.value == pytest.approx(sent)
    assert ("which it may hold" in out.reason) is (sent == 107.0)
    unbounded = gate(LAYOUT, setpoint(PV, value, cause=cause, protective=True), stands, given, 1)
    assert isinstance(unbounded, Command)
    assert unbounded.value == value  # no ramp, nothing to hold


@pytest.mark.parametrize(
    ("low", "high", "value"), [(math.nan, 500.0, 1.0), (-500.0, math.inf, 1.0), (-500.0, 500.0, math.nan)]
)
def test_gate_what_is_not_finite_is_refused_by_that_name(low: float, high: float, value: float):
    out = gate(LAYOUT, setpoint(BESS, value, low=low, high=high), None, gate_input(), 1)
    assert getattr(out, "code", None) == "not_finite"


@pytest.mark.parametrize("writer", ["edge", "scada"])
def test_gate_writes_only_points_whose_owner_is_the_edge(writer: str):
    plant = site()
    setpoints = {**plant.authority.setpoints}
    setpoints[BESS] = replace(setpoints[BESS], writer=writer)
    layout = layout_of(replace(plant, authority=replace(plant.authority, setpoints=setpoints)))
    out = gate(layout, setpoint(BESS, 10.0), None, gate_input(), 1)
    assert isinstance(out, Command) is (writer == "edge")
    assert getattr(out, "code", None) == (None if writer == "edge" else "not_authorised")


@pytest.mark.parametrize("kwargs", [{"fresh": False}, {"mode": GridMode.UNKNOWN}])
@pytest.mark.parametrize(
    ("value", "last", "passes"),
    [
        (1.0, 1.0, True),  # nothing new is asked for
        (0.0, 0.0, True),
        (0.0, 1.0, False),  # less is not safer for a breaker or a genset
        (1.0, 0.0, False),
        (0.0, None, False),
    ],
)
def test_gate_on_bad_ground_a_switch_stays_as_it_is(
    value: float, last: float | None, passes: bool, kwargs: dict[str, Any]
):
    stands = None if last is None else Written(value=last, at_s=0.0, known=True)
    out = gate(LAYOUT, setpoint(FEEDER, value), stands, gate_input(**kwargs), 1)
    assert isinstance(out, Command) is passes


TABLE = ActuatorSafety(
    grid_tied=1.0, islanded=2.0, black=3.0, behaviour=LAYOUT.setpoints[BESS].safety.behaviour
)


@pytest.mark.parametrize(
    ("mode", "state", "safety", "value"),
    [
        (GridMode.GRID_TIED, BessState.FOLLOWING, TABLE, 1.0),
        (GridMode.ISLANDED, BessState.FOLLOWING, TABLE, 2.0),
        (GridMode.BLACK, BessState.FOLLOWING, TABLE, 3.0),
        (GridMode.BLACK, None, TABLE, 3.0),
        (GridMode.GRID_TIED, BessState.FORMING, TABLE, None),  # it carries the bus: left alone in every mode
        (GridMode.UNKNOWN, BessState.FORMING, TABLE, None),
        (GridMode.UNKNOWN, BessState.FOLLOWING, TABLE, 1.0),  # who follows is tied to somebody
        (GridMode.UNKNOWN, None, TABLE, None),
        (GridMode.UNKNOWN, BessState.OFF, TABLE, None),
        (GridMode.UNKNOWN, None, replace(TABLE, islanded=1.0), 1.0),  # safe in either: safe
        (GridMode.ISLANDED, BessState.FOLLOWING, replace(TABLE, islanded=None), None),
        (GridMode.UNKNOWN, BessState.FOLLOWING, replace(TABLE, grid_tied=None), None),
    ],
)
def test_safe_table_has_a_value_per_mode_or_leaves_it(
    mode: GridMode, state: BessState | None, safety: ActuatorSafety, value: float | None
):
    layout = replace(LAYOUT, setpoints={BESS: replace(LAYOUT.setpoints[BESS], safety=safety)})
    got = safe_proposals(layout, mode, {"bess1": state}, "a test")
    assert [p.value for p in got] == ([] if value is None else [value])
    assert all((p.point, p.cause, p.owner) == (BESS, Cause.SAFE_TABLE, "edge") for p in got)


class BrokenRecorder(FakeRecorder):
    """No intent can be written down: a full disk."""

    def intent(self, command: Command) -> None:
        raise OSError("disk full")


class BrokenOutcome(FakeRecorder):
    def outcome(self, result: WriteResult) -> None:
        raise OSError("disk full")


def sent_with(
    recorder: FakeRecorder, *commands: Command, arrives: bool = True
) -> tuple[FakeIO, dict[str, Written], list[str]]:
    """(devices, what the points stand at, what broke) after these commands were sent."""
    clock = VirtualClock(T0)
    io = FakeIO(clock, recorder.log)
    state = EdgeState(epoch=1, observer=ObserverMemory(mode=GridMode.GRID_TIED))

    def arrived(readings: Sequence[Reading]) -> Snapshot:
        if not arrives:
            raise ValueError("no image")
        return snapshot(T0, 0.0)

    sender = Sender(LAYOUT, clock=clock, io=io, recorder=recorder, newest=None)
    decided = Decided(before={}, mode=GridMode.GRID_TIED, bounds={})
    sent = drive(sender.send(commands, decided, lambda: state, arrived))
    assert set(sent.unconfirmed) == {p for p, w in sent.written.items() if not w.known}
    return io, dict(sent.written), [str(b) for b in sent.broken]


def test_sending_no_write_without_its_intent_on_record_but_what_makes_safe():
    """Who cannot write down what he is about to do does not do it; the safe table goes out all the same."""
    plan, safe = command(BESS, 20.0), command(PV, 0.0, cause=Cause.SAFE_TABLE, seq=2)
    io, written, broken = sent_with(BrokenRecorder([]), plan, safe)
    assert [c.point for c in io.sent] == [PV]
    assert broken == ["disk full", "disk full"]
    assert written[BESS].wanted == 20.0  # not known to hold, and written again
    assert not written[BESS].known
    assert written[PV] == Written(value=0.0, at_s=safe.decided_s, known=True)


def test_sending_outcome_that_cannot_be_recorded_is_not_known():
    plan, stop = command(BESS, 20.0), command(PV, 0.0, cause=Cause.EMERGENCY_STOP, seq=2)
    io, written, broken = sent_with(BrokenOutcome([]), plan, stop)
    assert [c.point for c in io.sent] == [BESS, PV]
    assert broken == ["disk full", "disk full"]
    assert (written[BESS].known, written[PV].known) == (False, True)


def test_sending_line_that_cannot_be_drawn_lets_only_what_makes_safe_pass():
    recorder = FakeRecorder([])
    plan, safe = command(BESS, 20.0), command(PV, 0.0, cause=Cause.SAFE_TABLE, seq=2)
    io, written, broken = sent_with(recorder, plan, safe, arrives=False)
    assert [c.point for c in io.sent] == [PV]
    assert broken == ["no image", "no image"]
    assert recorder.log == ["intent 2", "write 1", "outcome 2"]
    assert not written[BESS].known


def test_sending_one_command_has_one_intent_before_and_one_outcome_after():
    recorder = FakeRecorder([])
    io, written, broken = sent_with(recorder, command(BESS, 20.0), command(PV, 300.0, seq=2))
    assert not broken
    assert recorder.log == ["intent 1", "write 1", "outcome 1", "intent 2", "write 1", "outcome 2"]
    assert {p: w.value for p, w in written.items()} == {BESS: 20.0, PV: 300.0}
    assert {c.seq for c in io.sent} == {1, 2}


def test_line_is_drawn_anew_when_something_arrives_grows_old_or_is_held():
    """A line kept too long is a decision on what was."""
    given = gate_input(now_s=100.0)
    here = Line(
        layout=LAYOUT,
        decided_in=GridMode.GRID_TIED,
        condition=condition(True),
        given=given,
        ruling=RULING,
        bounds={},
        snapshot=snapshot(T0, 100.0),
    )
    calm, held = EdgeState(epoch=1), EdgeState(epoch=1, held_safe=True)
    assert here.holds(Newest(), calm, 100.0)
    assert here.holds(Newest(), calm, 100.0 + 0.9 * LINE_AGE_S)
    assert not here.holds(Newest(), calm, 100.0 + LINE_AGE_S + 1e-9)
    assert not here.holds(Newest(), calm, 99.9)
    assert not here.holds(Newest(), held, 100.0)
    assert not here.holds(Newest(readings=tuple(here.snapshot.readings.values())), calm, 100.0)


def test_sending_write_that_raises_has_an_outcome_which_is_unknown(monkeypatch: pytest.MonkeyPatch):
    """A driver's bug: whether the device has it, nobody knows."""

    async def write(self: FakeIO, commands: Sequence[Command]) -> Sequence[WriteResult]:
        raise RuntimeError("a driver's bug")

    outcomes: list[WriteResult] = []
    recorder = FakeRecorder([])
    monkeypatch.setattr(FakeIO, "write", write)
    monkeypatch.setattr(recorder, "outcome", outcomes.append)
    _, written, broken = sent_with(recorder, command(BESS, 20.0), command(PV, 300.0, seq=2))
    assert recorder.log == ["intent 1", "intent 2"]
    assert [(r.command.seq, r.outcome) for r in outcomes] == [
        (1, WriteOutcome.UNKNOWN),
        (2, WriteOutcome.UNKNOWN),
    ]
    assert {r.detail for r in outcomes} == {"RuntimeError: a driver's bug"}
    assert broken == ["a driver's bug"] * 2
    assert not any(w.known for w in written.values())


@pytest.mark.parametrize("outcome", [WriteOutcome.UNKNOWN, WriteOutcome.REJECTED, WriteOutcome.NOT_SENT])
def test_sending_what_was_not_confirmed_is_named(outcome: WriteOutcome):
    clock = VirtualClock(T0)
    io = FakeIO(clock, [], outcome=outcome)
    sender = Sender(LAYOUT, clock=clock, io=io, recorder=FakeRecorder([]), newest=None)
    before = {BESS: Written(value=5.0, at_s=0.0, known=True)}
    decided = Decided(before=before, mode=GridMode.GRID_TIED, bounds={})
    state = EdgeState(epoch=1, written=before, observer=ObserverMemory(mode=GridMode.GRID_TIED))
    commands = [command(BESS, 20.0)]
    sent = drive(sender.send(commands, decided, lambda: state, lambda readings: snapshot(T0, 0.0)))
    assert sent.unconfirmed == (BESS,)
    assert (sent.written[BESS].value, sent.written[BESS].wanted) == (5.0, 20.0)


async def test_sending_devices_do_not_wait_for_one_another():
    """With a loop the devices are written side by side; without one, one after the other."""
    assert has_loop()
    gate, order = asyncio.Event(), []

    class Slow(FakeIO):
        async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
            order.append(commands[0].point)
            if commands[0].point == BESS:
                await asyncio.wait_for(gate.wait(), 5.0)
            gate.set()
            return await super().write(commands)

    clock = VirtualClock(T0)
    sender = Sender(LAYOUT, clock=clock, io=Slow(clock, []), recorder=FakeRecorder([]), newest=None)
    state = EdgeState(epoch=1, observer=ObserverMemory(mode=GridMode.GRID_TIED))
    decided = Decided(before={}, mode=GridMode.GRID_TIED, bounds={})
    commands = [command(BESS, 20.0), command(PV, 300.0, seq=2)]
    sent = await sender.send(commands, decided, lambda: state, lambda readings: snapshot(T0, 0.0))
    assert order == [BESS, PV]
    assert {p: w.known for p, w in sent.written.items()} == {BESS: True, PV: True}


def test_sending_without_a_loop_there_is_none():
    assert not has_loop()


def wanting(value: float) -> Targets:
    return Targets(
        source=Source.PLAN,
        bess_p_kw={
            "bess1": Target(value=value, cause=Cause.PLAN, reason="r"),
            "bess2": Target(value=7.0, cause=Cause.PLAN, reason="r"),
        },
        pv_limit_kw={"pv1": Target(value=300.0, cause=Cause.PLAN, reason="r")},
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_wish_that_is_no_number_is_refused_by_name_and_the_others_stay(value: float):
    wishes, (refusal,) = only_numbers("planner", wanting(value), T0)
    assert wishes.bess_p_kw.keys() == {"bess2"}
    assert wishes.pv_limit_kw.keys() == {"pv1"}
    assert (refusal.point, refusal.code, refusal.cause) == (BESS, "not_finite", Cause.PLAN)
    assert "planner" in refusal.reason


@pytest.mark.parametrize(
    ("told", "shown"), [("full", math.nan), (None, math.nan), (10**400, math.nan), (math.inf, math.inf)]
)
def test_wish_of_whatever_kind_is_refused_and_shown_as_it_was(told: Any, shown: float):
    """A number is shown in the refusal as it was wanted; what is none, as not a number."""
    _, (refusal,) = only_numbers("planner", wanting(told), T0)
    assert refusal.value == shown or (math.isnan(shown) and math.isnan(refusal.value))
    assert str(told)[:40] in refusal.reason


def test_wishes_that_are_numbers_pass_as_they_are():
    wishes = wanting(1e308)
    assert only_numbers("planner", wishes, T0) == (wishes, [])


def asked_of(value: float) -> Asked:
    wish = Proposal(point=BESS, value=value, cause=Cause.PLAN, reason="r", owner="o")
    return Asked(proposals=[wish], bounds={}, ruling=RULING)


def written_of(state: EdgeState, shot: Snapshot, value: float):
    """(what is written, commands, codes of refusals) of one wish for the battery."""
    _, observed = observe(LAYOUT, ObserverMemory(mode=GridMode.GRID_TIED), shot, {}, 1.0, {})
    given = gate_input_of(LAYOUT, state, observed, shot, 1.0)
    written, commands, refusals = write(LAYOUT, state, observed, shot, asked_of(value), given)
    return written, commands, [r.code for r in refusals]


def test_write_yields_to_another_master_and_says_so_but_not_with_less():
    contests = {BESS: Contest(value=100.0, rewritten_s=100.0)}
    state = EdgeState(
        epoch=4, seq=8, written={BESS: Written(value=100.0, at_s=95.0, known=True)},
        contention=ContentionMemory(contests=contests),
    )  # fmt: skip
    shot = snapshot(T0, 101.0)
    written, commands, codes = written_of(state, shot, 150.0)
    assert (commands, codes) == ((), ["contended"])
    assert written == state.written
    written, (sent,), codes = written_of(state, shot, 50.0)
    assert (sent.value, sent.epoch, sent.seq, codes) == (50.0, 4, 9, [])
    assert written[BESS] == Written(value=50.0, at_s=101.0, known=True)


@pytest.mark.parametrize(("read_kw", "protects"), [(80.0, True), (30.0, False), (None, False)])
def test_write_in_doubt_starts_from_what_the_device_says(read_kw: float | None, protects: bool):
    """Written in doubt: the value of the read-back counts, where there is one."""
    doubt = {BESS: Written(value=40.0, at_s=0.0, known=False)}
    shot = snapshot(T0, 100.0, **{"bess1__p_set_kw": read_kw})
    _, (sent,), _ = written_of(EdgeState(epoch=1, written=doubt), shot, 50.0)
    assert sent.protective is protects


def test_news_lasting_refusal_is_told_once_a_minute_and_another_code_at_once():
    def refused(code: str) -> Refusal:
        return Refusal(point=BESS, value=1.0, cause=Cause.PLAN, code=code, reason="r", decided_at=T0)

    told, known = news({}, [refused("stale_input")], 10.0)
    assert [r.code for r in told] == ["stale_input"]
    assert news(known, [refused("stale_input")], 69.9) == ((), known)
    told, after = news(known, [refused("stale_input")], 70.0)
    assert len(told) == 1
    assert after == {BESS: ("stale_input", 70.0)}
    assert [r.code for r in news(known, [refused("local")], 11.0)[0]] == ["local"]
    assert news(known, [], 11.0) == ((), {})  # it is over: the next one is news again
