"""The true one-second cycle of `ems demo --real-time`, and a planner that is killed meanwhile."""

import re

import numpy as np
import pytest

from connectors.historian.sqlite import SqliteHistoryReader
from tests.e2e.conftest import RealTime

pytestmark = pytest.mark.timeout(300)
BACK_S_MAX = 10.0


def test_real_time_jitter_is_printed(real_time: RealTime):
    assert real_time.live.process.returncode == 0, real_time.live.text
    assert re.search(r"cycles of 1 s:\s+difference\s+from\s+one\s+second", real_time.live.text)


def test_real_time_planner_killed_edge_misses_no_cycle(real_time: RealTime):
    starts_s = np.load(real_time.live.out / "run" / "cycles.npy")
    assert len(starts_s) >= 20
    assert np.diff(starts_s).max() < 2.0


def test_real_time_planner_killed_is_back_in_time(real_time: RealTime):
    assert real_time.back_s <= BACK_S_MAX


def test_real_time_planner_killed_last_plan_is_shown_within_one_cycle(real_time: RealTime):
    at = real_time.killed_at
    reader = SqliteHistoryReader(real_time.live.out / "run" / "history.sqlite")
    end = at.replace(year=at.year + 1)
    told = [e for e in reversed(reader.events(at, end, "edge.source.changed", 100)) if e.at >= at]
    assert [e.fields["now"] for e in told][:2] == ["last_plan", "plan"], told
    assert (told[0].at - at).total_seconds() <= 1.5
