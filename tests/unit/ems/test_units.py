"""Quantities with units."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.errors import BadValue
from ems.units import conversion_factor, known_units, parse_quantity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("750 kW", "kW", 750.0),
        ("750kW", "kW", 750.0),
        ("0.75 MW", "kW", 750.0),
        ("1.2 MWh", "kWh", 1200.0),
        ("1.6 MVA", "kVA", 1600.0),
        ("30 min", "s", 1800.0),
        ("30 min", "h", 0.5),
        ("95 %", "", 0.95),
        ("-0.37 %/K", "1/degC", -0.0037),
        ("1500 kW/min", "kW/s", 25.0),
        ("160 USD/MWh", "USD/kWh", 0.16),
        ("200 ms", "s", 0.2),
        (" 1e3 ", "kW", 1000.0),
        ("-.5 kW", "kW", -0.5),
    ],
)
def test_parse_quantity_written_unit_converted(text, unit, value):
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        ("750 kVA", "kW", "apparent power"),
        ("750 kWh", "kW", "energy"),
        ("750 KW", "kW", "did you mean 'kW'"),
        ("750 kilowatt", "kW", "unknown unit"),
        ("1,200 kWh", "kWh", "unknown unit"),
        ("0.16 EUR/kWh", "USD/kWh", "money in EUR"),
        ("18:30", "s", "unknown unit"),
        ("nan", "kW", "not a number"),
        ("inf kW", "kW", "not a number"),
        ("1e999 kW", "kW", "not finite"),
        ("kW", "kW", "not a number"),
        ("", "kW", "not a number"),
        ("5 kW/", "kW", "not of active power"),
    ],
)
def test_parse_quantity_wrong_text_refused_with_reason(text, unit, words):
    with pytest.raises(BadValue, match=words):
        parse_quantity(text, unit)


@given(st.sampled_from(known_units()), st.floats(-1e6, 1e6))
def test_parse_quantity_own_unit_is_identity(unit, value):
    assert parse_quantity(f"{value!r} {unit}", unit) == value


@given(st.text(max_size=20), st.sampled_from(["kW", "", "s", "USD/kWh"]))
def test_parse_quantity_any_text_finite_or_refused(text, unit):
    with contextlib.suppress(BadValue):
        assert math.isfinite(parse_quantity(text, unit))


@pytest.mark.parametrize(("a", "b"), [("kW", "MW"), ("s", "h"), ("kWh", "Wh"), ("%", ""), ("%/K", "1/degC")])
def test_conversion_factor_there_and_back_is_one(a, b):
    assert conversion_factor(a, b) * conversion_factor(b, a) == pytest.approx(1.0, rel=1e-14)
