"""67: select before operate: expired, another user or session, state changed, done twice: refused, told."""

import pytest

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


def refused(one: Loop, answer: Answer) -> str:
    """Its code; nothing was started, and the record says who was refused."""
    assert not answer.done
    one.run(5.0)
    assert one.set.get(RUN, 0.0) == 0.0
    assert answer.code in {str(e.get("code")) for e in one.events("authority.request.refused")}
    return answer.code


def test_operate_after_ten_seconds_is_refused():
    one, token = selected()
    one.run(11.0)
    assert refused(one, one.ask("ann", Operate(token=token))) == "not_selected"


def test_operate_by_another_user_is_refused():
    one, token = selected()
    assert refused(one, one.ask("bob", Operate(token=token))) == "other_user"


def test_operate_from_another_session_is_refused():
    one, token = selected()
    assert refused(one, one.ask("ann", Operate(token=token), session="s2")) == "other_session"


def test_operate_after_the_state_has_changed_is_refused():
    one, token = selected()
    one.world.mains = False
    one.run(2.0)
    assert refused(one, one.ask("ann", Operate(token=token))) == "state_changed"


def test_operate_twice_is_done_once():
    one, token = selected()
    assert one.ask("ann", Operate(token=token)).done
    assert one.ask("ann", Operate(token=token)).code == "not_selected"
    one.run(60.0)
    assert one.set[RUN] == 1.0
