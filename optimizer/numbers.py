"""The numbers of one problem: what is fed to a compiled model, by name. No solver, no modelling layer.

They stand in whole vectors from the first, in the order of the columns of the model. Name by name there are
only views of them, so that nothing has to be gathered for the solver.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ems.timegrid import BoolArray, FloatArray

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each name stands in a vector of all of them, in the order given and each in C order."""

    shapes: Shapes
    places: dict[str, slice]
    size: int


def layout(shapes: Shapes) -> Layout:
    """Names one after the other."""
    places, at = dict[str, slice](), 0
    for name, shape in shapes.items():
        places[name] = slice(at, at + prod(shape))
        at += prod(shape)
    return Layout(shapes, places, at)


class Parts(dict[str, Any]):
    """Views of a vector by name, in their shapes; a name is there once it has been opened to be written."""

    def __init__(self, where: Layout, vector: NDArray[Any]) -> None:
        super().__init__()
        self._where, self.vector = where, vector

    def open(self, name: str) -> NDArray[Any]:
        """The view of a name, to be written."""
        if name not in self:
            self[name] = self.vector[self._where.places[name]].reshape(self._where.shapes[name])
        view: NDArray[Any] = self[name]
        return view


class Marks(Parts):
    """The same of flags that are False until they are written, so that every name may be read."""

    def __missing__(self, name: str) -> NDArray[Any]:
        return self.open(name)


@dataclass(slots=True)
class Numbers:
    """Values by variable name. What is given broadcasts to the variable's shape when it is stored."""

    where: Layout
    parameters: Parts = field(init=False)
    low: Parts = field(init=False)
    high: Parts = field(init=False)
    integer: Marks = field(init=False)
    cost: dict[str, dict[str, FloatArray]] = field(default_factory=dict)  # term -> variable -> money per unit
    constant: dict[str, float] = field(default_factory=dict)  # term -> money, whatever is decided

    def __post_init__(self) -> None:
        size = self.where.size
        self.low, self.high = Parts(self.where, np.empty(size)), Parts(self.where, np.empty(size))
        self.integer = Marks(self.where, np.zeros(size, dtype=np.bool_))
        self.parameters = Parts(self.where, self.low.vector)  # a parameter has no bounds

    @property
    def shapes(self) -> Shapes:
        """Shape of each variable and parameter."""
        return self.where.shapes

    def par(self, name: str, value: FloatArray | float) -> None:
        """Set a right-hand-side parameter."""
        self.parameters.open(name)[...] = value

    def bound(self, name: str, low: FloatArray | float, high: FloatArray | float) -> None:
        """Set the bounds of a variable."""
        self.low.open(name)[...] = low
        self.high.open(name)[...] = high

    def whole(self, name: str, where: BoolArray) -> None:
        """Say in which entries a variable is an integer."""
        self.integer.open(name)[...] = where

    def price(self, term: str, name: str, value: FloatArray | float) -> None:
        """Set what a unit of a variable costs under a named term of the objective."""
        shaped = np.empty(self.shapes[name])
        shaped[...] = value
        self.cost.setdefault(term, {})[name] = shaped
