"""A set is fetched only where its minimum load goes somewhere."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import layout_of
from dispatch.protections.emergency import _has_room, _surplus_set
from ems.site import GridMode
from tests.builders import site
from tests.unit.dispatch.test_emergency import bus_of


@pytest.mark.parametrize(
    ("changes", "room"),
    [
        ({"mode": GridMode.GRID_TIED, "load_kw": 43.0, "lost_pv_kw": {}}, False),
        ({"mode": GridMode.GRID_TIED, "load_kw": 43.0, "lost_pv_kw": {}, "export_cap_kw": 100.0}, True),
        ({"mode": GridMode.GRID_TIED, "load_kw": 43.0, "lost_pv_kw": {}, "waiting_kw": 200.0}, True),
        ({"mode": GridMode.GRID_TIED, "load_kw": 200.0, "lost_pv_kw": {}}, True),
        ({"mode": GridMode.GRID_TIED, "load_kw": 200.0, "lost_pv_kw": {"pv1": 190.0}}, False),
        ({"mode": GridMode.ISLANDED, "forming_bess": ("bess1",), "load_kw": 20.0, "lost_pv_kw": {}}, False),
        (
            {
                "mode": GridMode.ISLANDED,
                "forming_bess": ("b",),
                "load_kw": 20.0,
                "down_kw": 90.0,
                "lost_pv_kw": {},
            },
            True,
        ),
        (
            {"mode": GridMode.ISLANDED, "forming_bess": (), "load_kw": 20.0, "lost_pv_kw": {}},
            True,
        ),  # it forms
        ({"mode": GridMode.BLACK, "load_kw": 0.0, "lost_pv_kw": {}}, True),
    ],
)
def test_set_is_fetched_only_where_it_would_not_be_stopped_as_surplus_at_once(
    changes: dict[str, Any], room: bool
):
    """A plant near its import cap with less load than a set gives: eight starts in three minutes."""
    gen1 = replace(site().gensets[0], p_rated_kw=200.0, p_min_kw=60.0)
    bus = bus_of(running=(), **changes)
    assert _has_room(bus, gen1) is room
    if "waiting_kw" not in changes:  # they close once it is there
        on = replace(bus, running=("gen1",), genset_min_kw=60.0)
        assert (_surplus_set(layout_of(site()), on, ()) is None) is room
