"""What rules make of the charge of the batteries: low, charged, or full beside a set that has to give."""

from dispatch.protections.balance import pick_sets
from dispatch.vocabulary import Context
from ems.assets import BatteryParams, BessParams, GensetParams
from ems.condition import BessCondition
from ems.rules import FULL_SOC, RulesParams, fitted

CHARGED_SOC = 0.10  # so far above its start a battery that takes no charge counts as charged
TAKES_NONE_RATIO = 0.02  # of its rating: a battery that takes no more takes none
TAKES_NONE_CONFIRMS = 6.0  # times `confirm_s`, as for a set that is let go
AGAIN_RATIO = 1.2  # of its minimum: a load that holds a set again
BEYOND_STOP_SOC = 0.02  # gensets charge so far beyond where they stop


def is_low(params: RulesParams, context: Context) -> bool:
    """A battery that is there is down at its start threshold, or none is there."""
    up = _available(context)
    return not up or any(c.soc <= fitted(params, b.battery).soc_start for b, c in up)


def is_charged(params: RulesParams, context: Context) -> tuple[bool, float | None]:
    """Whether every battery that is there is charged enough for the sets to stop.

    Beside it, since when [s] that holds only because one takes no more: its BMS may call it full below what
    the site file says. One near its start threshold that takes nothing is not charged: it is cold, or has a
    fault.
    """
    up, charged, refused, now_s = _available(context), True, False, context.monotonic_s
    for b, c in up:
        p = fitted(params, b.battery)
        if c.soc >= min(p.soc_stop, b.battery.soc_max - FULL_SOC):
            continue
        refused = refused or _takes_none(b, c)
        charged = charged and _takes_none(b, c) and c.soc >= p.soc_start + CHARGED_SOC
    if not (up and charged and refused):
        return bool(up) and charged, None
    before_s = context.memory.takes_none_since_s
    since_s = now_s if before_s is None else before_s
    lasting = now_s - since_s + context.dt_s / 2.0 >= TAKES_NONE_CONFIRMS * params.confirm_s
    return lasting, since_s


def has_nowhere(
    params: RulesParams, context: Context, available: list[GensetParams], kept: tuple[str, ...]
) -> bool:
    """Genset prime: the load is below the minimum of every set that is kept, and the batteries are full.

    Once the sets have stopped: until the load is clearly above it, or a battery is down at `soc_stop`.
    """
    up, load_kw = _available(context), context.power.load_kw
    if not up:
        return False
    if kept:
        least_kw = min(g.p_min_kw for g in available if g.id in kept)
        return load_kw < least_kw and all(
            c.soc >= b.battery.soc_max - FULL_SOC or _takes_none(b, c) for b, c in up
        )
    least_kw = sum(g.p_min_kw for g in _picked(params, context, available))
    return load_kw < AGAIN_RATIO * least_kw and all(
        c.soc >= fitted(params, b.battery).soc_stop or _takes_none(b, c) for b, c in up
    )


def held_by(params: RulesParams, context: Context, available: list[GensetParams]) -> tuple[str, ...]:
    """Other sets whose minimum the load does hold; none: the battery carries it."""
    picked = _picked(params, context, available)
    enough = context.power.load_kw >= AGAIN_RATIO * sum(g.p_min_kw for g in picked)
    return tuple(g.id for g in picked) if enough else ()


def ceiling(params: RulesParams, battery: BatteryParams) -> float:
    """SoC up to which gensets charge a battery: a little beyond where they stop, inside its window."""
    return min(battery.soc_max, fitted(params, battery).soc_stop + BEYOND_STOP_SOC)


def _picked(params: RulesParams, context: Context, available: list[GensetParams]) -> tuple[GensetParams, ...]:
    return pick_sets(max(context.power.load_kw, 1.0), available, params.genset_load_ratio)


def _available(context: Context) -> list[tuple[BessParams, BessCondition]]:
    of = context.condition.bess
    return [(b, of[b.id]) for b in context.site.bess if of[b.id].available]


def _takes_none(bess: BessParams, c: BessCondition) -> bool:
    """Its BMS takes no more charge."""
    return c.p_charge_kw_max <= TAKES_NONE_RATIO * bess.battery.p_charge_kw_max
