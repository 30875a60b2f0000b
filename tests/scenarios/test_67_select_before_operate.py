"""67: select before operate: expired, another user or session, state changed, done twice: refused, told."""

import pytest

from ems.commands import Cause, Command
from ems.points import GensetState
from ems.requests import Answer, Operate, Select
from tests.unit.dispatch.controlled import RUN, manual
from tests.unit.dispatch.loop import Loop

pytestmark = pytest.mark.scenario(67)


def selected() -> tuple[Loop, str]:
    """A genset in manual whose start ann has selected."""
    one = manual("gen1")
    answer = one.ask("ann", Select(point=RUN, value=1.0))
    assert answer.done, answer.text
    return one, str(answer.token)


def starts(one: Loop) -> list[Command]:
    """Every write that starts the set."""
    return [c for _, d, _ in one.log for c in d.commands if c.point == RUN and c.value == 1.0]


def told(one: Loop, answer: Answer, user: str, session: str = "s1") -> bool:
    """Whether the record says what became of this request, once, and who asked."""
    kind = "authority.request.done" if answer.done else "authority.request.refused"
    who = [
        (e["user"], e["session"], e["code"]) for e in one.events(kind) if e["request_id"] == answer.request_id
    ]
    return who == [(user, session, answer.code)]


def refused(one: Loop, answer: Answer, user: str = "ann", session: str = "s1") -> str:
    """Its code; nothing was started, and the record says who was refused."""
    assert not answer.done
    before = len(starts(one))
    one.run(5.0)
    assert len(starts(one)) == before
    assert answer.request_id not in {c.request_id for c in starts(one)}
    assert told(one, answer, user, session)
    return answer.code


def test_operate_after_ten_seconds_is_refused():
    one, token = selected()
    one.run(11.0)
    assert refused(one, one.ask("ann", Operate(token=token))) == "not_selected"


def test_operate_by_another_user_is_refused():
    one, token = selected()
    assert refused(one, one.ask("bob", Operate(token=token)), "bob") == "other_user"


def test_operate_from_another_session_is_refused():
    one, token = selected()
    assert refused(one, one.ask("ann", Operate(token=token), session="s2"), session="s2") == "other_session"


def test_operate_after_the_state_has_changed_is_refused():
    one, token = selected()
    one.world.mains = False
    one.run(2.0)
    assert refused(one, one.ask("ann", Operate(token=token))) == "state_changed"


@pytest.mark.parametrize("state", [GensetState.LOCKED_OUT, GensetState.CRANKING, GensetState.RUNNING])
def test_operate_after_the_set_itself_has_changed_is_refused(state: GensetState):
    """Tripped, or started at its panel, between select and operate; one that runs is taken as it is."""
    one, token = selected()
    one.world.inputs = {"gen1.state": float(state.code)}
    one.run(2.0)
    answer = one.ask("ann", Operate(token=token))
    assert (answer.done, answer.code) == (False, "state_changed")
    one.run(5.0)
    assert answer.request_id not in {c.request_id for c in starts(one)}
    assert bool(starts(one)) is (state is not GensetState.LOCKED_OUT)
    assert told(one, answer, "ann")


def operated(times: int) -> tuple[Loop, list[Answer]]:
    """A minute in which ann operates so often, one cycle after the other."""
    one, token = selected()
    answers = [one.ask("ann", Operate(token=token)) for _ in range(times)]
    one.run(60.0 - times)
    return one, answers


def test_operate_twice_is_done_once():
    (once, _), (one, (first, second, third)) = operated(1), operated(3)
    assert [a.code for a in (second, third)] == ["not_selected"] * 2
    assert one.set[RUN] == 1.0
    assert len([c for c in starts(one) if c.decided_s <= starts(one)[0].decided_s + 3.0]) == 1, "one write"
    assert {(c.cause, c.request_id) for c in starts(one)} == {(Cause.OPERATOR, first.request_id)}
    assert [c.decided_s for c in starts(one)] == [c.decided_s for c in starts(once)], "then it is refreshed"
    assert first.done
    assert all(told(one, answer, "ann") for answer in (first, second, third))
