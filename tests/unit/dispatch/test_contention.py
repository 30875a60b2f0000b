"""Another master at a setpoint: whose value is read back, and who waits for whom."""

from dataclasses import replace

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.state import Written
from dispatch.writing.contention import (
    AGAIN_S,
    KEPT,
    LAG_S,
    _is_old,
    contention_alarms,
    ours_of,
    watch,
    yields,
)
from dispatch.writing.contention_memory import ContentionMemory, Contest
from ems.assets import DeviceBehaviour, OnSilence
from ems.commands import Cause
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import setpoint

BESS, PV = "bess1.p_set_kw", "pv1.p_limit_kw"
LAYOUT = layout_of(site())
SLACK_KW = 0.005 * 1000.0  # of the battery's span


def told(value: float | None, at_s: float, *, point: str = BESS, quality: Quality = Quality.GOOD) -> Snapshot:
    reading = Reading(point=point, value=value, quality=quality, source_time=T0, arrived_s=at_s)
    return Snapshot(at=T0, monotonic_s=at_s, readings={point: reading})


def wrote(value: float, at_s: float, *, known: bool = True) -> Written:
    return Written(value=value, at_s=at_s, known=known)


def seen(*steps: tuple[Written, Snapshot], point: str = BESS) -> tuple[ContentionMemory, Written]:
    """(memory, what the setpoint stands at) after these ticks."""
    memory, stands = ContentionMemory(), {point: steps[0][0]}
    for w, snapshot in steps:
        memory, after = watch(LAYOUT, memory, {point: w}, snapshot)
        stands = dict(after)
    return memory, stands[point]


def test_watch_value_nobody_here_wrote_is_contended_and_what_the_setpoint_stands_at():
    first = wrote(40.0, 0.0), told(40.0, 1.0)
    memory, stands = seen(first, (wrote(40.0, 0.0), told(-100.0, 10.0)))
    assert memory.contests == {BESS: Contest(value=-100.0, rewritten_s=10.0)}
    assert stands == wrote(-100.0, 0.0)
    (alarm,) = contention_alarms(memory)
    assert (alarm.code, alarm.asset) == ("setpoint.contention", BESS)
    assert "holds -100" in alarm.text
    assert "(40)" in alarm.text
    assert list(contention_alarms(seen(first)[0])) == []


@pytest.mark.parametrize(
    ("value", "contended"),
    [
        (40.0 + SLACK_KW, False),  # what the register rounds
        (40.0 - SLACK_KW, False),
        (40.0 + SLACK_KW + 0.01, True),
        (40.0 - SLACK_KW - 0.01, True),
    ],
)
def test_watch_register_rounds_and_is_nobody_else(value: float, contended: bool):
    memory, _ = seen((wrote(40.0, 0.0), told(40.0, 1.0)), (wrote(40.0, 0.0), told(value, 20.0)))
    assert bool(memory.contests) is contended


@pytest.mark.parametrize(
    ("value", "after_s", "contended"),
    [
        (90.0, LAG_S, False),  # it was on its way from one of ours to the next
        (90.0, LAG_S + 0.1, True),
        (40.0, 60.0, False),  # an old value of ours: deaf, and not contended
        (140.0, 60.0, False),
        (150.0, 1.0, True),
    ],
)
def test_watch_on_the_way_between_two_of_ours_is_ours_for_a_while(
    value: float, after_s: float, contended: bool
):
    second = wrote(140.0, 30.0)
    memory, _ = seen(
        (wrote(40.0, 0.0), told(40.0, 1.0)), (second, told(40.0, 30.0)), (second, told(value, 30.0 + after_s))
    )
    assert bool(memory.contests) is contended


def test_watch_before_anything_was_written_what_is_read_is_the_start():
    """What stood there when the edge came is on its way to the first of ours."""
    memory, _ = seen((wrote(100.0, 10.0), told(-100.0, 10.0)), (wrote(100.0, 10.0), told(0.0, 12.0)))
    assert memory.contests == {}
    assert memory.sent[BESS][-1] == (10.0, 100.0)


