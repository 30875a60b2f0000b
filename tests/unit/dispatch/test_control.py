"""Who may what, select before operate, and what a restart keeps."""

from dataclasses import replace

import pytest

from dispatch.authority.stage import restored
from ems.commands import Cause
from ems.control import ControlMode
from ems.control_site import (
    ControlParams,
    LimitKind,
)
from ems.requests import (
    Answer,
    Bypass,
    Confirm,
    Operate,
    Received,
    Release,
    ReleaseHeldSafe,
    Request,
    Select,
    SetLimit,
    SetSetpoint,
    Standing,
    SwitchMode,
    TellLimit,
)
from tests.scenarios.poi import with_breaker
from tests.unit.dispatch.controlled import (
    P_SET,
    RUN,
    USERS,
    Steady,
    loop,
    manual,
    utility,
)
from tests.unit.dispatch.loop import Loop, site_with

# --- who may what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "ask", "code"),
    [
        ("ann", SetSetpoint(point=P_SET, value=50.0), "no_right"),  # auto: the plan decides
        ("guest", SwitchMode(device="bess1", mode=ControlMode.MANUAL), "no_right"),
        ("mallory", SwitchMode(device=None, mode=ControlMode.OFF), "unknown_user"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.TEST), "no_right"),
        ("ann", SwitchMode(device="bess9", mode=ControlMode.MANUAL), "unknown_device"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.LOCAL), "not_chosen"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=float("nan")), "bad_time"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=90_000.0), "bad_time"),
        ("ann", SetSetpoint(point="bess1.p_kw", value=5.0), "unknown_point"),
        ("ann", SetSetpoint(point=P_SET, value=float("nan")), "out_of_bounds"),
        ("ann", SetSetpoint(point=P_SET, value=500.1), "out_of_bounds"),
        ("dso", SetSetpoint(point=P_SET, value=5.0), "no_right"),
        ("ann", SetLimit(subject="weather", value=1.0), "unknown_subject"),
        ("ann", SetLimit(subject="gen1.run_request.high", value=0.0), "unknown_subject"),
        ("ann", SetLimit(subject="import", value=-1.0), "out_of_bounds"),
        ("ann", SetLimit(subject="bess1.p_set_kw.low", value=10.0), "out_of_bounds"),
        ("dso", SetLimit(subject="import", value=100.0), "no_right"),
        ("ann", Select(point=RUN, value=1.0), "no_right"),
        ("ann", Operate(token="00000000"), "not_selected"),
        ("ann", Confirm(proposal="00000000"), "unknown_proposal"),
        ("ann", Release(point=P_SET), "not_held"),
        ("ann", ReleaseHeldSafe(), "not_held_safe"),
        ("dso", ReleaseHeldSafe(), "no_right"),
        ("eve", Bypass(interlock="none", for_s=60.0), "unknown_interlock"),
        ("dso", TellLimit(limit="none", value_kw=1.0), "unknown_limit"),
    ],
)
def test_desk_request_without_right_or_sense_is_refused_and_changes_nothing(user, ask, code):
    one = loop()
    before = one.edge.authority
    answer = one.ask(user, ask)
    assert (answer.done, answer.code) == (False, code), answer.text
    after = one.edge.authority
    assert (after.plant, after.devices, after.leases, after.limits, after.told) == (
        before.plant, before.devices, before.leases, before.limits, before.told,
    )  # fmt: skip
    (event,) = one.events("authority.request.refused")
    assert (event["user"], event["code"]) == (user, code)


def test_desk_done_request_is_told_with_user_role_reason_old_and_new():
    one = manual()
    one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=120.0), reason="cell check")
    event = one.events("authority.request.done")[-1]
    assert (event["user"], event["roles"], event["reason"]) == ("ann", ["operator"], "cell check")
    assert (event["old"], event["new"], event["expires_in_s"]) == (0.0, 60.0, 120.0)


def test_desk_same_request_twice_is_done_once_and_answered_alike():
    one = manual()
    first = one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=10.0), key="k")
    one.run(20.0)
    again = one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=10.0), key="k")
    assert replace(again, n=first.n) == first
    assert not [x for x in one.edge.authority.leases.values() if x.value == 60.0], "it is over, for good"


def test_desk_request_older_than_its_time_to_live_is_refused():
    one = loop()
    ask = SwitchMode(device=None, mode=ControlMode.AUTO)
    request = Request(id="old", session="s", epoch=1, ttl_s=5.0, reason="", ask=ask)
    one.inbox.append(Received(user="ann", n=9, seen_s=one.t - 5.1, request=request))
    (answer,) = one.run(1.0).answers
    assert answer.code == "expired"
    for ttl_s in (float("nan"), -1.0):
        bad = replace(request, id=f"bad{ttl_s}", ttl_s=ttl_s)
        one.inbox.append(Received(user="ann", n=10, seen_s=one.t, request=bad))
        (answer,) = one.run(1.0).answers
        assert answer.code == "expired"


def test_desk_request_to_an_earlier_start_of_the_edge_only_makes_things_safer():
    one = manual()
    for ask in (
        SetSetpoint(point=P_SET, value=50.0),
        SwitchMode(device="bess1", mode=ControlMode.AUTO),
        Select(point=RUN, value=1.0),
    ):
        assert one.ask("ann", ask, epoch=0).code in ("other_epoch", "no_right")
    assert one.ask("ann", SetLimit(subject="import", value=100.0), epoch=0).done
    assert one.ask("eve", SetLimit(subject="import", value=200.0), epoch=0).code == "other_epoch"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF), epoch=0).done


# --- select before operate --------------------------------------------------------------------------------


