"""What a model hands back for one series."""

from dataclasses import dataclass

from ems.timegrid import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Expected means [kW] per slot.

    `scale_kw` turns a dimensionless error into kW: 1 for a load, the envelope for PV.
    `measured` is False where history had no say at all (level 0), so that its errors teach nothing.
    """

    mean_kw: FloatArray
    scale_kw: FloatArray
    level: str
    measured: bool
    repairs: tuple[str, ...]