@pytest.mark.parametrize(
    "snapshot",
    [
        told(-100.0, 10.0, quality=Quality.STALE),
        told(None, 10.0),
        Snapshot(at=T0, monotonic_s=10.0, readings={}),
    ],
)
def test_watch_without_a_good_read_back_nobody_is_accused(snapshot: Snapshot):
    memory, stands = seen((wrote(40.0, 0.0), told(40.0, 1.0)), (wrote(40.0, 0.0), snapshot))
    assert memory.contests == {}
    assert stands == wrote(40.0, 0.0)


def test_watch_write_in_doubt_and_points_that_are_no_setpoint_accuse_nobody():
    memory, _ = seen((wrote(40.0, 0.0), told(40.0, 1.0)), (wrote(0.0, 5.0, known=False), told(-100.0, 10.0)))
    assert memory.contests == {}
    assert memory.sent[BESS][-1] == (0.0, 40.0)  # what is in doubt was not ours yet
    memory, _ = watch(
        LAYOUT, ContentionMemory(), {"bess1.beat": wrote(1.0, 0.0)}, told(9.0, 1.0, point="bess1.beat")
    )
    assert memory == ContentionMemory()


def test_watch_takes_each_write_once_however_often_it_is_looked_at():
    steady = [(wrote(40.0, 5.0), told(40.0, 6.0 + i)) for i in range(3)]
    memory, _ = seen(*steady)
    assert [v for _, v in memory.sent[BESS]] == [40.0, 40.0]  # what stood there, and the write
    memory, _ = seen((wrote(40.0, 5.0), told(10.0, 5.0)), *steady)
    assert [v for _, v in memory.sent[BESS]] == [10.0, 40.0]


@pytest.mark.parametrize(
    ("value", "contended"),
    [
        (205.0, False),  # the newest, and what its register rounds
        (195.0, False),
        (205.1, True),
        (194.9, True),
        (105.0, False),  # an older one
        (95.0, False),
        (45.0, False),
        (35.0, False),
        (105.1, True),
        (34.9, True),
        (150.0, True),  # between two old ones is nobody of ours
    ],
)
def test_watch_old_values_count_each_by_itself(value: float, contended: bool):
    memory, _ = seen(
        (wrote(40.0, 0.0), told(40.0, 1.0)),
        (wrote(100.0, 30.0), told(100.0, 31.0)),
        (wrote(200.0, 60.0), told(200.0, 61.0)),
        (wrote(200.0, 60.0), told(value, 90.0)),
    )
    assert bool(memory.contests) is contended


@pytest.mark.parametrize(
    ("value", "contended"),
    [(-105.0, False), (-105.1, True), (0.0, False), (-97.0, False), (45.0, False), (45.1, True)],
)
def test_watch_between_two_of_ours_its_ends_are_rounded_too(value: float, contended: bool):
    first, second = (wrote(40.0, 0.0), told(40.0, 1.0)), wrote(-100.0, 30.0)
    memory, _ = seen(first, (second, told(40.0, 30.0)), (second, told(value, 32.0)))
    assert bool(memory.contests) is contended
    up = wrote(140.0, 30.0)
    for top, others in ((145.0, False), (143.0, False), (145.1, True)):
        memory, _ = seen(first, (up, told(40.0, 30.0)), (up, told(top, 32.0)))
        assert bool(memory.contests) is others
    memory, _ = seen((wrote(-200.0, 0.0), told(-200.0, 1.0)), (wrote(-100.0, 30.0), told(-94.9, 32.0)))
    assert memory.contests


def test_ours_and_the_alarm_tell_the_newest_of_ours():
    sent = dict.fromkeys((PV, BESS), ((0.0, 10.0), (5.0, 20.0), (9.0, 30.0)))
    contests = {p: Contest(value=90.0, rewritten_s=9.0) for p in (PV, BESS)}
    memory = ContentionMemory(sent=sent, contests=contests)
    assert ours_of(LAYOUT, memory, 10.0) == {PV: 30.0}  # of a battery the ramp starts at what is read
    assert all("(30)" in a.text for a in contention_alarms(memory))