def selected(one: Loop, value: float = 1.0) -> Answer:
    answer = one.ask("ann", Select(point=RUN, value=value))
    assert answer.done, answer.text
    return answer


def test_select_and_operate_starts_the_genset_once():
    one = manual("gen1")
    token = str(selected(one).token)
    assert one.ask("ann", Operate(token=token)).done
    one.run(60.0)
    assert one.set[RUN] == 1.0
    assert one.ask("ann", Operate(token=token)).code == "not_selected"


def test_set_of_a_discrete_setpoint_is_refused_and_select_of_a_continuous_one_too():
    one = manual("gen1")
    assert one.ask("ann", SetSetpoint(point=RUN, value=1.0)).code == "needs_select"
    assert one.ask("ann", Select(point="gen1.p_set_kw", value=100.0)).code == "not_discrete"
    assert one.ask("ann", Select(point=RUN, value=0.5)).code == "out_of_bounds"


def test_select_of_what_somebody_else_has_selected_is_refused():
    one = manual("gen1")
    selected(one)
    assert one.ask("bob", Select(point=RUN, value=0.0)).code == "selected_by_other"
    one.run(10.0)
    assert one.ask("bob", Select(point=RUN, value=0.0)).done


# --- held safe and restart --------------------------------------------------------------------------------


def test_held_safe_is_released_by_an_operator_with_a_reason():
    one = loop()
    one.edge = replace(one.edge, held_safe=True)
    one.run(2.0)
    assert one.ask("dso", ReleaseHeldSafe()).code == "no_right"
    assert one.ask("ann", ReleaseHeldSafe(), reason="").code == "no_reason"
    assert one.edge.held_safe
    assert one.ask("ann", ReleaseHeldSafe(), reason="fuse replaced").done
    released: bool = one.edge.held_safe
    assert not released
    assert one.run(5.0).commands or one.edge.written


def test_restored_edge_is_as_tight_as_it_went_down():
    one = loop(limits=(utility(point=None, kind=LimitKind.EXPORT),))
    one.ask("ann", SetLimit(subject="import", value=100.0))
    one.ask("eve", SetLimit(subject="import", value=300.0, break_glass=True, for_s=3600.0))
    one.ask("dso", TellLimit(limit="dso", value_kw=0.0))
    one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL))
    one.ask("eve", SwitchMode(device="gen1", mode=ControlMode.TEST))
    one.ask("ann", SetSetpoint(point=P_SET, value=20.0))
    standing = one.run(1.0).standing
    assert isinstance(standing, Standing)
    after = restored(one.site.control, standing, 5.0)
    assert {s: x.value for s, x in after.limits.items()} == {"import": 100.0}
    assert (after.loosened, after.leases, after.pending) == ({}, {}, {})
    assert {d: c.mode for d, c in after.devices.items()} == {
        "bess1": ControlMode.MANUAL, "gen1": ControlMode.MANUAL,
    }  # fmt: skip
    assert after.told["dso"].value_kw == 0.0
    one.edge = replace(one.edge, authority=after, written={})
    one.run(1.0)
    assert one.log[-1][1].condition.import_cap_kw == 100.0


def test_restored_edge_of_a_site_that_never_ran_begins_in_the_mode_of_the_file():
    assert restored(ControlParams(start_mode=ControlMode.OFF), None, 0.0).plant.mode is ControlMode.OFF


def at_the_breaker() -> Loop:
    """The POI breaker in manual, with somebody else's device that never opens it."""
    site = with_breaker(site_with(control=ControlParams(users=USERS)))
    one = Loop(Steady(), plant_site=site)
    one.run(3.0)
    assert one.ask("ann", SwitchMode(device="grid1", mode=ControlMode.MANUAL)).done
    return one


@pytest.mark.parametrize("name", ["open_request", "open_permit", "close_permit"])
def test_poi_breaker_is_moved_by_select_and_operate_alone(name: str):
    one = at_the_breaker()
    assert one.ask("ann", SetSetpoint(point=f"grid1.{name}", value=1.0)).code == "needs_select"
    assert one.ask("ann", Select(point=f"grid1.{name}", value=0.5)).code == "out_of_bounds"
    answer = one.ask("ann", Select(point=f"grid1.{name}", value=1.0))
    assert answer.code == ("not_operated" if name == "open_permit" else "selected"), answer.text


def test_poi_breaker_is_not_permitted_to_close_against_an_order_that_came_between():
    one = at_the_breaker()
    close = one.ask("ann", Select(point="grid1.close_permit", value=1.0))
    opens = one.ask("ann", Select(point="grid1.open_request", value=1.0))
    assert one.ask("ann", Operate(token=str(opens.token))).done
    answer = one.ask("ann", Operate(token=str(close.token)))
    assert (answer.done, answer.code) == (False, "island_ordered")


def test_poi_breaker_that_did_not_open_in_time_is_asked_no_longer_though_the_order_stands():
    """Else it would open later, with power across it."""
    one = at_the_breaker()
    picked = one.ask("ann", Select(point="grid1.open_request", value=1.0))
    assert one.ask("ann", Operate(token=str(picked.token))).done
    one.run(80.0)
    asked = [c for _, d, _ in one.log for c in d.commands if c.point == "grid1.open_request"]
    assert next(c.owner for c in asked if c.value == 1.0) == "ann"
    assert (asked[-1].value, asked[-1].cause) == (0.0, Cause.PROTECTION)
    assert "islanding.given_up" in {a.code for a in one.run(1.0).alarms}
    assert "grid1.open_request" in {p for p, _ in one.edge.authority.leases}
