"""Registers hold counts: what is written stays inside its bounds after the device has rounded it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.point_map import point_codecs
from dispatch.layout import layout_of
from dispatch.writing.gate import GateInput, gate
from dispatch.writing.rounding import inside
from ems.commands import Cause, Command, Setpoint
from ems.site import GridMode
from tests.builders import T0
from tests.unit.dispatch.test_read_back import demo

STEPS = st.sampled_from([0.01, 0.1, 0.5, 1.0, 2.5])
KW = st.floats(-600.0, 600.0)


@given(KW, KW, KW, STEPS, st.booleans())
def test_rounding_device_never_holds_more_than_the_bounds(
    a: float, b: float, c: float, step: float, protective: bool
):
    low, value, high = sorted((a, b, c))
    asked = inside(value, low, high, step, protective=protective)
    held = round(asked / step) * step
    some = any(low <= n * step <= high for n in range(round(low / step) - 1, round(high / step) + 2))
    assert low <= asked <= high
    if some:
        assert low - 1e-6 <= held <= high + 1e-6
        assert abs(held - value) <= step + 1e-6
    if protective and low <= 0.0 <= high:
        assert abs(held) <= abs(value) + 1e-5 * step


@pytest.mark.parametrize(
    ("value", "low", "high", "step", "protective", "asked"),
    [
        (1.1, 1.0, 5.0, 0.5, False, 1.1),  # the device rounds to 1.0, which is a bound and inside
        (1.9, 0.0, 2.0, 0.5, False, 1.9),
        (1.9, 0.0, 5.0, 0.5, False, 1.9),
        (1.9, 0.0, 5.0, 0.5, True, 1.5),  # 2.0 would be more than what protects
        (1.1, 0.0, 5.0, 0.5, True, 1.1),
        (-1.9, -5.0, 0.0, 0.5, True, -1.5),
        (-1.1, -5.0, 0.0, 0.5, True, -1.1),
        (1.9, 0.0, 1.95, 0.5, False, 1.5),
        (1.1, 1.05, 5.0, 0.5, False, 1.5),
        (-1.9, -1.95, 0.0, 0.5, False, -1.5),
        (-1.1, -5.0, -1.05, 0.5, False, -1.5),
        (1.1, 1.05, 1.2, 0.5, False, 1.1),  # no count at all between the bounds
        (1.9, 1.6, 2.0, 0.5, True, 2.0),  # the only count there is
        (1.6, 1.5, 1.7, 0.5, True, 1.6),
        (1.4, 1.0, 5.0, 0.5, True, 1.0),  # down to the bound itself
        (-1.4, -5.0, -1.0, 0.5, True, -1.0),
        (0.3, 0.0, 0.3, 0.1, False, 0.3),  # 3 * 0.1 is more than 0.3 in the last bit
        (1e-6, 1e-6, 5.0, 1.0, False, 1e-6),  # whole, but for noise
        (3.0, 3.0, 3.0, 2.0, False, 3.0),
    ],
)
def test_register_is_asked_for_a_count_inside(
    value: float, low: float, high: float, step: float, protective: bool, asked: float
):
    assert inside(value, low, high, step, protective=protective) == asked


@pytest.mark.parametrize("step", [None, 0.0, -1.0])
def test_register_that_holds_every_number_changes_nothing(step: float | None):
    assert inside(1.23456, 0.0, 2.0, step, protective=True) == 1.23456


@pytest.mark.parametrize("high_kw", [123.46, 123.47, 123.4600001])
def test_site_bound_between_two_counts_is_not_exceeded_by_the_device(high_kw: float):
    """A limit of 123.46 kW on a register of 0.1 kW was held as 123.5 kW."""
    site = demo()
    point = "pv1.p_limit_kw"
    bounded = replace(site.authority.setpoints[point], high=high_kw)
    setpoints = {**site.authority.setpoints, point: bounded}
    layout = layout_of(replace(site, authority=replace(site.authority, setpoints=setpoints)))
    codec = next(point_codecs(c)[point] for c in site.connections if point in point_codecs(c))
    asked = Setpoint(
        point=point, value=high_kw, low=0.0, high=high_kw, cause=Cause.RULES, reason="a test", owner="test",
        plan_id=None, protective=False, limits_hash="",
    )  # fmt: skip
    seen = GateInput(
        mode=GridMode.GRID_TIED, forming=frozenset(), fresh={"pv1": True}, answering={"pv1": True},
        held_safe=False, epoch=1, now=T0, now_s=0.0, dt_s=1.0,
    )  # fmt: skip
    command = gate(layout, asked, None, seen, 1)
    assert isinstance(command, Command)
    held = codec.from_raw(codec.to_raw(command.value)).value
    assert held is not None
    assert high_kw - codec.point.scale <= held <= high_kw
