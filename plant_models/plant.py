"""The whole plant: one step of physics from inputs and setpoints to flows. See docs/physics.md."""

import math
from collections.abc import Mapping

from ems.errors import BadValue
from ems.invariants import require_finite
from ems.points import BessState, GensetState
from ems.site import Site
from plant_models.balance import solve
from plant_models.bus import FINE_S, Tables, Work, black_out, horizon_s, lose_mains, refuel, switch, tables
from plant_models.flows import merge, pass_time, record, violations
from plant_models.genset import GensetUnit
from plant_models.load import CLOSED, OPEN
from plant_models.pcs import BessUnit
from plant_models.pv import PRODUCING
from plant_models.state import (
    NO_FAULTS,
    PlantFaults,
    PlantFlows,
    PlantInput,
    PlantState,
    Violation,
    ViolationKind,
)

__all__ = [
    "NO_FAULTS",
    "PlantFaults",
    "PlantFlows",
    "PlantInput",
    "PlantState",
    "Violation",
    "ViolationKind",
    "initial_state",
    "step",
]


def initial_state(
    site: Site,
    soc: Mapping[str, float] | float = 0.5,
    *,
    gensets_on_kw: Mapping[str, float] | None = None,
    tank_l: Mapping[str, float] | None = None,
    islanded_by: str | None = None,
    open_feeders: frozenset[str] = frozenset(),
) -> PlantState:
    """A healthy plant at rest: tied to the grid, or an island formed by the asset `islanded_by`.

    Parameters
    ----------
    site : Site
    soc : float or mapping by BESS id
        State of charge, 0 to 1.
    gensets_on_kw : mapping by genset id, optional
        Sets that are on load, with their power [kW].
    tank_l : mapping by genset id, optional
        Fuel in the tanks; full where missing [L].
    islanded_by : str, optional
        BESS (which then forms) or genset (which must be in `gensets_on_kw`) that carries the island.
    open_feeders : frozenset of str
        Feeders whose breaker is open.
    """
    on = gensets_on_kw if gensets_on_kw is not None else {}
    tanks = tank_l if tank_l is not None else {}
    bess = {}
    for b in site.bess:
        b_soc = soc if isinstance(soc, float | int) else soc[b.id]
        mode = BessState.FORMING if b.id == islanded_by else BessState.FOLLOWING
        bess[b.id] = BessUnit(mode, b_soc * b.battery.energy_kwh)
    gensets = {
        g.id: GensetUnit(
            GensetState.RUNNING if g.id in on else GensetState.STOPPED,
            tanks.get(g.id, g.tank_l),
            p_kw=on.get(g.id, 0.0),
        )
        for g in site.gensets
    }
    if islanded_by is not None and islanded_by not in bess and islanded_by not in on:
        raise ValueError(f"{islanded_by} cannot form an island: neither a BESS nor a genset on load")
    return PlantState(
        bess=bess,
        gensets=gensets,
        pv={p.id: PRODUCING for p in site.pv},
        feeders={f.id: OPEN if f.id in open_feeders and f.has_breaker else CLOSED for f in site.feeders},
        grid_closed=islanded_by is None,
        mains_good_s=0.0,
        transfer_left_s=0.0,
        forming=site.grid.id if islanded_by is None else islanded_by,
    )


def step(site: Site, state: PlantState, inputs: PlantInput, dt_s: float) -> tuple[PlantState, PlantFlows]:
    """Advance the plant by `dt_s` under constant inputs.

    Parameters
    ----------
    site : Site
        Its assets; worked out once per object and remembered.
    state : PlantState
        At the start of the step.
    inputs : PlantInput
        Weather, demand, mains, setpoints and faults, constant over the step.
    dt_s : float
        0 to 900 s or more. Inside, the step is cut where a timer runs out or a transient needs `FINE_S`.

    Returns
    -------
    PlantState, PlantFlows
        At the end of the step, and what happened in it.

    Raises
    ------
    BadValue
        A number among the inputs is not finite, or a demand, potential or step is negative.
    """
    t = _tables(site)
    _check(inputs, dt_s)
    w = Work(t, state, inputs)
    if inputs.refuel_l:
        refuel(w)
    parts: list[PlantFlows] = []
    left_s = dt_s
    while left_s > _EPS_S:
        flows = _piece(w, left_s)
        parts.append(flows)
        left_s -= flows.dt_s
    return w.state(), merge(parts)


_EPS_S = 1e-6
_KEPT_TABLES = 16
_known: dict[int, Tables] = {}  # by id of the site, which the tables keep alive


def _tables(site: Site) -> Tables:
    t = _known.get(id(site))
    if t is None:
        if len(_known) >= _KEPT_TABLES:
            _known.pop(next(iter(_known)))
        t = _known[id(site)] = tables(site)
    return t


def _check(inputs: PlantInput, dt_s: float) -> None:
    """NaN is refused at the door; one sum finds any, and only then is it looked for."""
    demand, potential = inputs.demand_kw.values(), inputs.pv_potential_kw.values()
    setpoints = (
        inputs.bess_p_set_kw,
        inputs.genset_p_set_kw,
        inputs.pv_limit_kw,
        inputs.refuel_l,
        inputs.q_set_kvar,
    )
    f_hz = 0.0 if inputs.mains_f_hz is None else inputs.mains_f_hz
    total = dt_s + inputs.mains_v_pu + f_hz + sum(demand) + sum(potential)
    for values in setpoints:
        total += sum(values.values())
    if not math.isfinite(total):
        for values in (inputs.demand_kw, inputs.pv_potential_kw, *setpoints):
            for i, v in values.items():
                require_finite(i, v)
        mains = f"mains_v_pu {inputs.mains_v_pu!r} or mains_f_hz {inputs.mains_f_hz!r}"
        raise BadValue(f"dt_s {dt_s!r}, {mains} is not finite")
    if dt_s <= 0.0 or min(demand, default=0.0) < 0.0 or min(potential, default=0.0) < 0.0:
        raise BadValue("dt_s must be positive; demand_kw and pv_potential_kw must not be negative")


def _piece(w: Work, left_s: float) -> PlantFlows:
    """One piece of time without switching, at most `left_s` long [s]."""
    w.begin()
    switch(w)
    h = horizon_s(w, left_s)
    pw = solve(w, h)
    while pw is None:
        if w.closed:
            lose_mains(w)
            h = horizon_s(w, left_s)
        elif h > FINE_S:
            h = FINE_S
        else:
            black_out(w, overload=True)
        pw = solve(w, h)
    before = dict(w.gensets)
    pw.violations.extend(w.violations)
    led = pass_time(w, pw, h)
    return record(w, pw, led, h, violations(w, pw, led, before))
