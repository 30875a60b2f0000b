"""What the faults of a moment make of a plant's inputs: trips, derating, and setpoints nobody acts on."""

from collections.abc import Mapping

from ems.points import TRIP_REQUEST, GensetState, split_point_id
from plant_models.plant import NO_FAULTS, PlantFaults
from plant_models.state import PlantState
from sim.scenario import FaultKind
from sim.timeline import Cell


def plant_faults(
    cell: Cell, state: PlantState, *, reset: frozenset[str], failing: frozenset[str]
) -> PlantFaults:
    """Faults of the physics now.

    Parameters
    ----------
    reset : locked-out gensets somebody acknowledges.
    failing : gensets whose next crank fails by chance.
    """
    if not cell.faults and not reset and not failing:
        return NO_FAULTS
    by_kind = {kind: frozenset(a for k, a in cell.faults if k is kind) for kind in FaultKind}
    stalled = (g for g in by_kind[FaultKind.GENSET_STALLS] if state.gensets[g].phase is GensetState.RUNNING)
    derated = {a: ratio for (k, a), ratio in cell.faults.items() if k is FaultKind.BESS_DERATED}
    return PlantFaults(
        genset_start_fails=by_kind[FaultKind.GENSET_START_FAILS] | failing,
        genset_tripped=by_kind[FaultKind.GENSET_TRIPS] | frozenset(stalled),
        genset_reset=reset,
        bess_tripped=by_kind[FaultKind.BESS_TRIPS],
        pv_tripped=by_kind[FaultKind.PV_TRIPS],
        bess_limit_ratio={a: 1.0 if ratio is None else ratio for a, ratio in derated.items()},
    )


def acted_on(held: Mapping[str, float], before: Mapping[str, float], cell: Cell) -> dict[str, float]:
    """Setpoints as the devices act on them: what their registers hold, but for faults [unit of each point].

    Parameters
    ----------
    held : by the registers.
    before : acted on until now.
    """
    if not cell.faults:
        return dict(held)
    ignoring = {a for k, a in cell.faults if k is FaultKind.SETPOINT_IGNORED}
    uncapped = {a for k, a in cell.faults if k is FaultKind.PV_LIMIT_LOST}
    out: dict[str, float] = {}
    for point, value in held.items():
        asset, name = split_point_id(point)
        if asset in ignoring and name != TRIP_REQUEST:  # the breaker of a PV plant is another device
            out |= {point: before[point]} if point in before else {}
        elif not (name == "p_limit_kw" and asset in uncapped):
            out[point] = value
    for kind, asset in cell.faults:
        if kind is FaultKind.GENSET_STARTED_AT_PANEL:
            out[f"{asset}.run_request"] = 1.0
        elif kind is FaultKind.GENSET_STOPPED_AT_PANEL:
            out[f"{asset}.run_request"] = 0.0
    return out
