"""Limits at the desk, one by one: who tightens, who loosens, who confirms, and what others tell."""

import math
from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.desk_limits import bypass, confirm, set_limit, tell
from dispatch.authority.desk_scene import Verdict
from dispatch.authority.state import AuthorityMemory, Chosen, Loosened, Pending, Told
from ems.control import ControlMode
from ems.requests import Bypass, Confirm, SetLimit, TellLimit
from tests.unit.dispatch.controlled import P_SET, RUN
from tests.unit.dispatch.test_desk_edges import AUTO, LAYOUT, MANUAL, TEST, limits, scene, who

HIGH = f"{P_SET}.high"


def asked(
    memory: AuthorityMemory, subject: str, value: float | None, user: str = "eve", **changes: Any
) -> Verdict:
    return set_limit(scene(), memory, who(user), SetLimit(subject=subject, value=value, **changes))


@pytest.mark.parametrize(
    ("subject", "value", "found"),
    [
        ("import", 0.0, "done"), ("import", 350.0, "done"), ("import", 350.1, "out_of_bounds"),
        ("import", -0.1, "out_of_bounds"), ("import", math.nan, "out_of_bounds"),
        ("import", math.inf, "out_of_bounds"), (HIGH, 0.0, "done"), (HIGH, 500.0, "done"),
        (HIGH, -0.1, "out_of_bounds"), (f"{P_SET}.low", -500.0, "done"),
        (f"{P_SET}.low", 0.1, "out_of_bounds"),
        ("nothing", 5.0, "unknown_subject"), (f"{RUN}.high", 1.0, "unknown_subject"),
        ("nothing", None, "unknown_subject"),
    ],
)  # fmt: skip
def test_limit_is_about_something_and_inside_what_there_is(subject: str, value: float | None, found: str):
    got = asked(AUTO, subject, value)
    assert got.code == found
    assert (subject in got.memory.limits) is (found == "done")


def test_limit_about_nothing_is_taken_away_by_two_and_never_set_anew():
    gone = limits("gone.p_set_kw.high", 9.0)
    assert asked(gone, "gone.p_set_kw.high", 5.0).code == "unknown_subject"
    waits = asked(gone, "gone.p_set_kw.high", None)
    assert waits.code == "pending"
    done = confirm(scene(), waits.memory, who("dan"), Confirm(proposal=str(waits.token)))
    assert (done.code, done.memory.limits) == ("done", {})
    other = limits("import", 100.0)
    assert asked(other, "gone.p_set_kw.high", None).code == "unknown_subject"


@pytest.mark.parametrize(
    ("mode", "user", "found"),
    [
        (ControlMode.AUTO, "ann", "done"), (ControlMode.AUTO, "eve", "done"),
        (ControlMode.AUTO, "guest", "no_right"), (ControlMode.OFF, "ann", "no_right"),
        (ControlMode.TEST, "eve", "no_right"),
    ],
)  # fmt: skip
def test_limit_is_tightened_as_the_mode_of_its_device_or_the_plant_lets(
    mode: ControlMode, user: str, found: str
):
    plant = replace(AUTO, plant=Chosen(mode=mode, user="x"))
    device = replace(AUTO, devices={"bess1": Chosen(mode=mode, user="x")})
    assert asked(plant, "import", 100.0, user).code == found
    assert asked(device, HIGH, 100.0, user).code == found
    assert asked(device, "import", 100.0, "ann").code == "done"
    if found == "no_right":
        assert f"{P_SET} is in {mode.value}" in asked(device, HIGH, 100.0, user).text
        assert f"the plant is in {mode.value}" in asked(plant, "import", 100.0, user).text


def test_limit_loosened_waits_ten_minutes_for_the_second_person():
    waits = asked(limits("import", 100.0), "import", 200.0)
    assert (waits.done, waits.code, len(str(waits.token))) == (True, "pending", 12)
    assert waits.fields == {"subject": "import", "new": 200.0, "expires_in_s": 600.0}
    assert waits.memory.pending[str(waits.token)].until_s == 1600.0
    assert waits.memory.limits["import"].value == 100.0
    token = Confirm(proposal=str(waits.token))
    assert confirm(scene(now_s=1600.1), waits.memory, who("dan"), token).code == "unknown_proposal"
    assert confirm(scene(), waits.memory, who("eve"), token).code == "same_person"
    assert confirm(scene(), waits.memory, who("guest"), token).code == "no_right"
    assert confirm(scene(), waits.memory, who("dso"), token).code == "no_right"
    assert confirm(scene(), waits.memory, who("dan", current=False), token).code == "other_epoch"
    for user in ("dan", "ann"):
        done = confirm(scene(now_s=1600.0), waits.memory, who(user), token)
        assert (done.done, done.memory.limits["import"].value, done.memory.pending) == (True, 200.0, {})
        assert done.fields == {"subject": "import", "old": 100.0, "new": 200.0, "second": user}


