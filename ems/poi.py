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
class Supervision:
    """How the mains are judged at the POI, and how long each grid mode must be seen before it is believed.

    A lost grid is believed at once: the plan made for it must be gone within one cycle.
    """

    f_min_hz: float | None = None  # mains outside are not usable; None: frequency is not judged
    f_max_hz: float | None = None
    confirm_islanded_s: float = 0.0
    confirm_black_s: float = 0.0
    confirm_tied_s: float = 2.0  # unless all witnesses agree
    confirm_unknown_s: float = 1.5
    unknown_hold_s: float = 60.0  # an unknown mode lasts at least so long: no change to and fro
    settled_s: float = 10.0  # and ends only after evidence without a break for so long
    start_confirm_s: float = 3.0  # a dead bus is seen so long before a genset is asked for

    def f_ok(self, f_hz: float | None) -> bool | None:
        """Whether the frequency is in its band; None: not judged or not measured."""
        if f_hz is None or (self.f_min_hz is None and self.f_max_hz is None):
            return None
        low_hz = f_hz if self.f_min_hz is None else self.f_min_hz
        high_hz = f_hz if self.f_max_hz is None else self.f_max_hz
        return low_hz <= f_hz <= high_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionPolicy:
    """How the plant goes from one grid mode to another (IEEE 2030.7, transition function)."""

    balanced_ratio: float = 0.02  # of the POI's rating: less power than that is none
    balanced_s: float = 10.0  # none for so long before the POI breaker is opened in a planned way
    planned_s_max: float = 60.0  # a planned islanding that is not done by then is given up
    open_s_max: float = 10.0  # the breaker opens within so long of its request
    close_s_max: float = 120.0  # the synchronising device closes within so long of its permit
    stable_s: float = 10.0  # a bus that came up is watched so long before PV and batteries may act
    island_before_s: float | None = None  # ahead of an announced outage; None: never


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
