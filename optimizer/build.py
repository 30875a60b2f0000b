"""The model, one screen: each constraint family in reading order."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulations import (
    balance,
    battery,
    blocks,
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
    hot_starts,
    load_step,
    low_load,
    poi,
    power_factor,
    pv,
    ramps,
    rating,
    reactive,
    reserve,
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
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

M = TypeVar("M", bound=Model)


def build(s: Structure, kind: type[M]) -> M:
    """The model of a structure. Right-hand sides are parameters; bounds and costs are numbers.

    `kind` is `algebra.Model`, laid out fast, or `reference.PyomoModel`, the readable reference.
    """
    m = kind(s.steps)
    balance.declare(m, s)  # a bus that may be dead
    grid.add(m, s)  # import, export
    pv.add(m, s)  # use or curtail
    battery.add(m, s)  # stored energy
    cycle_depth.add(m, s)  # the deeper a cycle, the dearer
    soc_reserve.add(m, s)  # held back for outages, and resting high
    full_charge.add(m, s)  # full at intervals, held for a time
    warranty.add(m, s)  # how much in a day and a year, how fast, how full
    genset_commitment.add(m, s)  # on, start, stop
    hot_starts.add(m, s)  # and how long the rest before was
    genset_fuel.add(m, s)  # output and litres
    sharing.add(m, s)  # how they share an island that is theirs alone
    ramps.add(m, s)  # how fast it can change
    starts.add(m, s)  # not too often in a day
    rating.add(m, s)  # nor more than its rating allows
    exercise.add(m, s)  # and often enough
    low_load.add(m, s)  # nor too long at low load
    shedding.add(m, s)  # by feeder
    load_step.add(m, s)  # nor more at once than the sources accept
    shed_limits.add(m, s)  # not too often, nor too long
    deferrable.add(m, s)  # work that is due by a deadline
    balance.add(m, s)  # all of it meets the load; somebody forms the bus
    reserve.add(m, s)  # what is held ready
    reactive.add(m, s)  # reactive power of converters and grid
    voltage.add(m, s)  # and what it does to the voltage at the interconnection
    running.add(m, s)  # gensets on load against the load, where asked for
    contingency.add(m, s)  # and what the loss of one source takes away
    contingency_tied.add(m, s)  # the same beside the grid
    sources.add(m, s)  # sets that may feed the bus together
    strength.add(m, s)  # and a bus strong enough for inverters
    tank.add(m, s)  # fuel step by step, where it is brought or kept in reserve
    survival.add(m, s)  # hours the critical load would live without the grid
    demand.add(m, s)  # the month's peaks
    blocks.add(m, s)  # the month's energy
    power_factor.add(m, s)  # and its reactive energy
    poi.add(m, s)  # transformer and ramp of the interconnection
    contracts.add(m, s)  # money of the month, take-or-pay, events
    terminal.add(m, s)  # what is left is worth something
    return m


def numbers(shapes: dict[str, tuple[int, ...]], p: PlanningProblem, s: Structure) -> Numbers:
    """The numbers of one problem for a model of this structure."""
    n = Numbers(shapes=shapes)
    for family in (
        grid,
        pv,
        battery,
        cycle_depth,
        soc_reserve,
        warranty,
        full_charge,
        genset_commitment,
        hot_starts,
        genset_fuel,
        sharing,
        ramps,
        starts,
        rating,
        exercise,
        low_load,
        shedding,
        load_step,
        shed_limits,
        deferrable,
        balance,
        reserve,
        reactive,
        voltage,
        sources,
        strength,
        running,
        contingency,
        contingency_tied,
        tank,
        survival,
        demand,
        blocks,
        power_factor,
        poi,
        contracts,
        terminal,
    ):
        family.numbers(n, p, s)
    for name, shape in shapes.items():
        if name not in n.parameters and name not in n.low:
            raise KeyError(f"no family gives numbers for {name}")
        n.integer.setdefault(name, np.zeros(shape, dtype=np.bool_))
    return n


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> tuple[str, ...]:
    """Every limit that a solution misses and every contingency it covers, family by family, in words.

    `v` are the values by variable name, machines told apart.
    """
    families = (
        shedding,
        shed_limits,
        deferrable,
        balance,
        reserve,
        reactive,
        voltage,
        sources,
        strength,
        poi,
        running,
        survival,
        contingency,
        battery,
        soc_reserve,
        warranty,
        full_charge,
        starts,
        rating,
        exercise,
        low_load,
        load_step,
        genset_fuel,
        tank,
        contracts,
    )
    return tuple(sentence for family in families for sentence in family.notes(p, s, v))
