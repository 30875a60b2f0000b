"""Columns come back bit for bit, whatever was in them, and are short where there is little to say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.historian.archive.codec import (
    coded_floats,
    coded_ints,
    decoded_floats,
    decoded_ints,
)
from ems.errors import BadValue

INTS = st.lists(st.integers(-(2**62), 2**62), max_size=40)
FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40)
# Registers of devices: whole numbers with a scale, an offset now and then, and short floats.
REGISTERS = st.tuples(
    st.lists(st.integers(-(2**31), 2**31), max_size=40),
    st.sampled_from([1.0, 0.1, 0.01, 0.001, 10.0, 0.25, 1 / 3]),
).map(lambda x: [v * x[1] for v in x[0]])


@given(INTS)
def test_ints_come_back_exactly(values):
    column = coded_ints(np.array(values, dtype=np.int64))
    assert decoded_ints(column.form, column.data).tolist() == values


@given(st.one_of(FLOATS, REGISTERS, st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))))
def test_floats_come_back_bit_for_bit(values):
    array = np.array(values, dtype=np.float64)
    column = coded_floats(array)
    assert decoded_floats(column.form, column.data).tobytes() == array.tobytes()


def test_minus_zero_stays_minus_zero():
    column = coded_floats(np.array([0.0, -0.0, 1.0]))
    back = decoded_floats(column.form, column.data)
    assert [math.copysign(1.0, v) for v in back] == [1.0, -1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "coding", "bytes_max"),
    [
        ([5.0] * 1000, "const", 0),
        ([k * 0.1 for k in range(1000)], "decimal", 1000),
        ([k / 10 for k in range(1000)], "decimal", 1000),
        ([float(np.float32(1 / (k + 3))) for k in range(1000)], "float", 4000),
        ([1 / (k + 3) for k in range(1000)], "float", 8000),
    ],
)
def test_floats_take_the_coding_that_fits(values, coding, bytes_max):
    column = coded_floats(np.array(values))
    assert column.form["coding"] == coding
    assert len(column.data) <= bytes_max


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ({"coding": "plain", "n": 3, "dtype": "<i2"}, b"12345"),
        ({"coding": "spline", "n": 3}, b""),
        ({"n": 3}, b""),
        ({"coding": "delta", "n": 3, "dtype": "<i1"}, b"12"),
    ],
)
def test_column_that_was_never_written_is_refused(form, data):
    for decode in (decoded_ints, decoded_floats):
        with pytest.raises(BadValue):
            decode(form, data)