@pytest.mark.parametrize(
    ("readings", "held"),
    [
        ([0.0, 10.0, 20.0, 30.0], {}),
        ([0.0, 10.0, 20.0, 0.0], {PV: 0.0}),  # another master sent it, or the device was started anew
        ([0.0, 0.0, 10.0, 20.0], {PV: 20.0}),  # its read-back lags
        ([0.0, 0.0, 0.0, 0.0], {PV: 0.0}),  # deaf
        ([0.0, 5.0, 14.0, 24.0], {}),  # on its way by a ramp of its own
        ([0.0, 10.0, 20.0, 28.0], {}),  # what registers round
    ],
)
def test_watch_older_value_of_ours_is_held_and_nobody_elses(readings: list[float], held: dict[str, float]):
    steps = [(wrote(10.0 * k, float(k)), told(v, k + 0.5, point=PV)) for k, v in enumerate(readings)]
    memory, stands = seen(*steps, point=PV)
    assert memory.held == held
    assert memory.contests == {}
    assert stands == steps[-1][0]


def test_watch_reading_from_before_the_last_write_is_judged_by_what_was_sent_before_it():
    first = wrote(0.0, 0.0), told(0.0, 0.5, point=PV)
    memory, _ = seen(first, (wrote(10.0, 1.0), told(0.0, 0.5, point=PV)), point=PV)
    assert memory.held == {}


@pytest.mark.parametrize(
    ("sent", "value", "old"),
    [
        (((0.0, 100.0), (1.0, 0.0)), SLACK_KW, False),  # the newest, as a register rounds it
        (((0.0, 100.0), (1.0, 0.0)), 100.0 + SLACK_KW, True),  # an older one, rounded
        (((0.0, 0.0), (2.0, 100.0)), 0.0, False),  # told in the moment the newest was sent: before it
        (((2.0, 100.0), (3.0, 0.0)), 100.0, False),  # told before anything was sent
    ],
)
def test_old_value_is_one_of_those_a_device_had_and_not_the_newest_of_them(
    sent: tuple[tuple[float, float], ...], value: float, old: bool
):
    assert _is_old(LAYOUT, BESS, sent, value, 2.0) is old


def test_watch_keeps_the_last_values_and_counts_rewrites_from_the_last_of_ours():
    steps = [(wrote(float(i), 10.0 * i), told(float(i), 10.0 * i + 1.0)) for i in range(KEPT + 5)]
    memory, _ = seen(*steps)
    assert len(memory.sent[BESS]) == KEPT
    last_s = steps[-1][0].at_s
    against = told(-100.0, last_s + 10.0)
    memory, _ = watch(LAYOUT, memory, {BESS: wrote(20.0, last_s)}, against)
    assert memory.contests[BESS].rewritten_s == last_s + 10.0  # first seen: it waits from now on
    later = told(-100.0, last_s + 90.0)
    memory, _ = watch(LAYOUT, memory, {BESS: wrote(20.0, last_s + 80.0)}, later)
    assert memory.contests[BESS].rewritten_s == last_s + 80.0


def test_watch_other_master_gone_ends_the_contest():
    memory, stands = seen(
        (wrote(40.0, 0.0), told(40.0, 1.0)),
        (wrote(40.0, 0.0), told(-100.0, 10.0)),
        (wrote(40.0, 0.0), told(40.0, 20.0)),
    )
    assert memory.contests == {}
    assert stands == wrote(40.0, 0.0)


CONTESTED = ContentionMemory(
    sent={BESS: ((5.0, 99.0), (95.0, 40.0))}, contests={BESS: Contest(value=-100.0, rewritten_s=100.0)}
)


