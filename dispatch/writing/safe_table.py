"""The safe value of every actuator in every grid mode, as the site file states it. Zero is not universal."""

from collections.abc import Mapping
from typing import assert_never

from dispatch.layout import Layout
from ems.assets import ActuatorSafety
from ems.commands import Cause, Proposal
from ems.points import BessState
from ems.site import GridMode


def safe_value(safety: ActuatorSafety, mode: GridMode) -> float | None:
    """The value for a mode; None: hold, do not write. Unknown mode: what is safe tied and islanded."""
    match mode:
        case GridMode.GRID_TIED:
            return safety.grid_tied
        case GridMode.ISLANDED:
            return safety.islanded
        case GridMode.BLACK:
            return safety.black
        case GridMode.UNKNOWN:
            return safety.grid_tied if safety.grid_tied == safety.islanded else None
        case other:
            assert_never(other)


def safe_proposals(
    layout: Layout, mode: GridMode, bess_state: Mapping[str, BessState | None], why: str
) -> list[Proposal]:
    """One proposal per actuator that has a safe value in this mode; a forming battery is left alone."""
    out = []
    for point, authority in layout.setpoints.items():
        asset = point.partition(".")[0]
        forming = bess_state.get(asset) is BessState.FORMING
        value = safe_value(authority.safety, mode)
        if mode is GridMode.UNKNOWN and bess_state.get(asset) is BessState.FOLLOWING:
            value = authority.safety.grid_tied
        if value is None or forming:
            continue
        out.append(
            Proposal(
                point=point,
                value=value,
                cause=Cause.SAFE_TABLE,
                reason=f"safe value of {point} {mode.value}: {why}",
                owner="edge",
            )
        )
    return out
