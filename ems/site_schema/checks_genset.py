"""What the numbers of one genset mean together."""

import itertools

from ems.assets import DRIVEN_RATIO
from ems.derating import EngineDerating, derated_ratio
from ems.site_schema.draft import Draft
from ems.site_schema.forms_assets import FuelPointForm, GensetForm, LowLoadForm
from ems.site_schema.text import Loc
from ems.site_schema.words import clock

SFC_RATED = (0.18, 0.45)  # plausible L/kWh at rating; over it the number is mistyped or in another unit
SLOPE_STEP = (0.5, 2.0)  # how the slope of a fuel curve may change from one segment to the next


def check_genset(draft: Draft, loc: Loc, g: GensetForm) -> None:
    """Ratings, times, tank, quiet hours, fuel curve."""
    if not g.p_min_kw < g.p_rated_kw:
        draft.add((*loc, "p_min_kw"), f"{g.p_min_kw:g} kW", f"less than p_rated_kw, {g.p_rated_kw:g} kW")
    if not g.p_rated_kw <= g.s_kva <= 2.0 * g.p_rated_kw:
        draft.add((*loc, "s_kva"), f"{g.s_kva:g} kVA", f"{g.p_rated_kw:g} to {2 * g.p_rated_kw:g} kVA")
    if g.step_load_kw_max > g.p_rated_kw:
        draft.add((*loc, "step_load_kw_max"), f"{g.step_load_kw_max:g} kW", f"at most {g.p_rated_kw:g} kW")
    ramp_s = g.p_rated_kw / g.ramp_kw_s
    if not 0.5 <= ramp_s <= 900.0:
        draft.add(
            (*loc, "ramp_kw_s"),
            f"{g.ramp_kw_s:g} kW/s: {ramp_s:g} s to full load",
            "0.5 to 900 s",
            "per min?",
        )
    if (delay_s := g.crank_s + g.warm_up_s + g.synchronise_s) > 1800.0:
        draft.add((*loc, "crank_s"), f"{delay_s:g} s from request to on load", "at most 1800 s in all", "ms?")
    if g.tank_unusable_l >= g.tank_l:
        draft.add((*loc, "tank_unusable_l"), f"{g.tank_unusable_l:g} L", f"less than tank_l, {g.tank_l:g} L")
    elif g.tank_l - g.tank_unusable_l < g.fuel_points[-1].fuel_l_h:
        draft.add(
            (*loc, "tank_l"),
            f"{g.tank_l:g} L",
            f"an hour at rating or more above what is unusable, {g.fuel_points[-1].fuel_l_h:g} L",
        )
    nominal_s = g.crank_s + g.warm_up_s + g.synchronise_s
    if g.start_timeout_s is not None and g.start_timeout_s < nominal_s:
        draft.add(
            (*loc, "start_timeout_s"),
            f"{g.start_timeout_s:g} s",
            f"crank_s, warm_up_s and synchronise_s together, {nominal_s:g} s, or more",
            "a healthy start would count as failed",
        )
    for i, quiet in enumerate(g.quiet):
        if quiet.start == quiet.end:
            draft.add((*loc, "quiet", i, "to"), clock(quiet.end), "another time than from", "00:00 to 24:00?")
    if g.cold_start_cost is not None and g.cold_start_cost < g.start_cost:
        draft.add(
            (*loc, "cold_start_cost"), f"{g.cold_start_cost:g}", f"start_cost, {g.start_cost:g}, or more"
        )
    if (g.cold_start_cost is None) != (g.cold_after_s == 0.0):
        key = "cold_after_s" if g.cold_start_cost is None else "cold_start_cost"
        draft.add((*loc, key), f"{key} alone", "cold_start_cost and cold_after_s together, or neither")
    _rating(draft, loc, g)
    window = (None, None) if g.exercise is None else (g.exercise.start, g.exercise.end)
    if (window[0] is None) != (window[1] is None) or (window[0] is not None and window[0] == window[1]):
        key = "to" if window[0] is not None else "from"
        found = "nothing" if window[1] is None or window[0] is None else clock(window[1])
        draft.add((*loc, "exercise", key), found, "from and to, two different local times, or neither")
    relay, most_kw = g.reverse_power, DRIVEN_RATIO * g.p_rated_kw
    if relay is not None and not relay.p_kw < most_kw:
        draft.add(
            (*loc, "reverse_power", "p_kw"),
            f"{relay.p_kw:g} kW",
            f"less than {most_kw:g} kW, what a driven engine takes at least",
            "or the relay never trips",
        )
    if g.low_load is not None:
        _low_load(draft, (*loc, "low_load"), g, g.low_load)
    _fuel(draft, (*loc, "fuel_points"), g)


def site_rated_kw(draft: Draft, g: GensetForm) -> float:
    """Rating at the place, as far as it is known [kW]."""
    if g.derating is None or draft.location is None:
        return g.p_rated_kw
    derating = EngineDerating(**g.derating.model_dump())
    return derated_ratio(derating, draft.location.altitude_m) * g.p_rated_kw