def test_limit_confirmed_leaves_what_waits_for_others():
    both = replace(
        limits("import", 100.0), limits={**limits("import", 9.0).limits, **limits("pv", 9.0).limits}
    )
    first = asked(both, "import", 200.0)
    second = asked(first.memory, "pv", 300.0)
    third = asked(second.memory, "import", 250.0, for_s=60.0)
    done = confirm(scene(), third.memory, who("dan"), Confirm(proposal=str(third.token)))
    assert done.memory.pending.keys() == {first.token, second.token}  # for a time: the standing one stays
    assert done.memory.loosened["import"].value == 250.0
    assert "confirmed by dan" in done.text
    stands = confirm(scene(), done.memory, who("dan"), Confirm(proposal=str(first.token)))
    assert stands.memory.pending.keys() == {second.token}
    assert stands.memory.loosened == {}  # a standing limit ends the loosening of its subject
    assert stands.memory.limits["import"].value == 200.0


def test_limit_confirmed_is_judged_by_the_right_of_who_proposed_it_in_the_mode_of_its_device():
    waits = asked(limits(HIGH, 100.0), HIGH, 200.0)
    token = Confirm(proposal=str(waits.token))
    off = replace(waits.memory, devices={"bess1": Chosen(mode=ControlMode.OFF, user="x")})
    got = confirm(scene(), off, who("dan"), token)
    assert got.code == "no_right"
    assert "bess1 is in off" in got.text
    assert confirm(scene(), replace(waits.memory, plant=TEST.plant), who("dan"), token).code == "no_right"
    other = replace(waits.memory, devices={"pv1": Chosen(mode=ControlMode.OFF, user="x")})
    assert confirm(scene(), other, who("dan"), token).code == "done"


@pytest.mark.parametrize(
    ("for_s", "found"),
    [
        (14_400.0, "done"), (0.5, "done"), (14_400.1, "bad_time"), (0.0, "bad_time"), (math.nan, "bad_time"),
        (math.inf, "bad_time"), (None, "bad_time"),
    ],
)  # fmt: skip
def test_broken_glass_is_for_four_hours_at_most(for_s: float | None, found: str):
    got = asked(limits("import", 100.0), "import", None, break_glass=True, for_s=for_s)
    assert got.code == found
    lock = bypass(scene(), AUTO, who("eve"), Bypass(interlock="door", for_s=for_s, break_glass=True))  # type: ignore[arg-type]
    assert lock.code == found
    second = bypass(scene(), AUTO, who("eve"), Bypass(interlock="door", for_s=for_s))  # type: ignore[arg-type]
    assert second.code == ("pending" if found == "done" else found)
    timed = asked(limits("import", 100.0), "import", None, for_s=for_s)
    assert timed.code == ("pending" if found == "done" or for_s is None else found)
    if found == "done":
        loose = Loosened(
            value=None, user="eve", second=None, reason="why", until_s=1000.0 + float(for_s or 0.0)
        )
        assert got.memory.loosened == {"import": loose}
        assert lock.memory.loosened == {"interlock.door": loose}
        assert "the glass is broken" in got.text
        assert got.memory.limits["import"].value == 100.0


@pytest.mark.parametrize(
    ("user", "changes", "found"),
    [
        ("eve", {}, "pending"), ("ann", {}, "no_right"), ("eve", {"current": False}, "other_epoch"),
        ("eve", {"reason": "  "}, "no_reason"),
    ],
)  # fmt: skip
def test_loosening_is_an_engineers_with_a_reason_who_has_looked(
    user: str, changes: dict[str, Any], found: str
):
    ask = SetLimit(subject="import", value=200.0)
    assert set_limit(scene(), limits("import", 100.0), who(user, **changes), ask).code == found
    assert (
        set_limit(scene(), replace(limits("import", 1.0), plant=MANUAL.plant), who("eve"), ask).code
        == "pending"
    )
    assert (
        set_limit(scene(), replace(limits("import", 1.0), plant=TEST.plant), who("eve"), ask).code
        == "no_right"
    )


def test_limit_is_taken_away_as_the_mode_of_its_device_lets():
    off = replace(limits(HIGH, 100.0), devices={"bess1": Chosen(mode=ControlMode.OFF, user="x")})
    assert asked(off, HIGH, None).code == "no_right"
    assert asked(limits(HIGH, 100.0), HIGH, None).code == "pending"


def test_bypass_is_of_an_interlock_that_there_is():
    got = bypass(scene(), AUTO, who("eve"), Bypass(interlock="gate", for_s=60.0))
    assert got.code == "unknown_interlock"
    assert "allowed: door" in got.text
    bare = replace(
        LAYOUT, control=replace(LAYOUT.control, params=replace(LAYOUT.control.params, interlocks=()))
    )
    got = bypass(scene(layout=bare), AUTO, who("eve"), Bypass(interlock="door", for_s=60.0))
    assert "allowed: this site has none" in got.text


LOOSE = Loosened(value=300.0, user="eve", second="dan", reason="r", until_s=2000.0)


