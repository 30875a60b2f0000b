"""The whole plant: one step of physics from inputs and setpoints to flows. See docs/physics.md."""

from collections.abc import Mapping

from ems.points import BessState, GensetState
from ems.site import Site
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
    """Advance the plant by `dt_s` [s]."""
    raise NotImplementedError