@pytest.mark.parametrize(
    ("now_s", "waits"), [(100.0, True), (100.0 + AGAIN_S - 0.1, True), (100.0 + AGAIN_S, False)]
)
@pytest.mark.parametrize("cause", [Cause.OPERATOR, Cause.PLAN, Cause.RULES, Cause.REFRESH, Cause.PROTECTION])
def test_yields_for_a_minute_and_then_tries_again(cause: Cause, now_s: float, waits: bool):
    assert yields(LAYOUT, CONTESTED, setpoint(BESS, 40.0, cause=cause), now_s) is waits
    assert yields(LAYOUT, ContentionMemory(), setpoint(BESS, 40.0, cause=cause), now_s) is False
    assert yields(LAYOUT, CONTESTED, setpoint(PV, 40.0, cause=cause), now_s) is False


@pytest.mark.parametrize("cause", Cause)
def test_yields_never_with_what_protects(cause: Cause):
    safe = cause in (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE)
    assert yields(LAYOUT, CONTESTED, setpoint(BESS, 40.0, cause=cause), 101.0) is not safe
    assert yields(LAYOUT, CONTESTED, setpoint(BESS, 40.0, cause=cause, protective=True), 101.0) is False


def falls_to(value: float | None, timeout_s: float) -> Layout:
    """A PV plant that goes to a limit of its own in silence; None: it holds its last one."""
    does = OnSilence.HOLD if value is None else OnSilence.VALUE
    behaviour = DeviceBehaviour(timeout_s=timeout_s, on_silence=does, value=value)
    authority = LAYOUT.setpoints[PV]
    authority = replace(authority, safety=replace(authority.safety, behaviour=behaviour))
    return replace(LAYOUT, setpoints={**LAYOUT.setpoints, PV: authority})


HELD = ContentionMemory(
    sent={PV: ((0.0, 400.0), (10.0, 300.0))}, contests={PV: Contest(value=100.0, rewritten_s=10.0)}
)


@pytest.mark.parametrize("value", [100.1, 299.9])
def test_yields_not_where_a_protection_goes_below_what_was_sent_and_the_read_back_may_stand_still(value):
    """What it tells is less; where it does not tell the truth it gives 300."""
    lower, as_sent = setpoint(PV, value, cause=Cause.PROTECTION), setpoint(PV, 300.0, cause=Cause.PROTECTION)
    assert yields(LAYOUT, HELD, lower, 11.0) is False
    assert yields(LAYOUT, HELD, as_sent, 11.0) is True
    assert yields(LAYOUT, HELD, replace(lower, cause=Cause.RULES), 11.0) is True, "a wish can wait"


@pytest.mark.parametrize(
    ("silent_kw", "timeout_s", "now_s", "waits"),
    [
        (320.0, 45.0, 49.9, True),
        (320.0, 45.0, 50.0, False),  # 5 s before it would give more by itself
        (310.1, 45.0, 50.0, False),
        (310.0, 45.0, 50.0, True),  # its own limit is no more than what protection allows
        (None, 45.0, 69.9, True),
        (320.0, 6.0, 12.9, True),  # half of a short time-out: no fight
        (320.0, 6.0, 13.0, False),
        (320.0, 10.0, 14.9, True),
        (320.0, 10.0, 15.0, False),
    ],
)
def test_yields_not_so_long_that_the_device_gives_more_by_itself(silent_kw, timeout_s, now_s, waits):
    s = setpoint(PV, 310.0, cause=Cause.PROTECTION)
    assert yields(falls_to(silent_kw, timeout_s), HELD, s, now_s) is waits


def test_watch_value_of_another_master_between_two_of_ours_stays_his():
    """Rewritten from 300, which is still read, to 147: 300 was no value between our 395 and our 147."""
    steps = [
        (wrote(395.0, 0.0), told(395.0, 1.0, point=PV)),
        (wrote(395.0, 0.0), told(300.0, 10.0, point=PV)),
        (wrote(147.0, 70.0), told(300.0, 71.0, point=PV)),
    ]
    memory, stands = seen(*steps, point=PV)
    assert memory.contests == {PV: Contest(value=300.0, rewritten_s=70.0)}
    assert stands == wrote(300.0, 70.0)
    slack_kw = 0.005 * LAYOUT.setpoints[PV].high
    for value, contested in ((300.0 - slack_kw, True), (300.0 + slack_kw, True), (299.9 - slack_kw, False)):
        memory, _ = seen(*steps[:2], (steps[2][0], told(value, 71.0, point=PV)), point=PV)
        assert bool(memory.contests) is contested, value