def _rating(draft: Draft, loc: Loc, g: GensetForm) -> None:
    """What is left of the rating at the place; a kind and figures that fit it."""
    rated_kw = site_rated_kw(draft, g)
    if rated_kw <= g.p_min_kw < g.p_rated_kw:
        draft.add(
            (*loc, "derating"),
            f"{rated_kw:g} kW left of {g.p_rated_kw:g} kW",
            f"more than p_min_kw, {g.p_min_kw:g} kW",
            "a ratio per 1000 m and per 10 K is meant",
        )
    if g.rating is not None and g.rating.kind == "continuous":
        for key in ("mean_ratio_max", "year_h_max"):
            if getattr(g.rating, key) is not None:
                draft.add(
                    (*loc, "rating", key),
                    f"{getattr(g.rating, key):g}",
                    "nothing: continuous power has no such limit",
                )


def _low_load(draft: Draft, loc: Loc, g: GensetForm, low: LowLoadForm) -> None:
    """A line of low load above minimum load; a budget within its window; a burn-off above that line."""
    if low.below_ratio * g.p_rated_kw <= g.p_min_kw:
        draft.add(
            (*loc, "below_ratio"),
            f"{low.below_ratio:g}: {low.below_ratio * g.p_rated_kw:g} kW",
            f"more than minimum load, {g.p_min_kw / g.p_rated_kw:g}",
            "or there is no low load",
        )
    if low.budget_h is not None and low.budget_h >= low.window_h:
        draft.add((*loc, "budget_h"), f"{low.budget_h:g} h", f"less than window_h, {low.window_h:g} h")
    if low.burn_off is not None and low.burn_off.above_ratio <= low.below_ratio:
        draft.add(
            (*loc, "burn_off", "above_ratio"),
            f"{low.burn_off.above_ratio:g}",
            f"more than below_ratio, {low.below_ratio:g}",
        )
    if g.exercise is not None and g.exercise.load_ratio < low.below_ratio:
        draft.add(
            (*loc[:-1], "exercise", "load_ratio"),
            f"{g.exercise.load_ratio:g}",
            f"low_load.below_ratio, {low.below_ratio:g}, or more",
            "or the exercise is low load itself",
        )
    if low.price_per_kwh == 0.0 and low.budget_h is None and low.burn_off is None:
        draft.add(loc, "below_ratio alone", "price_per_kwh, budget_h or burn_off", "or it does nothing")


def _fuel(draft: Draft, loc: Loc, g: GensetForm) -> None:
    points = g.fuel_points
    rising = True
    for i, (a, b) in enumerate(itertools.pairwise(points), 1):
        if not (a.p_kw < b.p_kw and a.fuel_l_h < b.fuel_l_h):
            draft.add(
                (*loc, i),
                f"{b.p_kw:g} kW, {b.fuel_l_h:g} L/h after {a.p_kw:g} kW, {a.fuel_l_h:g} L/h",
                "more power and more fuel than the point before",
            )
            rising = False
    last = points[-1]
    if abs(last.p_kw - g.p_rated_kw) > 1e-6:
        draft.add(
            (*loc, len(points) - 1, "p_kw"), f"{last.p_kw:g} kW", f"p_rated_kw, {g.p_rated_kw:g} kW, last"
        )
    if points[0].p_kw > g.p_min_kw:
        draft.add((*loc, 0, "p_kw"), f"{points[0].p_kw:g} kW", f"at most p_min_kw, {g.p_min_kw:g} kW, first")
    if not rising:
        return
    sfc = last.fuel_l_h / last.p_kw
    if not SFC_RATED[0] <= sfc <= SFC_RATED[1]:
        draft.add(
            (*loc, len(points) - 1, "fuel_l_h"),
            f"{last.fuel_l_h:g} L/h: {sfc:.3f} L/kWh",
            f"{SFC_RATED[0]:g} to {SFC_RATED[1]:g} L/kWh at rating",
            "unit of the fuel, or a mistyped digit?",
        )
    _slopes(draft, loc, points)


def _slopes(draft: Draft, loc: Loc, points: list[FuelPointForm]) -> None:
    slopes = [(b.fuel_l_h - a.fuel_l_h) / (b.p_kw - a.p_kw) for a, b in itertools.pairwise(points)]
    for i, (a, b) in enumerate(itertools.pairwise(slopes), 1):
        if not SLOPE_STEP[0] <= b / a <= SLOPE_STEP[1]:
            draft.add(
                (*loc, i, "fuel_l_h"),
                f"{points[i].fuel_l_h:g} L/h: slope {a:.3f} then {b:.3f} L/kWh",
                f"a slope that changes by a factor of {SLOPE_STEP[0]:g} to {SLOPE_STEP[1]:g}",
                "a mistyped digit?",
            )
