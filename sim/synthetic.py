"""Scenarios without measured input: standard load profiles, typical weather, drawn outages, from one seed."""

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import FeederParams
from ems.errors import DataError
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray
from sim.outages import OutageModel, demo_outages, drawn_outages
from sim.scenario import Scenario
from sim.weather import ar1, pv_truth, weather_label

HISTORY_DAYS = 35
LOOKAHEAD_DAYS = 3  # truth after the end, for the perfect forecaster's horizon
STEP_S = 60.0
LONG_STEP_S, FINE_DAYS = 300.0, 45
SHAPE_OF_TIER = {1: "continuous", 2: "commercial"}
OTHER_SHAPE = "shift"
START_FAIL_RATIO = 0.02  # assumed; a set has several attempts
PEAK_RATIO = 0.9  # the shape's highest hour, of the feeder's peak: the rest is room for noise
DAY_NOISE, SLOW_NOISE, FAST_NOISE = 0.04, 0.05, 0.015
SLOW_S = 2700.0
LOAD_LABEL = (
    "standard hourly profiles (commercial: BDEW G25; others drawn by hand) with seeded noise; not measured"
)


@cache
def load_shapes() -> dict[tuple[str, str], tuple[float, ...]]:
    """(shape, kind of day) -> 24 hourly shares of the peak."""
    text = resources.files("sim").joinpath("data/load_shapes.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        (row["shape"], row["day"]): tuple(float(row[f"h{h}"]) for h in range(24))
        for row in csv.DictReader(lines)
    }


def load_truth(
    feeder: FeederParams, timezone: str, start: datetime, end: datetime, step_s: float, seed: int
) -> UniformSeries:
    """Demand of a feeder from its standard shape (by tier), with day-to-day, slow and fast noise [kW]."""
    count = round((end - start).total_seconds() / step_s)
    tiers = sum(map(ord, feeder.id)) + 1000 * feeder.tier
    rng = np.random.default_rng([seed, 4, tiers])
    shape = _shape(SHAPE_OF_TIER.get(feeder.tier, OTHER_SHAPE), timezone, start, count, step_s)
    days = np.arange(count) * step_s / 86400.0
    by_day = 1.0 + DAY_NOISE * rng.standard_normal(int(days[-1]) + 2)
    slow = ar1(rng, count, float(np.exp(-step_s / SLOW_S)))
    fast = rng.standard_normal(count)
    factor = np.interp(days, np.arange(len(by_day)), by_day) + SLOW_NOISE * slow + FAST_NOISE * fast
    values = np.clip(PEAK_RATIO * shape * factor, 0.02, 1.0) * feeder.p_peak_kw
    return UniformSeries(start=start, step_s=step_s, values=values)


def _shape(name: str, timezone: str, start: datetime, count: int, step_s: float) -> FloatArray:
    """(count,) shape at the middle of each step, straight lines between the middles of local hours."""
    zone = ZoneInfo(timezone)
    hours = count * step_s / 3600.0
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    knots = [first + timedelta(hours=i) for i in range(int(hours) + 4)]
    values = [_hour_value(name, k.astimezone(zone)) for k in knots]
    at_s = np.asarray([(k - start).total_seconds() + 1800.0 for k in knots])
    middle_s = (np.arange(count) + 0.5) * step_s
    return np.asarray(np.interp(middle_s, at_s, values), dtype=np.float64)


def _hour_value(name: str, local: datetime) -> float:
    kind = {5: "saturday", 6: "sunday"}.get(local.weekday(), "working")
    return load_shapes()[name, kind][local.hour]


def mains_truth(timezone: str, start: datetime, end: datetime, seed: int) -> UniformSeries:
    """Source voltage of a weak feeder: an evening dip of 3 % and slow noise [pu]."""
    step_s = 300.0
    count = round((end - start).total_seconds() / step_s)
    zone = ZoneInfo(timezone)
    hours = np.asarray(
        [
            (t := (start + timedelta(seconds=step_s * i)).astimezone(zone)).hour + t.minute / 60.0
            for i in range(count)
        ]
    )
    dip = 0.03 * np.exp(-(((hours - 19.0) / 2.0) ** 2))
    noise = ar1(np.random.default_rng([seed, 5]), count, float(np.exp(-step_s / 3600.0)))
    return UniformSeries(start=start, step_s=step_s, values=np.clip(1.0 - dip + 0.008 * noise, 0.93, 1.05))


def demo_scenario(
    site: Site, day: date, *, seed: int, days: int = 1, step_s: float | None = None
) -> Scenario:
    """Local days from `day` on, on standard profiles and typical weather.

    One day is the demo day: one announced evening outage, one in the daytime that nobody announced. More days
    draw both kinds as `OutageModel` says. Series have a step of a minute, of five in periods over 45 days.

    Raises
    ------
    DataError : a day count below 1.
    """
    if days < 1:
        raise DataError(f"a scenario has at least one day, not {days}")
    if step_s is None:
        step_s = STEP_S if days <= FINE_DAYS else LONG_STEP_S
    zone = ZoneInfo(site.timezone)
    start, end = _midnight(day, zone), _midnight(day + timedelta(days=days), zone)
    first, last = start - timedelta(days=HISTORY_DAYS), end + timedelta(days=LOOKAHEAD_DAYS)
    model = OutageModel()
    if days == 1:
        mains, notices = demo_outages(day, site.timezone, seed)
        outage_label = (
            "one announced in the evening, one unannounced in the daytime; times drawn from the seed"
        )
    else:
        mains, notices = drawn_outages(day, days, site.timezone, seed, model)
        outage_label = model.words()
    return Scenario(
        name=f"{site.name} {day}" + (f" +{days} d" if days > 1 else ""),
        site=site,
        start=start,
        end=end,
        load_kw={f.id: load_truth(f, site.timezone, first, last, step_s, seed) for f in site.feeders},
        pv_kw=pv_truth(site, first, last, step_s, seed),
        mains_v_pu=mains_truth(site.timezone, start, end, seed),
        mains=mains,
        notices=(*site.outages, *notices),
        start_fail_ratio=START_FAIL_RATIO,
        seed=seed,
        labels={
            "load": LOAD_LABEL,
            "pv": weather_label(site),
            "outages": outage_label,
            "price": "the site's tariff",
            "faults": f"{START_FAIL_RATIO:.0%} of genset crank attempts fail (assumed), drawn from the seed",
        },
    )


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)


def with_outages_of(scenario: Scenario, seed: int) -> Scenario:
    """The same truth and announced outages, with unannounced ones drawn from another seed: for a study."""
    site, zone = scenario.site, ZoneInfo(scenario.site.timezone)
    day = scenario.start.astimezone(zone).date()
    days = round(scenario.duration_s / 86400.0)
    if days == 1:
        drawn, _ = demo_outages(day, site.timezone, seed)
        mains = (*(e for e in drawn if not e.announced), *(e for e in scenario.mains if e.announced))
        return replace(scenario, mains=mains, seed=seed)
    mains, notices = drawn_outages(
        day, days, site.timezone, seed, OutageModel(), announced_seed=scenario.seed
    )
    return replace(scenario, mains=mains, notices=(*site.outages, *notices), seed=seed)
