"""A plan: what every asset is meant to do, under which assumptions, until when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ems.inputs import InputUse
from ems.site import GridMode
from ems.timegrid import TimeGrid

Series = tuple[float, ...]


class PlanLabel(StrEnum):
    """Where a plan came from, best first. Whoever reads a plan sees which rescue was used."""

    OPTIMAL = "optimal"  # proven to the requested gap
    INCUMBENT = "incumbent"  # deadline or node limit reached, integer feasible, gap stated
    SHIFTED = "shifted"  # the last plan, shifted and still valid
    RULES = "rules"  # no plan: the edge's rules decide


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRecord:
    """How the solver ended. `gap_ratio` and `bound` are None where the solver gave none."""

    status: str
    objective: float | None  # money
    bound: float | None  # money
    gap_ratio: float | None
    solve_s: float
    nodes: int
    rescue: str  # "none" or which rescue was used and why


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioCosts:
    """What the decisions common to all scenarios cost under each of them [money], the expected path first."""

    source: str  # what the scenarios were made from
    label: tuple[str, ...]
    probability_ratio: tuple[float, ...]
    cost: tuple[float, ...]
    expected_cost: float
    tail_cost: float  # mean of the dearest 1 - tail_level_ratio (CVaR)
    tail_level_ratio: float
    tail_weight_ratio: float  # its share of the objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Setpoints and expectations per step. All series have one entry per step of `grid`.

    Signs as everywhere: positive = into the site's bus. `soc_end` is at the end of the step.
    """

    plan_id: str
    seq: int
    site: str
    issued_at: datetime
    valid_until: datetime  # the edge drops it after this
    label: PlanLabel
    solve: SolveRecord
    grid: TimeGrid
    integral_until: datetime  # beyond: commitment is relaxed, an opinion, never executed
    # assumptions per step
    grid_mode: tuple[GridMode, ...]
    forming: tuple[str, ...]  # asset id that forms the bus
    load_kw: Mapping[str, Series]  # expected demand by feeder
    pv_available_kw: Mapping[str, Series]
    import_per_kwh: Series
    # decisions per step
    bess_p_kw: Mapping[str, Series]
    bess_soc_end: Mapping[str, Series]
    genset_on: Mapping[str, Series]  # 1 on load, 0 off; fractional only in the relaxed tail
    genset_p_kw: Mapping[str, Series]
    pv_p_kw: Mapping[str, Series]
    grid_p_kw: Series  # import positive
    shed_kw: Mapping[str, Series]  # by feeder
    # security per step
    reserve_up_required_kw: Series
    reserve_up_held_kw: Series
    reserve_up_short_kw: Series
    # money
    cost_terms: Mapping[str, float]  # every term of the objective by name; they add up to the objective
    peak_import_kw: float  # the month's peak this plan reckons with
    stored_energy_value_per_kwh: float
    notes: tuple[str, ...] = ()
    # of the contingencies the site asks for, in each step the one with the least margin; empty without any
    contingency: tuple[str, ...] = ()
    contingency_lost_kw: Series = ()
    contingency_cover_kw: Series = ()  # what the rest can give; short where it is less than what is lost
    contingency_by: tuple[str, ...] = ()  # by which sources, "bess1 80 kW + gen2 20 kW"
    # reactive power, where the site has it planned; positive = given into the bus, at the grid: drawn from it
    bess_q_kvar: Mapping[str, Series] = field(default_factory=dict)
    pv_q_kvar: Mapping[str, Series] = field(default_factory=dict)  # those with a rating for it
    genset_q_kvar: Mapping[str, Series] = field(default_factory=dict)
    grid_q_kvar: Series = ()
    q_short_kvar: Series = ()  # demand that nobody gives, in an island
    poi_v_pu: Series = ()  # expected voltage at the POI, by AC power flow; 0 while islanded or collapsed
    missed: Mapping[str, Series] = field(default_factory=dict)  # other limits knowingly missed, `name_unit`
    poi_v_short_pu: Series = ()  # how much of the band the plan knowingly misses
    deferrable_kw: Mapping[str, Series] = field(default_factory=dict)  # demand of each device, planned
    unfinished_kwh: Mapping[str, float] = field(default_factory=dict)  # of its work, in the window
    # where further demand charges count or a cap is lower for a time: import above it is over one of them
    import_limit_kw: Series = ()
    scenarios: ScenarioCosts | None = None  # of a plan over scenarios: its series are those of the first one
    inputs: tuple[InputUse, ...] = ()  # versions from elsewhere that its forecast rests on

    def available_units(self, step: int) -> tuple[str, ...]:
        """Gensets the plan has on load in a step."""
        return tuple(g for g, on in self.genset_on.items() if on[step] > 0.5)
