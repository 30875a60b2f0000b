"""The algebra the families are written in: named variables, parameters and rows, and their standard form.

Numbers that change from plan to plan and stand on a right-hand side are declared as *parameters*. In the
algebra they are variables; in the compiled form their columns are sliced off the matrix, so that
`A_x x + A_p p (<=, =, >=) b` becomes `rhs(p) = b - A_p p`, exact for every affine use.

Expressions here are tuples of columns and coefficients and nothing else, so that a model is laid out within
some 20 ms whenever an outage moves the edges of the time grid. `reference.py` writes the same families as a
Pyomo model; tests hold the two against each other row by row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Union

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ems.timegrid import BoolArray, FloatArray

Expr = Any  # an affine expression, variable or number; of this module, or of Pyomo in reference.py
Array = Any  # an indexed variable: `x[t]`, `x[g, t]`
Number = Union[int, float, "np.floating[Any]", "np.integer[Any]"]


class Affine:
    """sum of coefficient * column + constant. Columns may repeat; they are added up in the matrix."""

    __array_ufunc__: ClassVar[None] = None  # numpy's numbers leave `2.0 * x` to us
    __hash__ = None  # type: ignore[assignment]  # == makes a row
    __slots__ = ("coefficients", "columns", "constant")

    def __init__(
        self, columns: tuple[int, ...], coefficients: tuple[float, ...], constant: float = 0.0
    ) -> None:
        self.columns, self.coefficients, self.constant = columns, coefficients, constant

    def __add__(self, other: "Affine | Number") -> "Affine":
        if isinstance(other, Affine):
            return Affine(
                self.columns + other.columns,
                self.coefficients + other.coefficients,
                self.constant + other.constant,
            )
        return Affine(self.columns, self.coefficients, self.constant + float(other))

    __radd__ = __add__

    def __neg__(self) -> "Affine":
        return Affine(self.columns, tuple([-c for c in self.coefficients]), -self.constant)

    def __sub__(self, other: "Affine | Number") -> "Affine":
        return self + -other

    def __rsub__(self, other: "Affine | Number") -> "Affine":
        return -self + other

    def __mul__(self, factor: Number) -> "Affine":
        k = float(factor)
        return Affine(self.columns, tuple([k * c for c in self.coefficients]), k * self.constant)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> "Affine":
        return self * (1.0 / float(divisor))

    def __le__(self, other: "Affine | Number") -> "Row":
        return Row(self - other, -1)

    def __ge__(self, other: "Affine | Number") -> "Row":
        return Row(self - other, 1)

    def __eq__(self, other: "Affine | Number") -> "Row":  # type: ignore[override]
        return Row(self - other, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """`body` at most zero (-1), equal to zero (0) or at least zero (1)."""

    body: Affine
    sense: int


class Block:
    """A variable of one or more axes: consecutive columns in C order."""

    __slots__ = ("first", "shape")

    def __init__(self, first: int, shape: tuple[int, ...]) -> None:
        self.first, self.shape = first, shape

    def __getitem__(self, index: "int | tuple[int, ...]") -> Affine:
        at = 0
        for i, n in zip(index if isinstance(index, tuple) else (index,), self.shape, strict=True):
            if not 0 <= i < n:
                raise IndexError(f"{index} of a variable of shape {self.shape}")
            at = at * n + i
        return Affine((self.first + int(at),), (1.0,))


class Model:
    """A model whose components are addressed by name and indexed from 0."""

    def __init__(self, steps: int) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: list[str] = []
        self.bus: list[list[Expr]] = [[] for _ in range(steps)]  # power into the bus [kW], by step
        self.reserve_up: list[list[Expr]] = [[] for _ in range(steps)]  # islanded: what can rise [kW]
        self.reserve_down: list[list[Expr]] = [[] for _ in range(steps)]  # islanded: what can fall [kW]
        self.carry: list[list[Expr]] = [
            [] for _ in range(steps)
        ]  # grid-tied: what stays if the grid goes [kW]
        self.forming: list[list[Expr]] = [[] for _ in range(steps)]  # sources that can form an island
        self.row_names: list[str] = []
        self.families: list[Any] = []  # of build.py, that have variables or parameters in this model
        self._blocks: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._columns = 0

    def var(self, name: str, *shape: int) -> Array:
        """Declare a variable; its bounds, kind and cost are numbers and come later."""
        self.shapes[name] = shape
        self._blocks[name] = self._declare(name, shape)
        return self._blocks[name]

    def par(self, name: str, *shape: int) -> Array:
        """Declare a number that changes from plan to plan and stands on a right-hand side."""
        self.parameters.append(name)
        return self.var(name, *shape)

    def rows(self, name: str, shape: tuple[int, ...], rule: Callable[..., Expr]) -> None:
        """Declare one constraint for each index of `shape`."""
        for index in product(*[range(n) for n in shape]):
            self._rows.append(rule(*index))
            self.row_names.append(f"{name}[{','.join(map(str, index))}]")

    def __getitem__(self, name: str) -> Array:
        return self._blocks[name]

    @property
    def variables(self) -> list[str]:
        """Names of what the solver decides."""
        return [n for n in self.shapes if n not in self.parameters]

    def _declare(self, name: str, shape: tuple[int, ...]) -> Any:
        block = Block(self._columns, shape)
        self._columns += int(np.prod(shape))
        return block

    def standard_form(self) -> "StandardForm":
        """Lay the model out as matrices: the columns of the variables, then those of the parameters."""
        place = np.empty(self._columns, dtype=np.int64)
        columns, par_slots, at = {}, {}, 0
        for name in [*self.variables, *self.parameters]:
            first, size = self._blocks[name].first, int(np.prod(self.shapes[name]))
            place[first : first + size] = np.arange(at, at + size)
            columns[name] = np.arange(at, at + size, dtype=np.int32)
            at += size
        n_var = at - sum(int(np.prod(self.shapes[n])) for n in self.parameters)
        for name in self.parameters:
            own = columns.pop(name)
            par_slots[name] = slice(int(own[0]) - n_var, int(own[-1]) + 1 - n_var) if len(own) else slice(0)
        bodies = [row.body for row in self._rows]
        counts = np.array([len(b.columns) for b in bodies], dtype=np.int64)
        i = np.repeat(np.arange(len(bodies)), counts)
        j = place[np.fromiter((c for b in bodies for c in b.columns), np.int64, int(counts.sum()))]
        value = np.fromiter((c for b in bodies for c in b.coefficients), np.float64, int(counts.sum()))
        matrix = coo_array((value, (i, j)), shape=(len(bodies), at)).tocsc()  # repeated entries are added
        matrix.eliminate_zeros()
        own, par = matrix[:, :n_var], matrix[:, n_var:].tocsr()
        senses = np.array([row.sense for row in self._rows], dtype=np.int64)
        return StandardForm(
            a_start=own.indptr.astype(np.int32),
            a_index=own.indices.astype(np.int32),
            a_value=np.asarray(own.data, dtype=np.float64),
            par_matrix=par,
            rhs=np.array([-b.constant for b in bodies], dtype=np.float64),
            has_low=senses >= 0,
            has_high=senses <= 0,
            columns=columns,
            par_slots=par_slots,
            row_names=self.row_names,
        )


@dataclass(frozen=True, slots=True)
class StandardForm:
    """Matrices of a model: `a` (rows, columns) by columns, `par_matrix` (rows, parameters)."""

    a_start: NDArray[np.int32]
    a_index: NDArray[np.int32]
    a_value: FloatArray
    par_matrix: Any  # scipy CSR (rows, parameters)
    rhs: FloatArray
    has_low: BoolArray
    has_high: BoolArray
    columns: dict[str, NDArray[np.int32]]  # variable name -> column of each entry, in C order
    par_slots: dict[str, slice]  # parameter name -> its place in the parameter vector
    row_names: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rhs), len(self.a_start) - 1
