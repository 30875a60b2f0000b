"""The numbers that rules decide by, and how they come to lie inside the window of each battery."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ems.assets import BatteryParams, BessParams, GensetParams
from ems.frozen import replace

SOC_LOW, SOC_HIGH = 0.10, 0.95  # window that the default thresholds are made for
FULL_SOC = 0.01  # so near to the top of its window a battery counts as full

# Thresholds that are scaled together, so that their order and their distances last.
ISLAND = ("soc_start", "soc_stop")
TIED = ("soc_floor", "soc_recharge")
TOU = ("charge_soc", "discharge_soc", "mid_soc", "peak_soc", "outage_soc")


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesParams:
    """Thresholds of the rule-based controller. Grid-tied: self-consumption above a backup reserve.

    Islanded ladder: the battery's own minimum < `soc_start` < `soc_stop` <= the battery's own maximum.
    """

    soc_floor: float = 0.40  # grid-tied: no discharge below (backup reserve)
    soc_recharge: float = 0.50  # once below the floor: no discharge before this is reached again
    grid_charge_ratio: float = (
        0.3  # grid-tied below the floor: charge from the grid at this share of the limit
    )
    soc_start: float = 0.25  # islanded: start a genset at or below
    soc_stop: float = 0.65  # islanded: stop gensets at or above, when the load allows
    load_start_ratio: float = 0.85  # islanded: start the next set above this share of what is on line
    load_stop_ratio: float = 0.60  # islanded: stop one when the rest would stay below this share
    genset_load_ratio: float = 0.80  # sets are chosen and loaded to this share of their rating
    charge_with_genset: bool = True  # islanded: spare genset power charges the battery up to `soc_stop`
    genset_prime: bool = False  # islanded: always keep a set on load, the battery is the reserve
    confirm_s: float = 10.0  # load thresholds must hold so long


@dataclass(frozen=True, slots=True, kw_only=True)
class TouParams:
    """Thresholds of the time-of-use controller; a search may tune every one of them.

    A price is placed in the range of the day's prices: 0 is the cheapest, 1 the dearest of today.
    """

    base: RulesParams = field(default_factory=RulesParams)
    charge_price_share: float = 0.25  # charge from the grid at or below this place in the day's range
    charge_soc: float = 0.80  # up to
    charge_power_ratio: float = 0.4  # at this share of the battery's charge limit
    discharge_price_share: float = 0.75  # cover the load at or above this place in the day's range
    discharge_soc: float = 0.40  # down to
    mid_soc: float = 0.60  # between the windows: cover the load down to
    peak_shave_kw: float | None = None  # hold the import below; None: no threshold but the contract's cap
    peak_soc: float = 0.25  # peak shaving may use the battery down to
    outage_soc: float = 0.90  # SoC wanted when an announced outage begins
    outage_lead_h: float = 6.0  # from so long before, the battery charges for it and is not discharged


def into_window(soc: float, low: float, high: float) -> float:
    """A threshold for the window 0.10 to 0.95 at the same place of the window `low` to `high`."""
    if (low, high) == (SOC_LOW, SOC_HIGH):
        return soc
    return low + (soc - SOC_LOW) / (SOC_HIGH - SOC_LOW) * (high - low)


def fitted(params: RulesParams, battery: BatteryParams) -> RulesParams:
    """Thresholds for one battery: those of a group that do not all fit its window are scaled into it.

    The groups are `ISLAND` and `TIED`; a group that fits is left as it is.
    """
    return _fit(params, battery.soc_min, battery.soc_max)


def fitted_tou(params: TouParams, battery: BatteryParams) -> TouParams:
    """The same for the time-of-use controller: its thresholds and `TIED` below them are one group."""
    return _fit_tou(params, battery.soc_min, battery.soc_max)


def fitted_all(params: TouParams, windows: Sequence["Window"]) -> TouParams:
    """One set of thresholds for all batteries, inside the window they share; as it is if they share none."""
    low, high = shared(windows)
    return _fit_tou(params, low, high) if low < high else params


def _fit(params: RulesParams, low: float, high: float) -> RulesParams:
    out = params
    if not low < params.soc_start < params.soc_stop <= high:
        start, stop = (into_window(soc, low, high) for soc in (params.soc_start, params.soc_stop))
        out = replace(out, soc_start=start, soc_stop=stop)
    return out if _ordered(params, low, high) else _tied(out, low, high)


def _fit_tou(params: TouParams, low: float, high: float) -> TouParams:
    base, ordered = _fit(params.base, low, high), _ordered(params.base, low, high)
    if ordered and all(low <= getattr(params, name) <= high for name in TOU):
        return params if base is params.base else replace(params, base=base)
    return replace(
        params,
        base=_tied(base, low, high) if ordered else base,
        charge_soc=into_window(params.charge_soc, low, high),
        discharge_soc=into_window(params.discharge_soc, low, high),
        mid_soc=into_window(params.mid_soc, low, high),
        peak_soc=into_window(params.peak_soc, low, high),
        outage_soc=into_window(params.outage_soc, low, high),
    )


def _ordered(params: RulesParams, low: float, high: float) -> bool:
    return low <= params.soc_floor < params.soc_recharge <= high


def _tied(params: RulesParams, low: float, high: float) -> RulesParams:
    floor, recharge = (into_window(soc, low, high) for soc in (params.soc_floor, params.soc_recharge))
    return replace(params, soc_floor=floor, soc_recharge=recharge)


class Window(NamedTuple):
    """Lowest and highest SoC of one battery."""

    bess: str
    low: float  # unit: SoC, 0 to 1; ratio
    high: float  # unit: SoC, 0 to 1; ratio


class RulesFault(NamedTuple):
    """One number that does not go with the others, or with the plant."""

    key: tuple[str, ...]  # in the section of the site file
    found: str
    allowed: str


def soc_faults(params: TouParams, windows: Sequence[Window], names: Sequence[str]) -> Iterator[RulesFault]:
    """Thresholds among `names` that do not lie inside the window of every battery, or not in their order."""
    own = {**{n: getattr(params.base, n) for n in (*ISLAND, *TIED)}, **{n: getattr(params, n) for n in TOU}}
    for lower, upper in (ISLAND, TIED):
        if lower in names and not own[lower] < own[upper]:
            yield RulesFault((lower,), f"{own[lower]:g}", f"less than {upper}, {own[upper]:g}")
    for name in names:
        for w in windows:
            above = w.low < own[name] if name == "soc_start" else w.low <= own[name]
            if not (above and own[name] <= w.high):
                more = "more than" if name == "soc_start" else "from"
                allowed = f"{more} soc_min of {w.bess}, {w.low:g}, up to its soc_max, {w.high:g}"
                yield RulesFault(_key(name), f"{own[name]:g}", allowed)
                break


def ratio_faults(params: TouParams, gensets: Mapping[str, float]) -> Iterator[RulesFault]:
    """Ratios that would start and stop sets in turns, or run one below its minimum.

    Parameters
    ----------
    gensets : minimum load of each set over its rating.
    """
    p, lowest = params.base, max(gensets.values(), default=0.0)
    most = min(p.load_start_ratio, p.genset_load_ratio)
    if not p.load_stop_ratio < most:
        allowed = f"less than load_start_ratio and genset_load_ratio, {most:g}: a set that stops would start"
        yield RulesFault(("load_stop_ratio",), f"{p.load_stop_ratio:g}", allowed)
    if p.genset_load_ratio < lowest:
        which = next(g for g, ratio in gensets.items() if ratio == lowest)
        allowed = f"the minimum load of {which} over its rating, {lowest:g}, or more"
        yield RulesFault(("genset_load_ratio",), f"{p.genset_load_ratio:g}", allowed)
    if p.genset_prime and not gensets:
        yield RulesFault(("genset_prime",), "true", "true with a genset in gensets, false without")
    if not params.charge_price_share < params.discharge_price_share:
        found, allowed = f"{params.charge_price_share:g}", "less than discharge_price_share"
        yield RulesFault(("tou", "charge_price_share"), found, f"{allowed}, {params.discharge_price_share:g}")


def _key(name: str) -> tuple[str, ...]:
    return ("tou", name) if name in TOU else (name,)


def shared(windows: Sequence[Window]) -> tuple[float, float]:
    """Lowest and highest SoC that all batteries have; the lowest is not below the highest: there is none."""
    return max((w.low for w in windows), default=0.0), min((w.high for w in windows), default=1.0)


def windows_of(bess: Sequence[BessParams]) -> tuple[Window, ...]:
    """Windows of batteries."""
    return tuple(Window(b.id, b.battery.soc_min, b.battery.soc_max) for b in bess)


def minimum_ratios(gensets: Sequence[GensetParams]) -> dict[str, float]:
    """Minimum load of each set over its rating."""
    return {g.id: g.p_min_kw / g.p_rated_kw for g in gensets}
