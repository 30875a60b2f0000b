"""What forces gensets on and off: feeders that wait are no reason right after a stop for want of load."""

from dataclasses import fields
from typing import Any

import pytest

from dispatch.protections.bus import Bus
from dispatch.protections.emergency import SURPLUS_REST_S, _without_waiting
from dispatch.state import ProtectionMemory
from ems.site import GridMode


def bus_of(**changes: Any) -> Bus:
    return Bus(**({f.name: 0.0 for f in fields(Bus)} | changes))


@pytest.mark.parametrize(
    ("stopped", "now_s", "waits"),
    [
        (None, 10.0, 90.0),
        ((GridMode.ISLANDED, 10.0), 10.0, 0.0),
        ((GridMode.ISLANDED, 10.0), 9.0 + SURPLUS_REST_S, 0.0),
        ((GridMode.ISLANDED, 10.0), 10.0 + SURPLUS_REST_S, 90.0),
        ((GridMode.GRID_TIED, 10.0), 11.0, 90.0),  # other sources carry the bus since
    ],
)
def test_waiting_feeders_fetch_no_set_that_has_just_gone_for_want_of_load(
    stopped: tuple[GridMode, float] | None, now_s: float, waits: float
):
    bus = bus_of(mode=GridMode.ISLANDED, waiting_kw=90.0, load_kw=40.0)
    left = _without_waiting(bus, ProtectionMemory(surplus_stop=stopped), now_s)
    assert (left.waiting_kw, left.load_kw) == (waits, 40.0)
