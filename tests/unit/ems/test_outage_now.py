"""Measured mains have the last word on announced outages."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.condition import PlantCondition
from ems.outage import OutageNotice
from ems.outage_now import overrunning, standing
from ems.site import GridMode
from tests.builders import T0, site
from tests.unit.optimizer.posing import Pose

HOUR = timedelta(hours=1)
NOTICE = OutageNotice(id="u.a", issued_at=T0, start=T0 + 10 * HOUR, end=T0 + 14 * HOUR, source="u")
POSE = Pose(
    site=site(),
    load_kw={"critical": [60.0], "essential": [100.0], "deferrable": [20.0]},
    pv_kw={"pv1": [100.0]},
)


def condition(
    hour: float, mode: GridMode = GridMode.GRID_TIED, lost: tuple[float, ...] = (), **more: Any
) -> PlantCondition:
    losses = tuple(T0 + h * HOUR for h in lost)
    return replace(POSE.condition(), at=T0 + hour * HOUR, grid_mode=mode, grid_losses=losses, **more)


@pytest.mark.parametrize(
    ("now", "why", "stands"),
    [
        (condition(12.5, lost=(10.1,), mains_good_s=900.0), "lost in it and good again", False),
        (condition(12.5, lost=(10.1,), mains_good_s=500.0), "not for long enough", True),
        (condition(12.5, mains_good_s=9e9), "never lost: it may still begin", True),
        (condition(12.5, lost=(3.0,), mains_good_s=900.0), "lost long before", True),
        (condition(9.0, lost=(8.9,), mains_good_s=900.0), "not begun", True),
        (condition(12.5, GridMode.ISLANDED, lost=(10.1,), mains_good_s=900.0), "still an island", True),
    ],
)
def test_outage_is_over_early_only_where_the_mains_were_lost_in_it_and_are_good(
    now: PlantCondition, why: str, stands: bool
):
    assert bool(standing([NOTICE], now, {"u": 600.0})) is stands, why
    assert standing([NOTICE], now, {}) == (NOTICE,), "unless it is declared, it lasts as announced"
    assert standing([NOTICE], now, {"other": 600.0}) == (NOTICE,)


NEXT = replace(NOTICE, id="u.b", start=T0 + 15 * HOUR, end=T0 + 17 * HOUR)


@pytest.mark.parametrize(
    ("now", "notices", "late"),
    [
        (condition(14.5, GridMode.ISLANDED, lost=(10.0,)), [NOTICE], NOTICE),
        (condition(14.5, GridMode.BLACK, lost=(10.0,)), [NOTICE, NEXT], NOTICE),
        (condition(13.5, GridMode.ISLANDED, lost=(10.0,)), [NOTICE], None),
        (condition(14.5, GridMode.GRID_TIED, lost=(10.0,)), [NOTICE], None),
        (condition(14.5, GridMode.ISLANDED, lost=(10.0,), mains_good=True), [NOTICE], None),
        (condition(14.5, GridMode.UNKNOWN, lost=(10.0,)), [NOTICE], None),
        (condition(16.0, GridMode.ISLANDED, lost=(10.0,)), [NOTICE, NEXT], None),
        (condition(14.5, GridMode.ISLANDED, lost=(10.0, 14.2)), [NOTICE], None),
        (condition(40.0, GridMode.ISLANDED, lost=(10.0,)), [NOTICE], None),
    ],
)
def test_outage_overruns_where_its_mains_are_not_back_at_its_end(
    now: PlantCondition, notices: list[OutageNotice], late: OutageNotice | None
):
    assert overrunning(notices, now) == late
