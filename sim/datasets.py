"""A year from measured data sets that lie outside the project: their folder is given, nothing is copied.

UCSD: 15-minute load of a university building and power of a PV plant (S. Silwal et al., "Open-source
multi-year power generation, consumption, and storage data in a microgrid", J. Renewable Sustainable Energy
13, 025301, 2021).
Eskom: load-shedding of one area as realised, and the announcements with the time they were first seen.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from ems.errors import DataError
from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray
from sim.scenario import MainsEvent, Scenario
from sim.synthetic import START_FAIL_RATIO, mains_truth

STEP_S = 900.0
SHIFT = timedelta(days=1463)  # load and PV of 2018/19 on the outages of 2022/23, weekday on weekday
UCSD_ZONE, ESKOM_ZONE = ZoneInfo("America/Los_Angeles"), ZoneInfo("Africa/Johannesburg")
PV_NAMEPLATE_KW = 328.0
GAP_STEPS_MAX = 96  # longer gaps are filled by the same hours of the week before
AREAS = ("city-of-cape-town-area-7", "city-power-4", "gauteng-tshwane-group-9", "mpumalanga-whiteriver")
CAPE_TOWN = "coct"
HISTORY = timedelta(days=35)
LOOKAHEAD = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One version of a load-shedding stage: seen from `first_seen` to `last_seen`."""

    start: datetime
    end: datetime
    stage: int
    first_seen: datetime
    last_seen: datetime


def ucsd_eskom_scenario(
    site: Site,
    folder: Path,
    start: date = date(2022, 9, 1),
    days: int = 365,
    *,
    area: str = AREAS[0],
    seed: int = 0,
) -> Scenario:
    """Measured load and PV scaled to a site, with the area's real load-shedding and its real announcements.

    Parameters
    ----------
    site : its feeders share the building's load by their peaks, its PV plants the PV by their rating.
    folder : holds `ucsd_microgrid` and `eskom_loadshedding`.
    start, days : local days on the calendar of the outages (2022-08-20 to 2023-09-30).
    area : one of AREAS.

    Raises
    ------
    DataError : a file is missing or cannot be read, or the data do not cover the period.
    """
    zone = ZoneInfo(site.timezone)
    begin = datetime.combine(start, time(0), tzinfo=zone).astimezone(UTC)
    end = datetime.combine(start + timedelta(days=days), time(0), tzinfo=zone).astimezone(UTC)
    first, last = begin - HISTORY, end + LOOKAHEAD
    ucsd = folder / "ucsd_microgrid"
    load = _on_site_calendar(read_ucsd(ucsd / "MusicBuilding.csv"), zone, first, last)
    pv = _on_site_calendar(read_ucsd(ucsd / "HopkinsParkingPV.csv"), zone, first, last)
    peak_kw = sum(f.p_peak_kw for f in site.feeders)
    scale = 0.95 * peak_kw / float(load.values.max())
    share = np.clip(pv.values / PV_NAMEPLATE_KW, 0.0, 1.0)
    mains, notices = eskom_outages(folder / "eskom_loadshedding", area, zone)
    return Scenario(
        name=f"{site.name} on UCSD load and PV, Eskom {area}, {start} +{days} d",
        site=site,
        start=begin,
        end=end,
        load_kw={
            f.id: replace(load, values=load.values * (scale * f.p_peak_kw / peak_kw)) for f in site.feeders
        },
        pv_kw={p.id: replace(pv, values=share * p.p_ac_kw) for p in site.pv},
        mains_v_pu=mains_truth(site.timezone, begin, end, seed),
        mains=tuple(m for m in mains if begin <= m.start and m.end <= end),
        notices=(*site.outages, *(n for n in notices if begin <= n.start and n.end <= end)),
        start_fail_ratio=START_FAIL_RATIO,
        seed=seed,
        labels={
            "load": f"UCSD MusicBuilding 2018/19, measured, times {scale:.2f}, shifted {SHIFT.days} days",
            "pv": f"UCSD HopkinsParkingPV 2018/19, measured, by nameplate, shifted {SHIFT.days} days",
            "outages": f"Eskom load-shedding, {area}, realised stage x published schedule (not metered), "
            "with the announcements as they were first seen",
            "price": "the site's tariff",
            "faults": f"{START_FAIL_RATIO:.0%} of genset crank attempts fail (assumed), drawn from the seed",
        },
    )


# ---- UCSD ---------------------------------------------------------------------------------------


def read_ucsd(path: Path) -> UniformSeries:
    """One channel of the UCSD set on UTC quarter hours, gaps filled [kW].

    The file is in descending order in wall-clock time with daylight saving; the hour that comes twice in
    autumn is told apart by its order. Missing values: straight lines over short gaps, the week before over
    long ones.
    """
    stamps, values = _ucsd_rows(path)
    index: dict[int, float] = {}
    fold, before = 0, None
    for stamp, value in zip(stamps, values, strict=True):
        if before is not None and stamp <= before:
            fold = 1
        elif fold and stamp.hour >= 2:
            fold = 0
        before = stamp
        local = stamp.replace(tzinfo=UCSD_ZONE, fold=fold)
        index[round(local.timestamp() / STEP_S)] = value
    lo, hi = min(index), max(index)
    raw = np.full(hi - lo + 1, np.nan)
    for slot, value in index.items():
        raw[slot - lo] = value
    start = datetime.fromtimestamp(lo * STEP_S, UTC)
    return UniformSeries(start=start, step_s=STEP_S, values=_without_gaps(path, raw))


