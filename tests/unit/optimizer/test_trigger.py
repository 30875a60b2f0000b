"""When a planner looks again."""

from datetime import timedelta

import pytest

from optimizer.trigger import next_look
from tests.builders import T0


@pytest.mark.parametrize(
    ("now_s", "look_s"),
    [(0.0, 10.0), (63.0, 73.0), (890.0, 900.0), (895.0, 900.0), (899.5, 900.0), (900.0, 910.0)],
)
def test_next_look_is_soon_and_never_past_a_renewal(now_s, look_s):
    assert next_look(T0 + timedelta(seconds=now_s), 900.0) == T0 + timedelta(seconds=look_s)
