"""Record time is kept over, never twice the same, and says how far it may be relied on."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.observing.utc import AGREED_S, HOLDOVER_S, UNCALLED_S, UtcMemory, record_time
from ems import clock
from ems.clock import TIMESYNC_S, kernel_synchronised, timesyncd_synchronised, vouched
from ems.telemetry import UtcState

T0 = datetime(2026, 3, 2, tzinfo=UTC)
OLD = datetime(1970, 1, 1, tzinfo=UTC)


def run(walls: Sequence[tuple[float, datetime, bool | None]]) -> list[tuple[datetime, UtcState]]:
    memory, out = UtcMemory(), []
    for now_s, wall, synchronised in walls:
        memory, at, state = record_time(memory, wall, now_s, synchronised)
        out.append((at, state))
    return out


def at(wall: datetime, seconds: float) -> datetime:
    return wall + timedelta(seconds=seconds)


@pytest.mark.parametrize(("synchronised", "after_s"), [(True, AGREED_S), (None, UNCALLED_S), (False, None)])
def test_record_time_new_time_is_believed_when_its_source_vouches_for_it(synchronised, after_s):
    hour = timedelta(hours=1)
    n = 700
    told = run([(float(t), at(T0, t) + (hour if t >= 10 else timedelta()), synchronised) for t in range(n)])
    moved = next((t - 10 for t in range(n) if told[t][0] >= at(T0, t) + hour), None)
    assert moved == after_s


def test_record_time_set_back_goes_on_without_a_key_twice():
    walls = [(float(t), at(T0, t if t < 10 else t - 3600.0), True) for t in range(60)]
    told = [x for x, _ in run(walls)]
    assert all(b - a >= timedelta(milliseconds=1) for a, b in pairwise(told))


def test_record_time_set_back_is_invalid_until_the_clock_has_caught_up():
    """Believed after ten seconds; then record time stands nearly still, and is wrong, until they meet."""
    back_s = 100.0
    told = run([(float(t), at(T0, t if t < 10 else t - back_s), True) for t in range(130)])
    states = [s for _, s in told]
    assert states[9] is UtcState.VALID
    late_s = [(told[t][0] - at(T0, t - back_s)).total_seconds() for t in range(130)]
    assert all(states[t] is UtcState.INVALID for t in range(10, 130) if late_s[t] > 1.01)
    believed = 10 + int(AGREED_S)
    assert late_s[believed] > 80.0
    caught_up = states.index(UtcState.VALID, believed)
    assert caught_up - believed == pytest.approx(late_s[believed], abs=2.0)
    assert all(s is UtcState.VALID for s in states[caught_up:])


def test_record_time_never_set_is_invalid_until_it_is():
    walls = [(float(t), at(OLD if t < 20 else T0, t), t >= 20) for t in range(60)]
    states = [s for _, s in run(walls)]
    assert states[19] is UtcState.INVALID
    assert states[20 + int(AGREED_S) - 1] is UtcState.INVALID
    assert states[20 + int(AGREED_S)] is UtcState.VALID


def test_record_time_source_lost_too_long_is_invalid():
    memory, _, _ = record_time(UtcMemory(), T0, 0.0, True)
    for now_s, expected in (
        (1.0, UtcState.HOLDOVER),
        (HOLDOVER_S, UtcState.HOLDOVER),
        (HOLDOVER_S + 5.0, UtcState.INVALID),
    ):
        memory, _, state = record_time(memory, at(T0, now_s), now_s, False)
        assert state is expected


def test_record_time_slewing_is_followed():
    told = run([(float(t), at(T0, t * 1.0005), None) for t in range(2000)])
    assert told[-1] == (at(T0, 1999 * 1.0005), UtcState.VALID)


@given(
    st.lists(
        st.tuples(st.floats(0.1, 900.0), st.floats(-4e8, 4e8), st.sampled_from((True, False, None))),
        min_size=2, max_size=60,
    )
)  # fmt: skip
def test_record_time_whatever_the_wall_clock_does_keys_grow(moves):
    now_s, walls = 0.0, []
    for dt_s, error_s, synchronised in moves:
        now_s += dt_s
        walls.append((now_s, at(T0, now_s + error_s), synchronised))
    keys = [round(x.timestamp() * 1000.0) for x, _ in run(walls)]
    assert all(b > a for a, b in pairwise(keys))


def test_kernel_synchronised_answers():
    assert kernel_synchronised() in (True, False, None)


@pytest.mark.parametrize(
    ("age_s", "told"),
    [(0.0, True), (TIMESYNC_S - 60.0, True), (TIMESYNC_S + 60.0, False), (-5.0, True), (-3600.0, False)],
    ids=["now", "some polls missed", "too many", "slewed meanwhile", "set back since"],
)
def test_timesyncd_synchronised_is_what_it_did_lately(tmp_path: Path, age_s: float, told: bool):
    file = tmp_path / "synchronized"
    assert timesyncd_synchronised(file) is None, "not since the machine started"
    file.touch()
    at_s = time.time() - age_s
    os.utime(file, (at_s, at_s))
    assert timesyncd_synchronised(file) is told


@pytest.mark.parametrize("timesyncd", [True, False, None])
@pytest.mark.parametrize("kernel", [True, False, None])
def test_synchronised_kernel_is_asked_first_and_where_nobody_tells_nobody_vouches(
    monkeypatch: pytest.MonkeyPatch, kernel: bool | None, timesyncd: bool | None
):
    monkeypatch.setattr(clock, "kernel_synchronised", lambda: kernel)
    monkeypatch.setattr(clock, "timesyncd_synchronised", lambda: timesyncd)
    expected = timesyncd if kernel is None else kernel
    assert clock.synchronised() is expected
    assert vouched() is (expected is True)