def _ucsd_rows(path: Path) -> tuple[list[datetime], list[float]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    stamps: list[datetime] = []
    values: list[float] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                stamps.append(_month_first(row["DateTime"]))
            except (ValueError, KeyError):
                raise DataError(f"{path}:{line}: DateTime: {row.get('DateTime')!r} is no time") from None
            values.append(_or_nan(row.get("RealPower", "")))
    return stamps[::-1], values[::-1]


def _month_first(text: str) -> datetime:
    day, _, clock = text.partition(" ")
    month, number, year = (int(x) for x in day.split("/"))
    hour, minute = (int(x) for x in clock.split(":"))
    return datetime(year, month, number, hour, minute)  # noqa: DTZ001  the zone is put on by the caller


def _or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _without_gaps(path: Path, values: FloatArray) -> FloatArray:
    good = np.isfinite(values)
    if not good.any():
        raise DataError(f"{path}: no value in it can be used")
    out = values.copy()
    week = round(7 * 86400.0 / STEP_S)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (~good).astype(np.int8), [0]])))
    for lo, hi in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if hi - lo > GAP_STEPS_MAX and lo >= week:
            out[lo:hi] = out[lo - week : hi - week]
    at = np.arange(len(out))
    good = np.isfinite(out)
    return np.maximum(np.interp(at, at[good], out[good]), 0.0)


def _on_site_calendar(
    series: UniformSeries, zone: ZoneInfo, first: datetime, last: datetime
) -> UniformSeries:
    """The series SHIFT later, so that an hour of its own local clock falls on the same hour of the site's."""
    count = round((last - first).total_seconds() / STEP_S)
    slots = np.empty(count, dtype=np.int64)
    base = round(series.start.timestamp() / STEP_S)
    offsets: dict[int, int] = {}
    for i in range(count):
        when = first + timedelta(seconds=STEP_S * i)
        hour = i // 4
        if hour not in offsets:
            local = when.astimezone(zone).replace(tzinfo=None) - SHIFT
            there = local.replace(tzinfo=UCSD_ZONE)
            offsets[hour] = round((there.timestamp() - when.timestamp()) / STEP_S)
        slots[i] = round(when.timestamp() / STEP_S) + offsets[hour] - base
    if slots.min() < 0 or slots.max() >= len(series.values):
        raise DataError(f"the UCSD data end {series.end.date()}; {first.date()} to {last.date()} needs more")
    return UniformSeries(start=first, step_s=STEP_S, values=series.values[slots])


# ---- Eskom --------------------------------------------------------------------------------------


def eskom_outages(
    folder: Path, area: str, zone: ZoneInfo
) -> tuple[tuple[MainsEvent, ...], tuple[OutageNotice, ...]]:
    """Realised outages of an area, and the notices a resident could have worked out when.

    A notice is issued when the first announcement appears whose stage puts the area off in that slot of its
    schedule, and cancelled when a later one lowers the stage again. Outages whose stage was first seen after
    they began were announced to nobody. Clock times of the area are put on the clock of `zone`.
    """
    realised = _realised(folder / "area_outage_30min.csv.gz", area)
    announcements = _announcements(folder / "stage_announcements_all_versions.csv.gz", area)
    slots = _schedule(folder / f"schedule_{area}.csv")
    events: list[MainsEvent] = []
    notices: list[OutageNotice] = []
    for start, end in realised:
        name = f"eskom-{start:%Y%m%d-%H%M}"
        seen = _seen_at(start, _stage_needed(slots, start), announcements)
        announced = seen is not None and seen < start
        events.append(
            MainsEvent(id=name, start=_moved(start, zone), end=_moved(end, zone), announced=announced)
        )
        if announced and seen is not None:
            notices.append(_notice(name, seen, start, end, zone))
    notices += _false_alarms(slots, announcements, realised, zone)
    return tuple(events), tuple(sorted(notices, key=lambda n: n.issued_at))


def _notice(
    name: str, seen: datetime, start: datetime, end: datetime, zone: ZoneInfo, *, cancelled: bool = False
) -> OutageNotice:
    return OutageNotice(
        id=name,
        issued_at=_moved(seen, zone),
        start=_moved(start, zone),
        end=_moved(end, zone),
        cancelled=cancelled,
        source="eskom",
    )


def _moved(when: datetime, zone: ZoneInfo) -> datetime:
    """The same clock time in another zone, in UTC."""
    return when.astimezone(ESKOM_ZONE).replace(tzinfo=zone).astimezone(UTC)


