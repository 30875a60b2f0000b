"""Kinds of values a case takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.case_costs import as_array

Values = float | Sequence[float] | FloatArray  # one number for every step, or one for each
Flags = bool | Sequence[bool] | BoolArray


def frozen_values(what: str, key: str, values: Values | None) -> Any:
    """A number, or a tuple of them: what can be compared and hashed."""
    if values is None:
        return None
    out = as_array(what, key, values)
    return float(out) if out.ndim == 0 else tuple(out.ravel().tolist())


def frozen_flags(values: Flags) -> Any:
    """A flag, or a tuple of them."""
    one = isinstance(values, bool | np.bool_)
    return bool(values) if one else tuple(bool(x) for x in np.asarray(values).ravel())
