"""What a setpoint stands at after a write that was not confirmed, and after its read-back."""

from dataclasses import replace

import pytest

from dispatch.layout import layout_of
from dispatch.state import Written
from dispatch.writing.outcomes import after_write, read_back, repeat_after_s, slack_of
from ems.commands import Cause, Command, WriteOutcome
from ems.telemetry import Quality, Reading, Snapshot
from sim.faults import Fault
from sim.rig import Rig
from tests.builders import T0, site
from tests.unit.dispatch.test_read_back import PEAK_KW, demo

PV, BESS, RUN = "pv1.p_limit_kw", "bess1.p_set_kw", "gen1.run_request"
LAYOUT = layout_of(site())


def command(point: str, value: float) -> Command:
    return Command(
        point=point, value=value, cause=Cause.RULES, reason="a test", owner="test", plan_id=None, epoch=1,
        seq=1, limits_hash="", decided_at=T0, decided_s=5.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("point", "was", "sent", "outcome", "stands"),
    [
        (PV, 100.0, 107.0, WriteOutcome.CONFIRMED, 107.0),
        (
            PV,
            100.0,
            107.0,
            WriteOutcome.NOT_SENT,
            100.0,
        ),  # it was 107: ramps went on from what no device held
        (PV, 100.0, 107.0, WriteOutcome.REJECTED, 100.0),
        (PV, 100.0, 107.0, WriteOutcome.UNKNOWN, 100.0),
        (PV, 100.0, 40.0, WriteOutcome.UNKNOWN, 40.0),  # it may be held: a ramp up starts there
        (PV, 100.0, 40.0, WriteOutcome.NOT_SENT, 100.0),
        (BESS, -50.0, 30.0, WriteOutcome.UNKNOWN, 0.0),
        (BESS, -50.0, -80.0, WriteOutcome.UNKNOWN, -50.0),
        (BESS, None, -80.0, WriteOutcome.UNKNOWN, -80.0),
        (RUN, 0.0, 1.0, WriteOutcome.UNKNOWN, 1.0),
    ],
)
def test_unconfirmed_write_no_ramp_starts_beyond_what_is_held(
    point: str, was: float | None, sent: float, outcome: WriteOutcome, stands: float
):
    last = None if was is None else Written(value=was, at_s=1.0, known=True)
    after = after_write(command(point, sent), outcome, last)
    assert after.value == stands
    assert after.known is (outcome is WriteOutcome.CONFIRMED)
    assert after.wanted == (None if after.known else sent)


def test_unconfirmed_write_repetitions_grow_rarer():
    w, waits = Written(value=0.0, at_s=0.0, known=True), []
    for _ in range(5):
        w = after_write(command(BESS, 10.0), WriteOutcome.UNKNOWN, w)
        waits.append(repeat_after_s(w))
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_unconfirmed_write_first_of_all_or_after_one_that_held_is_the_first_try():
    for last in (None, Written(value=0.0, at_s=0.0, known=True)):
        w = after_write(command(BESS, 10.0), WriteOutcome.UNKNOWN, last)
        assert (w.tries, w.at_s, w.wanted, repeat_after_s(w)) == (1, 5.0, 10.0, 2.0)
    assert repeat_after_s(Written(value=0.0, at_s=0.0, known=False)) == 2.0  # tried again for its effect


@pytest.mark.parametrize(("point", "slack"), [(PV, 3.0), (BESS, 5.0), (RUN, 0.5)])
def test_read_back_may_lie_as_far_off_as_registers_round(point: str, slack: float):
    assert slack_of(LAYOUT, point) == slack
    wide = replace(LAYOUT.setpoints[point], deadband=8.0)
    layout = replace(LAYOUT, setpoints={**LAYOUT.setpoints, point: wide})
    assert slack_of(layout, point) == (0.5 if point == RUN else 8.0)
    w = Written(value=90.0, at_s=5.0, known=False, wanted=1.0, tries=3)
    for off, known in ((slack, True), (-slack, True), (slack + 0.01, False), (-slack - 0.01, False)):
        reading = Reading(point=point, value=1.0 + off, quality=Quality.GOOD, source_time=T0, arrived_s=6.0)
        after = read_back(LAYOUT, {point: w}, Snapshot(at=T0, monotonic_s=7.0, readings={point: reading}))
        less = w if point == RUN else replace(w, value=max(0.0, 1.0 + off))
        assert after[point] == (Written(value=1.0, at_s=5.0, known=True) if known else less)


