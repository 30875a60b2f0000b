"""A scenario from files: load, PV or weather, price and outages, each where given, else synthetic."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ems.errors import DataError
from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.site import Site
from sim.csv_series import CsvRule, parse_time, read_series, read_table, require_period
from sim.scenario import MainsEvent, Scenario
from sim.synthetic import demo_scenario

TOTAL_COLUMN = "load_kw"
HISTORY_WANTED = timedelta(days=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFiles:
    """Files of a scenario; None leaves that part to the synthetic scenario.

    load : `time`, and `load_kw` (whole site, split by the feeders' peaks) or `<feeder>_kw` for each feeder.
    pv : `time`, and `<pv id>_kw` for every plant: available AC power before curtailment.
    weather : `time,ghi_w_m2,temp_air_degc` on the horizontal.
    price : `time,import_per_kwh`.
    outages : `id,start,end` and optionally `issued_at` (empty: nobody announced it) and `v_pu`.
    """

    load: Path | None = None
    pv: Path | None = None
    weather: Path | None = None
    price: Path | None = None
    outages: Path | None = None


def csv_scenario(site: Site, start: datetime, end: datetime, files: CsvFiles, *, seed: int) -> Scenario:
    """A scenario over [start, end) with whatever the files give.

    Raises
    ------
    DataError : a file cannot be used, with file, line and column.
    """
    if files.pv is not None and files.weather is not None:
        raise DataError(f"{files.pv} and {files.weather} both give PV; one of them is enough")
    zone = ZoneInfo(site.timezone)
    first = start.astimezone(zone).date()
    days = (end.astimezone(zone) - timedelta(microseconds=1)).date().toordinal() - first.toordinal() + 1
    scenario = demo_scenario(site, first, seed=seed, days=days)
    labels = dict(scenario.labels)
    changes: dict[str, object] = {
        "start": start,
        "end": end,
        "name": f"{site.name} {start:%Y-%m-%d} +{days} d",
    }
    if files.load is not None:
        changes["load_kw"] = load_from(files.load, site, start, end)
        labels["load"] = f"from {files.load.name}{_history_words(changes['load_kw'], start)}"
    if files.pv is not None:
        changes["pv_kw"] = pv_from(files.pv, site, start, end)
        labels["pv"] = f"from {files.pv.name}"
    if files.weather is not None:
        changes["pv_kw"] = weather_from(files.weather, site, start, end)
        labels["pv"] = f"by the PV model from the weather in {files.weather.name}"
    if files.price is not None:
        changes["import_per_kwh"] = price_from(files.price, start, end)
        labels["price"] = f"from {files.price.name}"
    if files.outages is not None:
        changes["mains"], notices = outages_from(files.outages)
        changes["notices"] = (*site.outages, *notices)
        labels["outages"] = f"from {files.outages.name}"
    return replace(scenario, labels=labels, **changes)  # type: ignore[arg-type]


def _history_words(series: object, start: datetime) -> str:
    """A warning where a file gives forecasters little to learn from."""
    assert isinstance(series, Mapping)
    known = start - max(s.start for s in series.values())
    if known >= HISTORY_WANTED:
        return ""
    return f", with only {known / timedelta(days=1):.1f} days before the start for the forecaster"


def load_from(path: Path, site: Site, start: datetime, end: datetime) -> Mapping[str, UniformSeries]:
    """Demand by feeder [kW]."""
    rules = [CsvRule(column=f"{f.id}_kw", low=0.0) for f in site.feeders]
    found = read_series(path, [CsvRule(column=TOTAL_COLUMN, low=0.0), *rules], optional=True)
    for series in found.values():
        require_period(path, series, start, end)
    if TOTAL_COLUMN in found:
        if len(found) > 1:
            raise DataError(f"{path}: {TOTAL_COLUMN} and single feeders in one file; one or the other")
        total, peak_kw = found[TOTAL_COLUMN], sum(f.p_peak_kw for f in site.feeders)
        return {f.id: replace(total, values=total.values * (f.p_peak_kw / peak_kw)) for f in site.feeders}
    missing = [f.id for f in site.feeders if f"{f.id}_kw" not in found]
    if missing:
        raise DataError(f"{path}: no column for {', '.join(m + '_kw' for m in missing)}")
    return {f.id: found[f"{f.id}_kw"] for f in site.feeders}


def pv_from(path: Path, site: Site, start: datetime, end: datetime) -> Mapping[str, UniformSeries]:
    """Available AC power by PV plant [kW]."""
    found = read_series(path, [CsvRule(column=f"{p.id}_kw", low=0.0, high=1.1 * p.p_ac_kw) for p in site.pv])
    for series in found.values():
        require_period(path, series, start, end)
    return {p.id: found[f"{p.id}_kw"] for p in site.pv}


def weather_from(path: Path, site: Site, start: datetime, end: datetime) -> Mapping[str, UniformSeries]:
    """Available AC power by PV plant, from irradiance on the horizontal and air temperature [kW]."""
    from sim.weather import pv_from_weather  # only here: pvlib is slow to load

    rules = [
        CsvRule(column="ghi_w_m2", low=-5.0, high=1500.0),
        CsvRule(column="temp_air_degc", low=-60.0, high=60.0),
    ]
    found = read_series(path, rules)
    require_period(path, found["ghi_w_m2"], start, end)
    return pv_from_weather(site, found["ghi_w_m2"], found["temp_air_degc"])


def price_from(path: Path, start: datetime, end: datetime) -> UniformSeries:
    """Import price [money/kWh]; it may be negative."""
    series = read_series(path, [CsvRule(column="import_per_kwh", low=-100.0, high=100.0)])["import_per_kwh"]
    require_period(path, series, start, end)
    return series


def outages_from(path: Path) -> tuple[tuple[MainsEvent, ...], tuple[OutageNotice, ...]]:
    """Outages, and the notices of those that were announced."""
    events: list[MainsEvent] = []
    notices: list[OutageNotice] = []
    for line, row in read_table(path, ("id", "start", "end"), ("issued_at", "v_pu")):
        start, end = (parse_time(path, line, c, row[c]) for c in ("start", "end"))
        if end <= start:
            raise DataError(f"{path}:{line}: end: {row['end']} is not after the start {row['start']}")
        issued = row.get("issued_at", "")
        event = MainsEvent(
            id=row["id"], start=start, end=end, announced=issued != "", v_pu=_v_pu(path, line, row)
        )
        events.append(event)
        if issued:
            issued_at = parse_time(path, line, "issued_at", issued)
            notices.append(OutageNotice(id=row["id"], issued_at=issued_at, start=start, end=end))
    return tuple(events), tuple(notices)


def _v_pu(path: Path, line: int, row: Mapping[str, str]) -> float:
    text = row.get("v_pu", "")
    if text == "":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{path}:{line}: v_pu: {text!r} is not a number") from None
    if not 0.0 <= value < 1.5:
        raise DataError(f"{path}:{line}: v_pu: {text} is outside 0 to 1.5")
    return value
