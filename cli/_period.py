"""Durations, dates and seeds as people type them, and the scenario of `ems simulate` they describe."""

import argparse
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ems.errors import DataError, EmsError
from ems.site import Site
from sim.scenario import Scenario

UNIT_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BEFORE, AFTER = timedelta(days=1), timedelta(days=7)  # versions that tell of this around a period count
DATASETS = ("ucsd_eskom",)


def seconds(text: str) -> float:
    """`15min`, `1h`, `10 s` -> seconds, for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    if match is None or float(match[1]) <= 0.0:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a duration like 10s, 15min, 1h")
    return float(match[1]) * UNIT_S[match[2]]


def seeds(text: str) -> tuple[int, ...]:
    """`3` -> (3,), `1..20` -> (1, ..., 20), `1,5,9` -> (1, 5, 9), for argparse."""
    out: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*\.\.\s*(\d+))?\s*", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 7, 1..20 or 1,5,9")
        first = int(match[1])
        out += range(first, int(match[2]) + 1) if match[2] else [first]
    if not out:
        raise argparse.ArgumentTypeError(f"found {text!r}, which holds no seed")
    return tuple(dict.fromkeys(out))


def day(text: str) -> date:
    """A date, for argparse."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a date like 2026-03-18") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Local days [first, last)."""

    first: date
    days: int

    def bounds(self, site: Site) -> tuple[datetime, datetime]:
        """Start and end in UTC."""
        zone = ZoneInfo(site.timezone)
        start, end = (
            datetime.combine(d, time(0), tzinfo=zone).astimezone(UTC)
            for d in (self.first, self.first + timedelta(days=self.days))
        )
        return start, end


def period_of(args: argparse.Namespace) -> Period:
    """What --from, --to and --days say.

    Raises
    ------
    EmsError : they contradict each other, or hold no day.
    """
    if args.to is not None and args.days is not None:
        raise EmsError("--to and --days: found both; allowed: one of them")
    days = 1 if args.days is None else args.days
    if args.to is not None:
        days = (args.to - args.start).days
    if days < 1:
        raise EmsError(f"--from {args.start} with {days} days: found no day; allowed: at least one")
    return Period(first=args.start, days=days)


def scenarios_of(
    site: Site, period: Period, seeds: tuple[int, ...], args: argparse.Namespace
) -> list[Scenario]:
    """One scenario a seed: the same truth, with unannounced outages drawn from each seed.

    Raises
    ------
    DataError : an input file cannot be used.
    EmsError : options that do not go together.
    """
    from sim.synthetic import with_outages_of

    first = told_scenario(scenario_of(site, period, seeds[0], args), args.inputs)
    drawn = args.dataset is None and args.outages is None
    return [
        first,
        *(with_outages_of(first, seed) if drawn else replace(first, seed=seed) for seed in seeds[1:]),
    ]


def told_scenario(scenario: Scenario, folder: Path | None) -> Scenario:
    """The scenario with the versions of inputs that a folder holds; without a folder as it is.

    Raises
    ------
    ConfigError, DataError : they cannot be used.
    """
    if folder is None:
        return scenario
    from cli.input_doubts import doubts_of
    from connectors.inputs.files import filed_inputs
    from sim.told import with_inputs

    site = scenario.site
    if not site.inputs:
        raise DataError(f"--inputs: found {site.name}, a site without inputs; allowed: one with some")
    known = filed_inputs(
        folder, site, scenario.start - BEFORE, scenario.end + AFTER, lambda params: doubts_of(site, params)
    )
    return with_inputs(scenario, known, max(known.last_at() or scenario.end, scenario.end))


def scenario_of(site: Site, period: Period, seed: int, args: argparse.Namespace) -> Scenario:
    """The scenario the options describe.

    Raises
    ------
    DataError : an input file cannot be used.
    EmsError : options that do not go together.
    """
    from sim.csv_scenario import CsvFiles, csv_scenario
    from sim.datasets import ucsd_eskom_scenario
    from sim.synthetic import demo_scenario

    files = CsvFiles(load=args.load, pv=args.pv, weather=args.weather, price=args.price, outages=args.outages)
    given = [p for p in (args.load, args.pv, args.weather, args.price, args.outages) if p is not None]
    if args.dataset is not None:
        if given or args.data is None:
            raise EmsError("--dataset: needs --data FOLDER, and goes with no CSV file")
        return ucsd_eskom_scenario(site, args.data, period.first, period.days, area=args.area, seed=seed)
    if given:
        start, end = period.bounds(site)
        return csv_scenario(site, start, end, files, seed=seed)
    return demo_scenario(site, period.first, seed=seed, days=period.days)


def add_period_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what is simulated."""
    from sim.datasets import AREAS

    parser.add_argument(
        "--from", dest="start", type=day, default=date(2026, 3, 18), help="first local day (2026-03-18)"
    )
    parser.add_argument("--to", type=day, help="local day after the last")
    parser.add_argument("--days", type=int, help="number of days (1)")
    seed = parser.add_mutually_exclusive_group()
    seed.add_argument("--seed", type=int, default=11, help="seed of everything that is drawn (11)")
    seed.add_argument("--seeds", type=seeds, help="a study over several: 1..20 or 1,5,9")
    files = parser.add_argument_group("input instead of standard profiles and typical weather (CSV)")
    for name, what in (
        ("load", "demand: time,load_kw or time,<feeder>_kw,..."),
        ("pv", "available PV power: time,<pv>_kw,..."),
        ("weather", "time,ghi_w_m2,temp_air_degc"),
        ("price", "time,import_per_kwh"),
        ("outages", "id,start,end[,issued_at][,v_pu]"),
    ):
        files.add_argument(f"--{name}", type=Path, metavar="CSV", help=what)
    files.add_argument(
        "--inputs",
        type=Path,
        metavar="DIR",
        help="versions of the inputs of the site file: seen as they were issued, settled at the last",
    )
    data = parser.add_argument_group("measured data sets that lie elsewhere")
    data.add_argument("--dataset", choices=DATASETS, help="a year of UCSD load and PV with Eskom outages")
    data.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the data sets")
    data.add_argument("--area", choices=AREAS, default=AREAS[0], help=f"area of the outages ({AREAS[0]})")