@pytest.mark.parametrize(
    ("point", "was", "told", "stands"),
    [
        (PV, 380.0, 140.0, 140.0),
        (PV, 380.0, 400.0, 380.0),
        (BESS, -90.0, -40.0, -40.0),
        (BESS, -90.0, 20.0, 0.0),
    ],
)
def test_refused_write_stands_at_what_the_device_tells_where_that_is_less(point, was, told, stands):
    """A limit that fell back by itself was taken for the next small step up from there, which was refused."""
    w = after_write(
        command(point, 1.5 * was), WriteOutcome.REJECTED, Written(value=was, at_s=1.0, known=True)
    )
    reading = Reading(point=point, value=told, quality=Quality.GOOD, source_time=T0, arrived_s=6.0)
    w = read_back(LAYOUT, {point: w}, Snapshot(at=T0, monotonic_s=7.0, readings={point: reading}))[point]
    assert (w.value, w.known) == (stands, False)


def test_refused_write_is_remembered_by_what_the_device_fell_back_to():
    """The next refused step up from there was as near to it as registers round, and was taken for done."""
    refuses = Fault(kind="write_refused", target="pv1", from_s=20.0, until_s=140.0)
    rig = Rig(demo(), load_kw=PEAK_KW, pv_kw=600.0, faults=(refuses,)).run(130.0)
    assert rig.last.held[PV] == 140.0
    written = rig.runtime.state.written[PV]
    assert (written.value, written.known) == (140.0, False)


def test_small_steps_that_are_all_refused_move_nothing():
    """Each was as near to what the device held as registers round, and was taken for done by that."""
    w = Written(value=100.0, at_s=0.0, known=True)
    for k in range(1, 6):
        w = after_write(replace(command(PV, 100.0 + 2.0 * k), decided_s=float(k)), WriteOutcome.REJECTED, w)
        reading = Reading(point=PV, value=100.0, quality=Quality.GOOD, source_time=T0, arrived_s=k + 0.5)
        snapshot = Snapshot(at=T0, monotonic_s=k + 0.9, readings={PV: reading})
        w = read_back(LAYOUT, {PV: w}, snapshot)[PV]
        assert (w.value, w.known) == (100.0, False)


def test_read_back_of_what_nobody_wants_or_is_no_setpoint_confirms_nothing():
    doubt = Written(value=4.0, at_s=5.0, known=False)  # written again for its effect
    beat = Written(value=4.0, at_s=5.0, known=False, wanted=4.0)
    readings = {
        p: Reading(point=p, value=4.0, quality=Quality.GOOD, source_time=T0, arrived_s=6.0)
        for p in (BESS, "bess1.heartbeat")
    }
    written = {BESS: doubt, "bess1.heartbeat": beat, PV: replace(beat, wanted=5.0)}
    assert read_back(LAYOUT, written, Snapshot(at=T0, monotonic_s=7.0, readings=readings)) == written


@pytest.mark.parametrize(
    ("told", "quality", "arrived_s", "known"),
    [
        (107.0, Quality.GOOD, 6.0, True),
        (107.0, Quality.GOOD, 5.0, False),  # told before it was sent
        (100.0, Quality.GOOD, 6.0, False),
        (107.0, Quality.STALE, 6.0, False),
        (None, Quality.GOOD, 6.0, False),
    ],
)
def test_unanswered_write_is_done_when_the_device_says_so(
    told: float | None, quality: Quality, arrived_s: float, known: bool
):
    w = after_write(command(PV, 107.0), WriteOutcome.UNKNOWN, Written(value=100.0, at_s=1.0, known=True))
    reading = Reading(point=PV, value=told, quality=quality, source_time=T0, arrived_s=arrived_s)
    snapshot = Snapshot(at=T0, monotonic_s=7.0, readings={PV: reading})
    after = read_back(LAYOUT, {PV: w, RUN: w}, snapshot)
    assert after[RUN] == w
    assert after[PV] == (Written(value=107.0, at_s=5.0, known=True) if known else w)


def test_first_write_lost_starts_its_ramp_from_what_is_measured():
    """A charge of 100 kW was under way when this edge started; its first write was lost, and its next one
    started from what it had asked for and nobody held.
    """
    fault = Fault(kind="write_lost", target="bess1", from_s=0.0, until_s=20.0)
    rig = Rig(site(), load_kw={"critical": 40.0}, pv_kw=400.0, faults=[fault]).run(20.0)
    stands = rig.runtime.state.written["bess1.p_set_kw"]
    assert stands.known is False
    assert abs(stands.value) <= 1.0  # what the battery gave all the while, and not what was asked of it
    assert stands.wanted is not None


def test_write_carried_out_but_unanswered_is_read_back_and_not_repeated():
    """Each write was sent again every 2 s, and in every cycle by a protection."""
    load = {f: 0.5 * kw for f, kw in PEAK_KW.items()}
    fault = Fault(kind="write_unanswered", target="gen1")

    def sent(faults: list[Fault]) -> int:
        rig = Rig(demo(), load_kw=load, pv_kw=100.0, faults=faults).run(60.0)
        return sum(r.wrote("gen1.run_request") is not None for r in rig.rows())

    assert 0 < sent([fault]) <= sent([]) + 1
