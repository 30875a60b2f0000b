"""What a weak interconnection asks for beside its contracted caps: caps in time, and more."""

from dataclasses import dataclass
from datetime import datetime

from ems.tariff import LocalWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class CapWindow:
    """Lower caps of the interconnection in a window: local hours (`local`), or once from `start` to `end`."""

    p_import_kw_max: float | None  # None: the contract's
    p_export_kw_max: float | None
    local: LocalWindow | None = None
    start: datetime | None = None
    end: datetime | None = None

    def holds(self, local: datetime, day_type: int) -> bool:
        """Whether it holds at an aware local time; `day_type` is that of the tariff."""
        if self.local is not None:
            return self.local.holds(local, day_type)
        return self.start is not None and self.end is not None and self.start <= local < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerParams:
    """The transformer at the interconnection: a fixed rating."""

    s_kva: float
    overload_per_kvah: float | None = None  # money per kVA above it and hour; None: as if dearer than load


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingPolicy:
    """How long mains that came back are not counted on: longer with every loss in the last hours."""

    window_h: float  # losses so long ago no longer count
    growth_ratio: float  # the dwell grows by it with each loss after the first
    dwell_s_max: float

    def dwell_s(self, first_s: float, losses: int) -> float:
        """Dwell after so many losses [s]: `first_s` after one, none after none."""
        if losses <= 0:
            return 0.0
        grown_s = first_s
        for _ in range(losses - 1):
            grown_s = min(self.dwell_s_max, grown_s * self.growth_ratio)
        return min(self.dwell_s_max, grown_s)
