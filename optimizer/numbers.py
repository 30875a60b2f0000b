"""The numbers of one problem: what is fed to a compiled model, by name. No solver, no modelling layer."""

from dataclasses import dataclass, field

import numpy as np

from ems.timegrid import BoolArray, FloatArray


@dataclass(slots=True)
class Numbers:
    """Values by variable name. Arrays broadcast to the variable's shape when they are stored."""

    shapes: dict[str, tuple[int, ...]]
    parameters: dict[str, FloatArray] = field(default_factory=dict)
    low: dict[str, FloatArray] = field(default_factory=dict)
    high: dict[str, FloatArray] = field(default_factory=dict)
    integer: dict[str, BoolArray] = field(default_factory=dict)
    cost: dict[str, dict[str, FloatArray]] = field(default_factory=dict)  # term -> variable -> money per unit
    constant: dict[str, float] = field(default_factory=dict)  # term -> money, whatever is decided

    def par(self, name: str, value: FloatArray | float) -> None:
        """Set a right-hand-side parameter."""
        self.parameters[name] = self._shaped(name, value)

    def bound(self, name: str, low: FloatArray | float, high: FloatArray | float) -> None:
        """Set the bounds of a variable."""
        self.low[name], self.high[name] = self._shaped(name, low), self._shaped(name, high)

    def whole(self, name: str, where: BoolArray) -> None:
        """Say in which entries a variable is an integer."""
        self.integer[name] = np.broadcast_to(where, self.shapes[name]).copy()

    def price(self, term: str, name: str, value: FloatArray | float) -> None:
        """Set what a unit of a variable costs under a named term of the objective."""
        self.cost.setdefault(term, {})[name] = self._shaped(name, value)

    def _shaped(self, name: str, value: FloatArray | float) -> FloatArray:
        shaped = np.empty(self.shapes[name])
        shaped[...] = value
        return shaped
