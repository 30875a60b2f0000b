"""The last line asked again when a command's turn on its wire has come: what is sent, recorded, told."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from dispatch.layout import layout_of
from dispatch.state import EdgeState, ObserverMemory, Written
from dispatch.supervision.invariants_now import InvariantsNow
from dispatch.supervision.watched import WatchedIO, WatchedTurnIO, watched_io
from dispatch.writing.sending import Decided, Sender, Sent
from dispatch.writing.turn import Turn
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.errors import InvariantBroken
from ems.ports import LastWord
from ems.site import GridMode
from ems.telemetry import Reading, Snapshot
from sim.drive import drive
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import LAYOUT
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_last_line import command
from tests.unit.dispatch.test_runtime import FakeIO, FakeRecorder

BESS, PV = "bess1.p_set_kw", "pv1.p_limit_kw"
WANTED = command(BESS, 100.0)
LESS = replace(WANTED, value=30.0)
NO = Refusal(point=BESS, value=100.0, cause=Cause.PLAN, code="local", reason="r", decided_at=T0)


def said(*answers: Command | Refusal | Exception) -> tuple[Turn, list[Command]]:
    """A turn whose last line says these, one after the other; and the intents it records."""
    told, intents = iter(answers), list[Command]()

    def ask() -> Command | Refusal:
        now = next(told)
        if isinstance(now, Exception):
            raise now
        return now

    return Turn(ask, intents.append), intents


@pytest.mark.parametrize("now", [WANTED, LESS])
def test_turn_what_the_last_line_makes_of_it_is_recorded_and_sent(now: Command):
    turn, intents = said(now)
    assert turn.last_word(WANTED) == now
    assert (turn.said, intents, turn.raised) == (now, [now], None)


@pytest.mark.parametrize(
    ("then", "sent"),
    [
        (LESS, True),
        (replace(LESS, reason="another layer"), True),
        (replace(LESS, value=29.9), False),
        (NO, False),
    ],
)
def test_turn_of_several_requests_goes_on_with_what_was_recorded_or_not_at_all(then, sent: bool):
    turn, intents = said(LESS, then, LESS)
    assert turn.last_word(WANTED) == LESS
    assert turn.last_word(WANTED) == (LESS if sent else None)
    assert turn.last_word(WANTED) == LESS, "it is asked anew for each of them"
    assert (turn.said, intents) == (LESS, [LESS])


def test_turn_that_was_refused_stays_so_and_has_no_intent():
    turn, intents = said(NO, WANTED)
    assert turn.last_word(WANTED) is None
    assert turn.last_word(WANTED) is None
    assert (turn.said, intents, turn.raised) == (NO, [], None)


def test_turn_whose_line_raises_sends_nothing_and_tells_it():
    turn, intents = said(ValueError("no image"), WANTED)
    assert turn.last_word(WANTED) is None
    assert turn.last_word(WANTED) is None
    assert (str(turn.raised), turn.said, intents) == ("no image", None, [])


def test_turn_whose_intent_cannot_be_recorded_sends_nothing():
    def full(_: Command) -> None:
        raise OSError("disk full")

    turn = Turn(lambda: WANTED, full)
    assert turn.last_word(WANTED) is None
    assert (str(turn.raised), turn.said) == ("disk full", None)


def test_turn_that_comes_when_the_cycle_is_over_sends_nothing():
    turn, intents = said(WANTED)
    turn.end()
    assert turn.last_word(WANTED) is None
    assert (turn.said, intents) == (None, [])


# ---- the sender over devices that wait for their turn ------------------------------------------------


@dataclass
class HeldIO(FakeIO):
    """Devices behind a held wire: `asks` times the last word is asked before the bytes, then it is sent."""

    asks: int = 1
    words: list[LastWord] = field(default_factory=list)

    async def write_in_turn(self, commands: Sequence[Command], last_word: LastWord) -> Sequence[WriteResult]:
        self.words.append(last_word)
        (one,) = commands
        word: Command | None = one
        for _ in range(self.asks):
            word = last_word(one)
            if word is None:
                break
        if word is None or not self.asks:
            outcome = WriteOutcome.NOT_SENT
            return [WriteResult(command=one, outcome=outcome, detail="late", finished_at=self.clock.now())]
        (result,) = await self.write([word])
        return [replace(result, command=one)]


class Told(FakeRecorder):
    """Records what was sent, too."""

    def intent(self, command: Command) -> None:
        self.log.append(f"intent {command.seq} {command.value:g}")

    def outcome(self, result: WriteResult) -> None:
        self.log.append(f"outcome {result.command.seq} {result.command.value:g} {result.outcome.value}")


BEFORE = {BESS: Written(value=5.0, at_s=0.0, known=True)}


def sent_over(
    io: HeldIO, recorder: FakeRecorder, one: Command, *shots: Snapshot, held_safe: bool = False
) -> Sent:
    """What became of one command, for which the line is drawn from these, one after the other."""
    state = EdgeState(
        epoch=1, written=BEFORE, observer=ObserverMemory(mode=GridMode.GRID_TIED), held_safe=held_safe
    )
    told = iter(shots)

    def arrived(readings: Sequence[Reading]) -> Snapshot:
        shot = next(told, None)
        if shot is None:
            raise ValueError("no image")
        io.clock.advance(1.0)  # the line is old by then
        return shot

    sender = Sender(LAYOUT, clock=io.clock, io=io, recorder=recorder, newest=None)
    decided = Decided(before=BEFORE, mode=GridMode.GRID_TIED, bounds={})
    return drive(sender.send([one], decided, lambda: state, arrived))


def shot(s: float = 0.0, **changes: float) -> Snapshot:
    return snapshot(T0, s, **changes)


CALM, TIGHT = shot(), shot(1.0, bess1__p_discharge_kw_max=30.0)
LOCAL = shot(1.0, bess1__remote=0.0)


def test_sending_in_turn_is_what_is_allowed_when_the_turn_has_come():
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log)
    sent = sent_over(io, Told(log), WANTED, CALM, TIGHT)
    assert log == ["intent 1 30", "write 1", "outcome 1 30 confirmed"]
    assert [c.value for c in io.sent] == [30.0]
    assert sent.written[BESS] == Written(value=30.0, at_s=WANTED.decided_s, known=True)
    assert (sent.broken, sent.unconfirmed) == ((), ())


def test_sending_in_turn_what_is_not_allowed_any_more_is_refused_and_stands_as_it_stood():
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log)
    sent = sent_over(io, Told(log), WANTED, CALM, LOCAL)
    assert log == ["refusal local"]
    assert io.sent == []
    assert sent.written[BESS] == replace(BEFORE[BESS], known=False)


def test_sending_in_turn_what_changes_between_two_requests_has_an_outcome():
    """Selected, and not operated."""
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log, asks=2)
    sent = sent_over(io, Told(log), WANTED, CALM, CALM, replace(TIGHT, monotonic_s=2.0))
    assert log == ["intent 1 100", "outcome 1 100 not_sent"]
    assert (sent.written[BESS].value, sent.written[BESS].wanted, sent.unconfirmed) == (5.0, 100.0, (BESS,))


def test_sending_in_turn_whose_turn_never_came_is_on_record_and_never_sent_later():
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log, asks=0)
    sent = sent_over(io, Told(log), WANTED, CALM, CALM)
    assert log == ["intent 1 100", "outcome 1 100 not_sent"]
    assert sent.written[BESS].wanted == 100.0
    assert io.words[0](WANTED) is None, "the cycle is over"


def test_sending_in_turn_line_that_cannot_be_drawn_lets_the_safe_table_alone_pass():
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log)
    sent = sent_over(io, Told(log), WANTED, CALM)
    assert (log, io.sent) == ([], [])
    assert [str(b) for b in sent.broken] == ["no image"]
    assert not sent.written[BESS].known
    safe = command(BESS, 0.0, cause=Cause.SAFE_TABLE)
    sent = sent_over(io, Told(log), safe, CALM, held_safe=True)
    assert log == ["intent 1 0", "write 1", "outcome 1 0 confirmed"]
    assert [str(b) for b in sent.broken] == ["no image"]


class Full(Told):
    def intent(self, command: Command) -> None:
        raise OSError("disk full")


def test_sending_in_turn_no_write_without_its_intent_but_what_makes_safe():
    io = HeldIO(VirtualClock(T0), [])
    sent = sent_over(io, Full([]), WANTED, CALM, CALM)
    assert (io.sent, [str(b) for b in sent.broken]) == ([], ["disk full"])
    safe = command(BESS, 0.0, cause=Cause.SAFE_TABLE)
    sent = sent_over(io, Full([]), safe, CALM, CALM, held_safe=True)
    assert ([c.value for c in io.sent], [str(b) for b in sent.broken]) == ([0.0], ["disk full"])
    assert sent.written[BESS].known


def test_sending_in_turn_driver_that_raises_is_unknown_and_its_turn_is_over(monkeypatch: pytest.MonkeyPatch):
    async def write_in_turn(
        self: HeldIO, commands: Sequence[Command], last_word: LastWord
    ) -> Sequence[WriteResult]:
        self.words.append(last_word)
        assert last_word(commands[0]) == commands[0]
        raise RuntimeError("a driver's bug")

    monkeypatch.setattr(HeldIO, "write_in_turn", write_in_turn)
    log: list[str] = []
    io = HeldIO(VirtualClock(T0), log)
    sent = sent_over(io, Told(log), WANTED, CALM, CALM)
    assert log == ["intent 1 100", "outcome 1 100 unknown"]
    assert [str(b) for b in sent.broken] == ["a driver's bug"]
    assert io.words[0](WANTED) is None


# ---- the invariants at the port ----------------------------------------------------------------------


def always(word: Command | None) -> LastWord:
    return lambda _: word


def test_port_judges_what_is_sent_when_its_turn_has_come():
    layout = layout_of(site())
    io, invariants = HeldIO(VirtualClock(T0), [], asks=2), InvariantsNow(layout, shadow=False)
    port = watched_io(io, layout, invariants)
    assert isinstance(port, WatchedTurnIO)
    assert type(watched_io(FakeIO(io.clock, []), layout, invariants)) is WatchedIO
    for word in (LESS, replace(WANTED, seq=2)):
        invariants.intended(word)
        (result,) = drive(port.write_in_turn([replace(word, value=100.0)], always(word)))
        assert result.outcome is WriteOutcome.CONFIRMED, "judged once, however often it is asked"
        invariants.recorded(replace(result, command=word))
    assert [c.value for c in io.sent] == [30.0, 100.0]
    invariants.sent()
    (result,) = drive(port.write_in_turn([replace(WANTED, seq=3)], always(None)))
    assert result.outcome is WriteOutcome.NOT_SENT
    invariants.recorded(result)
    invariants.sent()  # what never came to the wire needs no write


@pytest.mark.parametrize("word", [replace(WANTED, value=float("nan")), replace(WANTED, seq=9)])
def test_port_what_must_not_go_on_the_wire_does_not_and_is_raised_behind_the_link(word: Command):
    """No number, and without an intent on record: a link that asks never sees an exception."""
    layout = layout_of(site())
    io, invariants = HeldIO(VirtualClock(T0), []), InvariantsNow(layout, shadow=False)
    invariants.intended(WANTED)
    with pytest.raises(InvariantBroken, match="I3" if word.seq == 1 else "I5"):
        drive(WatchedTurnIO(io, io, layout, invariants).write_in_turn([WANTED], always(word)))
    assert io.sent == []


def test_port_write_with_two_outcomes_on_record_is_seen():
    layout = layout_of(site())
    io, invariants = HeldIO(VirtualClock(T0), []), InvariantsNow(layout, shadow=False)
    invariants.intended(WANTED)
    (result,) = drive(watched_io(io, layout, invariants).write([WANTED]))
    invariants.recorded(result)
    invariants.recorded(result)
    with pytest.raises(InvariantBroken, match="1 writes, 2 outcomes"):
        invariants.sent()