def test_ours_of_pv_limits_alone_and_as_they_were_sent_last():
    both = ContentionMemory(
        sent={BESS: ((0.0, 1.0),), PV: ((0.0, 200.0), (5.0, 300.0)), "pv2.p_limit_kw": ((0.0, 7.0),)},
        contests={p: Contest(value=9.0, rewritten_s=0.0) for p in (BESS, PV)},
    )
    assert ours_of(LAYOUT, both, 6.0) == {PV: 300.0}
    assert ours_of(LAYOUT, replace(both, contests={}), 6.0) == {}


@pytest.mark.parametrize(
    ("silent_kw", "now_s", "ours_kw"),
    [(140.0, 44.9, 300.0), (140.0, 45.0, 140.0), (400.0, 99.0, 300.0), (None, 99.0, 300.0)],
)
def test_ours_of_a_device_that_was_yielded_to_until_it_acts_by_itself(
    silent_kw: float | None, now_s: float, ours_kw: float
):
    """Found by soak, seed 95: a frozen read-back was yielded to for a minute; after 45 s PV fell to 140."""
    layout = falls_to(silent_kw, 45.0)
    contested = ContentionMemory(
        sent={PV: ((5.0, 300.0),)}, contests={PV: Contest(value=276.5, rewritten_s=5.0)}
    )
    assert ours_of(layout, contested, now_s) == {PV: ours_kw}


@pytest.mark.parametrize(
    ("told_kw", "stands_kw"),
    [(147.0, 147.0), (284.0, 147.0)],  # 284: it stands still as yet, between two of ours
)
def test_watch_contest_that_is_over_leaves_the_setpoint_at_the_nearer_of_told_and_sent(told_kw, stands_kw):
    """A device stood still at 284 and looked like another master: it holds what was written meanwhile."""
    steps = [
        (wrote(50.0, -9.0), told(50.0, -8.0, point=PV)),
        (wrote(291.0, 0.0), told(291.0, 1.0, point=PV)),
        (wrote(291.0, 0.0), told(320.0, 10.0, point=PV)),
    ]
    memory, stands = seen(*steps, point=PV)
    assert stands == wrote(320.0, 0.0)
    memory, after = watch(LAYOUT, memory, {PV: wrote(147.0, 66.0)}, told(told_kw, 67.0, point=PV))
    assert memory.contests == {}
    assert after[PV] == wrote(stands_kw, 66.0)


def test_watch_device_that_keeps_an_older_value_of_ours_is_told_and_is_no_contest():
    steps = [(wrote(v, t), told(40.0, t + 1.0)) for v, t in ((40.0, 0.0), (80.0, 10.0), (80.0, 10.0))]
    memory, stands = seen(*steps[:2], (steps[2][0], told(40.0, 20.0)))
    assert memory.contests == {}
    assert stands == wrote(80.0, 10.0)
    (alarm,) = contention_alarms(memory)
    assert (alarm.code, alarm.asset) == ("setpoint.not_taken", BESS)
    assert alarm.text == f"{BESS} still holds 40: 80 was acknowledged and is not taken"


@pytest.mark.parametrize(("told_kw", "contested"), [(40.0, False), (41.0, False), (400.0, True)])
def test_watch_deaf_device_is_no_contest_however_often_it_was_written_since(told_kw: float, contested: bool):
    steps = [(wrote(40.0, 0.0), told(40.0, 1.0))]
    for n in range(3 * KEPT):
        steps.append((wrote(-100.0 - n, 10.0 + 20.0 * n), told(told_kw, 20.0 + 20.0 * n)))
    memory, _ = seen(*steps)
    assert (BESS in memory.contests) is contested
    assert len(memory.sent[BESS]) == KEPT
    assert [a.code for a in contention_alarms(memory)] == [
        "setpoint.contention" if contested else "setpoint.not_taken"
    ]
