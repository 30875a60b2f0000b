"""The model, one screen: each constraint family in reading order."""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulations import (
    balance,
    battery,
    bends,
    blocks,
    budgets,
    contingency,
    contingency_tied,
    contracts,
    cycle_depth,
    deferrable,
    demand,
    exercise,
    full_charge,
    genset_commitment,
    genset_fuel,
    grid,
    hard,
    hot_starts,
    lakes,
    load_step,
    low_load,
    poi,
    power_factor,
    products,
    pv,
    ramps,
    ranges,
    rating,
    reactive,
    reserve,
    rides,
    running,
    sharing,
    shed_limits,
    shedding,
    soc_reserve,
    sources,
    starts,
    strength,
    survival,
    tank,
    terminal,
    voltage,
    warranty,
)
from optimizer.numbers import Layout, Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

M = TypeVar("M", bound=Model)


class Family(Protocol):
    """A file of formulations/: its algebra, and the numbers that feed it."""

    def add(self, m: Model, s: Structure) -> None:
        """Declare variables and rows."""

    def numbers(self, n: Numbers, p: PlanningProblem, s: Structure) -> None:
        """Give every variable its bounds, kind and price, every parameter its value."""


@runtime_checkable
class TellingFamily(Protocol):
    """One of which something can be missed."""

    def notes(self, p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterable[str]:
        """How a plan says so."""


FAMILIES: tuple[Family, ...] = (
    grid,  # import, export
    pv,  # use or curtail
    lakes,  # of a case: what flows into a storage by itself
    battery,  # stored energy
    cycle_depth,  # the deeper a cycle, the dearer
    soc_reserve,  # held back for outages, and resting high
    full_charge,  # full at intervals, held for a time
    warranty,  # how much in a day and a year, how fast, how full
    genset_commitment,  # on, start, stop
    hot_starts,  # and how long the rest before was
    genset_fuel,  # output and litres
    bends,  # of a case: cost that is not convex
    rides,  # output on the way up and down
    sharing,  # how they share an island that is theirs alone
    ramps,  # how fast it can change
    starts,  # not too often in a day
    rating,  # nor more than its rating allows
    exercise,  # and often enough
    low_load,  # nor too long at low load
    shedding,  # by feeder
    load_step,  # nor more at once than the sources accept
    shed_limits,  # not too often, nor too long
    deferrable,  # work that is due by a deadline
    balance,  # all of it meets the load; somebody forms the bus
    reserve,  # what is held ready
    reactive,  # reactive power of converters and grid
    voltage,  # and what it does to the voltage at the interconnection
    running,  # gensets on load against the load, where asked for
    contingency,  # and what the loss of one source takes away
    contingency_tied,  # the same beside the grid
    sources,  # sets that may feed the bus together
    strength,  # and a bus strong enough for inverters
    tank,  # fuel step by step, where it is brought or kept in reserve
    survival,  # hours the critical load would live without the grid
    demand,  # the month's peaks
    blocks,  # the month's energy
    power_factor,  # and its reactive energy
    poi,  # transformer and ramp of the interconnection
    contracts,  # money of the month, take-or-pay, events
    terminal,  # what is left is worth something
    ranges,  # of a case: limits and prices by step
    products,  # reserves by product and unit
    budgets,  # energy over many steps
    hard,  # and nothing missed at a price
)
TELLING = tuple(family for family in FAMILIES if isinstance(family, TellingFamily))


def build(s: Structure, kind: type[M]) -> M:
    """The model of a structure. Right-hand sides are parameters; bounds and costs are numbers.

    `kind` is `algebra.Model`, laid out fast, or `reference.PyomoModel`, the readable reference.
    """
    m = kind(s.steps)
    balance.declare(m, s)  # a bus that may be dead
    for family in FAMILIES:
        names = len(m.shapes)
        family.add(m, s)
        if len(m.shapes) > names:
            m.families.append(family)
    return m


def numbers(
    where: Layout, p: PlanningProblem, s: Structure, families: Iterable[Family] = FAMILIES
) -> Numbers:
    """The numbers of one problem for a model of this structure.

    `families` may leave out those that declare nothing in the model: they have no numbers.
    """
    n = Numbers(where)
    for family in families:
        family.numbers(n, p, s)
    if missing := where.shapes.keys() - n.parameters.keys() - n.low.keys():
        raise KeyError(f"no family gives numbers for {', '.join(sorted(missing))}")
    return n


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> tuple[str, ...]:
    """Every limit that a solution misses and every contingency it covers, family by family, in words.

    `v` are the values by variable name, machines told apart. A family without variables in this problem is
    asked too: the voltage behind no impedance cannot be moved, but it can be out of its band.
    """
    return tuple(sentence for family in TELLING for sentence in family.notes(p, s, v))