@pytest.mark.parametrize(
    ("value", "loosened", "standing"),
    [
        (250.0, 250.0, 100.0),  # wider than the standing one: it narrows the loosening alone
        (100.0, None, 100.0),  # as tight: it stands, and the loosening is over
        (50.0, None, 50.0),
    ],
)
def test_tightened_while_a_loosening_is_in_force(value: float, loosened: float | None, standing: float):
    def waits(ask: SetLimit | str) -> Pending:
        return Pending(ask=ask, user="eve", reason="r", until_s=2e3, for_s=None)

    of_import, of_pv = (waits(SetLimit(subject=x, value=340.0)) for x in ("import", "pv"))
    waiting = {"a": of_import, "b": of_pv, "c": waits("door")}
    pv = replace(LOOSE, value=1.0)
    memory = replace(limits("import", 100.0), loosened={"import": LOOSE, "pv": pv}, pending=waiting)
    after = asked(memory, "import", value, "ann").memory
    assert after.limits["import"].value == standing
    kept = {} if loosened is None else {"import": replace(LOOSE, value=loosened)}
    assert after.loosened == {**kept, "pv": pv}
    assert after.pending.keys() == {"b", "c"}  # those for this subject were made for a limit that is no more


def test_tightened_where_nothing_is_loosened_or_nothing_stands():
    assert asked(limits("import", 100.0), "import", 90.0, "ann").memory.limits["import"].value == 90.0
    only_loose = replace(AUTO, loosened={"import": LOOSE})
    after = asked(only_loose, "import", 200.0, "ann").memory
    assert (after.limits["import"].value, after.loosened) == (200.0, {})


# ---- told by others --------------------------------------------------------------------------------------


def told(memory: AuthorityMemory = AUTO, user: str = "dso", **changes: Any) -> Verdict:
    asker = who(user, current=changes.pop("current", True))
    values: dict[str, Any] = {"limit": "told", "value_kw": 80.0} | changes
    return tell(scene(), memory, asker, TellLimit(**values))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "done"), ({"value_kw": 0.0}, "done"), ({"value_kw": -0.1}, "out_of_bounds"),
        ({"value_kw": math.inf}, "out_of_bounds"), ({"value_kw": math.nan}, "out_of_bounds"),
        ({"limit": "read"}, "unknown_limit"), ({"limit": "steps"}, "unknown_limit"),
        ({"limit": "nothing"}, "unknown_limit"), ({"user": "ann"}, "no_right"), ({"user": "eve"}, "no_right"),
    ],
)  # fmt: skip
def test_told_is_a_number_from_zero_on_for_a_limit_that_is_told_by_messages(
    changes: dict[str, Any], found: str
):
    got = told(**changes)
    assert got.code == found
    assert (got.memory.told != {}) is (found == "done")
    if found == "unknown_limit":
        assert got.text.endswith("allowed: told")
    bare = replace(LAYOUT.control.params, limits=LAYOUT.control.params.limits[1:])
    layout = replace(LAYOUT, control=replace(LAYOUT.control, params=bare))
    none = tell(scene(layout=layout), AUTO, who("dso"), TellLimit(limit="told", value_kw=1.0))
    assert none.text.endswith("allowed: none is told by messages at this site")


@pytest.mark.parametrize(
    ("known", "seq", "value_kw", "current", "after", "found"),
    [
        (None, None, 80.0, True, (80.0, 1000.0, None), "done"),
        (None, 4, 80.0, True, (80.0, 1000.0, 4), "done"),
        (3, 4, 80.0, True, (80.0, 1000.0, 4), "done"),
        (None, None, 40.0, True, (40.0, 1000.0, None), "done"),
        (3, 3, 80.0, True, (60.0, 5.0, 3), "out_of_order"),
        (3, None, 80.0, True, (60.0, 5.0, 3), "out_of_order"),
        (3, 3, 60.0, True, (60.0, 5.0, 3), "out_of_order"),
        (3, 2, 40.0, True, (40.0, 5.0, 3), "done"),  # old, but tighter: it counts, and is no sign of life
        (3, 9, 80.0, False, (60.0, 5.0, 3), "other_epoch"),
        (3, 9, 40.0, False, (40.0, 5.0, 3), "done"),
    ],
)
def test_told_out_of_order_only_tightens(
    known: int | None,
    seq: int | None,
    value_kw: float,
    current: bool,
    after: tuple[float, float, int | None],
    found: str,
):
    memory = replace(AUTO, told={"told": Told(value_kw=60.0, valid_s=5.0, seq=known)})
    got = told(memory, seq=seq, value_kw=value_kw, current=current)
    x = got.memory.told["told"]
    assert (got.code, (x.value_kw, x.valid_s, x.seq)) == (found, after)
    if found == "out_of_order":
        number = "without a number" if seq is None else f"number {seq}"
        assert got.text == f"told: {number}; allowed: more than {known}"
    if found == "done":
        assert got.fields == {"limit": "told", "old": 60.0, "new": value_kw}


def test_told_of_an_earlier_start_is_nothing_where_nothing_was_told():
    assert told(current=False).code == "other_epoch"
    assert told().fields["old"] is None
