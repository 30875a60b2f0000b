"""Kinds of values a case takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.case_costs import as_array, number, refused

Values = float | Sequence[float] | FloatArray  # one number for every step, or one for each
Flags = bool | Sequence[bool] | BoolArray


def frozen_values(what: str, key: str, values: Values | None) -> Any:
    """A number, or a tuple of them: what can be compared and hashed."""
    if values is None:
        return None
    out = as_array(what, key, values)
    return float(out) if out.ndim == 0 else tuple(out.ravel().tolist())


def frozen_flags(what: str, key: str, values: Flags) -> Any:
    """A flag, or a tuple of them."""
    out = as_array(what, key, values)
    if not np.isin(out, (0.0, 1.0)).all():
        raise refused(what, key, values, "flags: True or False")
    return bool(out) if out.ndim == 0 else tuple(bool(x) for x in out.ravel())


def pairs(what: str, key: str, rows: object) -> tuple[tuple[Any, Any], ...]:
    """Rows of two values each."""
    try:
        found = tuple((a, b) for a, b in rows)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise refused(what, key, rows, "rows of two values each") from None
    if not all(number(x) or x is None for row in found for x in row):
        raise refused(what, key, rows, "rows of two numbers each")
    return found