def _text_rows(path: Path) -> Iterable[Mapping[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    else:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def _sast(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ESKOM_ZONE).astimezone(UTC)


def _realised(path: Path, area: str) -> list[tuple[datetime, datetime]]:
    """Windows without mains, [start, end)."""
    out: list[tuple[datetime, datetime]] = []
    half = timedelta(minutes=30)
    for row in _text_rows(path):
        if area not in row:
            raise DataError(
                f"{path}: no area {area!r}; there are {', '.join(k for k in row if k != 'time_SAST')}"
            )
        if float(row[area]) < 0.5:
            continue
        start = _sast(row["time_SAST"])
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], start + half)
        else:
            out.append((start, start + half))
    return out


def _announcements(path: Path, area: str) -> list[Announcement]:
    """Those that hold for the area, in the order they were first seen."""
    cape = "cape-town" in area
    out = []
    for row in _text_rows(path):
        wrong = row["include"] == CAPE_TOWN if not cape else row["exclude"] == CAPE_TOWN
        if not wrong:
            out.append(
                Announcement(
                    start=_sast(row["start"]),
                    end=_sast(row["finish"]),
                    stage=int(float(row["stage"])),
                    first_seen=_sast(row["first_seen"]),
                    last_seen=_sast(row["last_seen"]),
                )
            )
    return sorted(out, key=lambda a: a.first_seen)


Slot = tuple[time, time, int]  # local start and end, stage


def _schedule(path: Path) -> dict[int, list[Slot]]:
    """Slots of the area by day of the month."""
    out: dict[int, list[Slot]] = {}
    for row in _text_rows(path):
        slot = (
            time.fromisoformat(row["start_time"]),
            time.fromisoformat(row["finsh_time"]),
            int(row["stage"]),
        )
        out.setdefault(int(row["date_of_month"]), []).append(slot)
    return out


def _stage_needed(slots: Mapping[int, list[Slot]], when: datetime) -> int:
    """Lowest stage that puts the area off at a time; 1 where the schedule does not know the slot."""
    local = when.astimezone(ESKOM_ZONE)
    found = [
        stage for s, e, stage in slots.get(local.day, ()) if s <= local.time() < e or e <= s <= local.time()
    ]
    return min(found, default=1)


def _seen_at(start: datetime, stage: int, announcements: Iterable[Announcement]) -> datetime | None:
    """When it could first be known that a slot would be off."""
    for a in announcements:
        if a.start <= start < a.end and a.stage >= stage:
            return a.first_seen
    return None


def _false_alarms(
    slots: Mapping[int, list[Slot]],
    announcements: list[Announcement],
    realised: list[tuple[datetime, datetime]],
    zone: ZoneInfo,
) -> list[OutageNotice]:
    """Slots that were announced and did not come: a notice, and its cancellation where one was seen."""
    taken = {
        start + timedelta(minutes=30 * i) for start, end in realised for i in range((end - start) // HALF_H)
    }
    begin, end = realised[0][0], realised[-1][1]
    out: dict[str, list[OutageNotice]] = {}
    for a in announcements:
        for start, stop, stage in _slots_within(slots, max(a.start, begin), min(a.end, end)):
            name = f"eskom-{start:%Y%m%d-%H%M}"
            if start in taken or stage > a.stage or a.first_seen >= start or name in out:
                continue
            notice = _notice(name, a.first_seen, start, stop, zone)
            lower = _withdrawn_at(start, stage, a, announcements)
            out[name] = [notice]
            if lower is not None and lower < stop:
                out[name].append(_notice(name, lower, start, stop, zone, cancelled=True))
    return [n for group in out.values() for n in group]


HALF_H = timedelta(minutes=30)


def _withdrawn_at(
    start: datetime, stage: int, first: Announcement, announcements: Iterable[Announcement]
) -> datetime | None:
    later = [a for a in announcements if a.start <= start < a.end and a.first_seen > first.first_seen]
    lower = [a.first_seen for a in later if a.stage < stage]
    return min(lower, default=first.last_seen if first.last_seen < start else None)


def _slots_within(
    slots: Mapping[int, list[Slot]], begin: datetime, end: datetime
) -> Iterable[tuple[datetime, datetime, int]]:
    """Slots of the schedule that start in [begin, end): start, end, lowest stage."""
    day = begin.astimezone(ESKOM_ZONE).date()
    while datetime.combine(day, time(0), tzinfo=ESKOM_ZONE) < end:
        found: dict[tuple[datetime, datetime], int] = {}
        for s, e, stage in slots.get(day.day, ()):
            start = datetime.combine(day, s, tzinfo=ESKOM_ZONE).astimezone(UTC)
            stop = datetime.combine(day if e > s else day + timedelta(days=1), e, tzinfo=ESKOM_ZONE)
            key = (start, stop.astimezone(UTC))
            found[key] = min(stage, found.get(key, 99))
        for (start, stop), stage in found.items():
            if begin <= start < end:
                yield start, stop, stage
        day += timedelta(days=1)
