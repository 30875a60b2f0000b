"""Columns of numbers as few bytes, and back bit for bit. Pure.

Each column is tried in several codings, and the shortest that gives back exactly what went in is kept:

`const`   one number for all, in the description itself
`plain`   whole numbers as they are, `delta` as differences from the one before
`decimal` numbers with a few digits after the point, as whole numbers: divided by 10**k, or times 10**-k
`float`   binary numbers of four or eight bytes

Bytes are stored by place (all first bytes, then all second ones), since neighbours in time differ in the
last ones alone. What is packed by deflate afterwards is short for that reason.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ems.errors import BadValue

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DIGITS_MAX = 6  # after the point
EXACT = 2.0**53  # whole numbers up to here are exact
_WIDTHS = ("<i1", "<i2", "<i4", "<i8")


@dataclass(frozen=True, slots=True)
class Column:
    """A coded column: what it says of itself, and its bytes."""

    form: Mapping[str, Any]
    data: bytes


def coded_ints(values: Ints) -> Column:
    """Whole numbers as a column."""
    if len(values) and (values == values[0]).all():
        return Column({"coding": "const", "n": len(values), "value": int(values[0])}, b"")
    return min(_int_columns(values), key=_packed)


def coded_floats(values: Floats) -> Column:
    """Finite numbers as a column; -0.0 stays -0.0."""
    n = len(values)
    bits = values.view(np.int64)
    if n and (bits == bits[0]).all():
        return Column({"coding": "const", "n": n, "hex": float(values[0]).hex()}, b"")
    for digits in range(DIGITS_MAX + 1):
        for times in (False, True):
            with np.errstate(over="ignore"):  # inf is not exact
                whole = np.rint(values * 10.0**digits)
            if not (np.abs(whole) < EXACT).all():
                break
            ints = whole.astype(np.int64)  # which has no -0
            if np.array_equal(_decimal(ints.astype(np.float64), digits, times).view(np.int64), bits):
                inner = coded_ints(ints)
                form = {"coding": "decimal", "n": n, "digits": digits, "times": times, "of": inner.form}
                return Column(form, inner.data)
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    exact = np.array_equal(short.astype(np.float64).view(np.int64), bits)
    stored = short if exact else values
    return Column({"coding": "float", "n": n, "dtype": stored.dtype.str}, _by_place(stored))


def decoded_ints(form: Mapping[str, Any], data: bytes) -> Ints:
    """What `coded_ints` was given.

    Raises
    ------
    BadValue : it is no such column.
    """
    match form:
        case {"coding": "const", "n": int(n), "value": int(value)}:
            return np.full(n, value, dtype=np.int64)
        case {"coding": "plain", "n": int(n), "dtype": str(dtype)}:
            return _of_places(data, dtype, n).astype(np.int64)
        case {"coding": "delta", "n": int(n), "dtype": str(dtype), "first": int(first)}:
            steps = np.concatenate([[first], _of_places(data, dtype, n - 1).astype(np.int64)])
            return np.cumsum(steps, dtype=np.int64)
        case _:
            raise BadValue(f"no column of whole numbers: {form}")


def decoded_floats(form: Mapping[str, Any], data: bytes) -> Floats:
    """What `coded_floats` was given.

    Raises
    ------
    BadValue : it is no such column.
    """
    match form:
        case {"coding": "const", "n": int(n), "hex": str(text)}:
            return np.full(n, float.fromhex(text))
        case {"coding": "decimal", "digits": int(digits), "times": bool(times), "of": dict(inner)}:
            return _decimal(decoded_ints(inner, data).astype(np.float64), digits, times)
        case {"coding": "float", "n": int(n), "dtype": str(dtype)}:
            return _of_places(data, dtype, n).astype(np.float64)
        case _:
            raise BadValue(f"no column of numbers: {form}")


def _decimal(whole: Floats, digits: int, times: bool) -> Floats:
    out: Floats = whole * 10.0**-digits if times else whole / 10.0**digits
    return out


def _int_columns(values: Ints) -> Iterator[Column]:
    n = len(values)
    plain = _narrow(values)
    yield Column({"coding": "plain", "n": n, "dtype": plain.dtype.str}, _by_place(plain))
    if n > 1:
        steps = _narrow(np.diff(values))
        form = {"coding": "delta", "n": n, "dtype": steps.dtype.str, "first": int(values[0])}
        yield Column(form, _by_place(steps))


def _packed(column: Column) -> int:
    return len(zlib.compress(column.data, 1))


def _narrow(values: Ints) -> NDArray[Any]:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    fits: Callable[[str], bool] = lambda w: np.iinfo(w).min <= low and high <= np.iinfo(w).max  # noqa: E731
    return values.astype(next(w for w in _WIDTHS if fits(w)))


def _by_place(values: NDArray[Any]) -> bytes:
    raw = np.ascontiguousarray(values).view(np.uint8)
    return raw.reshape(-1, values.itemsize).T.tobytes()


def _of_places(data: bytes, dtype: str, n: int) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if len(data) != n * kind.itemsize:
        raise BadValue(f"a column of {n} numbers of {kind.itemsize} bytes has {len(data)} bytes")
    raw = np.frombuffer(data, dtype=np.uint8).reshape(kind.itemsize, n)
    return np.ascontiguousarray(raw.T).view(kind).reshape(n)
