"""`ems bill`: what a month at the POI costs by what was measured, and which prices that rests on."""

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from cli._sites import find_site
from cli.metered import Metered, metered
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.inputs.store import InputReader
from ems.bill_prices import RestsOn
from ems.billing import Bill, bill
from ems.clock import SystemClock
from ems.contracts import IMPORT
from ems.errors import EmsError
from ems.inputs import InputKind, InputUse
from ems.prices import told_prices
from ems.site import Site
from ems.site_schema import load_site

HELP = """Bill a local month of a plant by its historian and the tariff of its site file, with the prices that
inputs told: each line names the versions it rests on, and what rests on the tariff for want of a told price
is said. A month that is not over is billed so far."""
GAPS_SHOWN = 5
Line = tuple[str, str, str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems bill`."""
    add = parser.add_argument
    add("site", help="a site file, its folder, or the name of a shipped site")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the plant's records (ems-data)")
    add("--month", metavar="MONTH", help="a local month such as 2026-03 (the present one)")
    add("--at", metavar="TIME", help="with prices as they were known then, ISO 8601 with a zone (now)")
    add("--out", type=Path, metavar="FILE", help="all of it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print it; 1 where minutes of it were not read."""
    site, now = load_site(find_site(args.site)), SystemClock().now()
    start, end = _period(site, args.month, now)
    at = now if args.at is None else _time(args.at)
    history = args.dir / "history.sqlite"
    if not history.is_file():
        raise EmsError(f"{args.dir}: found no historian; allowed: the folder of a run, --dir of ems run")
    reader = SqliteHistoryReader(history)
    step_s = reader.bucket_s_min(start, end)
    flows = metered(reader, site.grid.id, _priced_plants(site), start, end, step_s)
    if not flows.read.any():
        raise EmsError(f"{history}: found no good reading of {site.grid.id}.p_kw from {start} to {end}")
    if site.tariff.bills_reactive and flows.reactive_kvar is None:
        raise EmsError(f"{site.grid.id}.q_kvar: found no good reading; the tariff bills reactive power")
    found = billed(site, args.dir, flows, at)
    console = Console()
    console.print(f"{site.name}: {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", highlight=False)
    console.print(_table(found))
    for line in _words(found, flows):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if args.out is not None:
        head = {"site": site.name, "start": start, "end": end, "minutes_missing": flows.missing}
        body = head | asdict(found)
        args.out.write_text(json.dumps(body, indent=1, default=datetime.isoformat) + "\n", encoding="utf-8")
        console.print(f"written: {args.out}", soft_wrap=True)
    return int(flows.missing > 0)


def billed(site: Site, directory: Path, flows: Metered, at: datetime) -> Bill:
    """The bill of what flowed, with prices as known at `at`.

    Raises
    ------
    StoreError : what inputs told cannot be read.
    DataError : the tariff bills what was not measured.
    """
    prices = None
    if any(p.kind is InputKind.PRICE for p in site.inputs):
        series = flows.import_kw
        with closing(InputReader(directory)) as reader:
            prices = told_prices(site.inputs, site.tariff, reader, at, series.start, series.end)
    return bill(
        site.tariff,
        flows.import_kw,
        flows.export_kw,
        reactive_kvar=flows.reactive_kvar,
        used_kw=flows.used_kw,
        prices=prices,
    )


def _priced_plants(site: Site) -> list[str]:
    return sorted({c.source for c in site.tariff.contracts.energy if c.source != IMPORT})


def _period(site: Site, month: str | None, now: datetime) -> tuple[datetime, datetime]:
    """A local month, up to the last billing interval that is over."""
    zone = ZoneInfo(site.tariff.timezone)
    text = f"{now.astimezone(zone):%Y-%m}" if month is None else month
    if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text) is None or text < "1970-01":
        raise EmsError(f"--month: found {text!r}; allowed: a month such as 2026-03")
    if text > f"{now.astimezone(zone):%Y-%m}":
        raise EmsError(f"--month: found {text}, of which nothing is over; allowed: a month that has begun")
    year, number = int(text[:4]), int(text[5:])
    first, after = (
        datetime(y, m, 1, tzinfo=zone).astimezone(UTC)
        for y, m in ((year, number), (year + number // 12, number % 12 + 1))
    )
    interval_s = site.tariff.billing_interval_s
    over = datetime.fromtimestamp(now.timestamp() // interval_s * interval_s, tz=UTC)
    if over <= first:
        raise EmsError(f"--month: found {text}, of which nothing is over; allowed: a month that has begun")
    return first, min(after, over)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise EmsError(f"--at: found {text!r}; allowed: a time with its zone, like 2026-03-18T06:00+00:00")


def _table(found: Bill) -> Table:
    table = Table("what", "of", "kWh", found.currency)
    for name in ("kWh", found.currency):
        next(c for c in table.columns if c.header == name).justify = "right"
    for row in _rows(found):
        table.add_row(*row)
    return table


def _rows(found: Bill) -> Iterator[Line]:
    for e in found.energy:
        if e.import_kwh > 0.0:
            yield "import", e.window, f"{e.import_kwh:.1f}", f"{e.cost:.2f}"
            yield from _versions(e.rests_on)
    for b in found.blocks:
        yield "energy blocks", b.month, "", f"{b.cost:.2f}"
    for d in found.demand:
        yield "demand", f"{d.charge} {d.month}, {d.billed_kw:.1f} kW", "", f"{d.cost:.2f}"
    yield "fixed charge", "", "", f"{found.fixed_cost:.2f}"
    for name, lines in (("power factor", found.power_factor), ("minimum", found.minimum)):
        for line in lines:
            yield name, line.month, "", f"{line.cost:.2f}"
    for c in found.contracts:
        yield "contract", c.name, f"{c.amount_kwh:.1f}", f"{c.cost:.2f}"
    for x in found.export:
        if x.export_kwh > 0.0:
            yield "export", x.source, f"{x.export_kwh:.1f}", f"{0.0 - x.revenue:.2f}"
            yield from _versions(x.rests_on)
    yield "export, as paid or credited", "", f"{found.export_kwh:.1f}", f"{0.0 - found.export_revenue:.2f}"
    yield "total", "", "", f"{found.total_cost:.2f}"


def _versions(rests_on: tuple[RestsOn, ...]) -> Iterator[Line]:
    for part in rests_on:
        yield "", f"  {version_words(part.version)}", f"{part.energy_kwh:.1f}", f"{part.amount_money:.2f}"


def version_words(use: InputUse) -> str:
    """Which version it is: enough to find it and its bytes."""
    return f"version {use.version}, issued {use.issued_at:%m-%d %H:%M}, sha256 {use.sha256[:12]}"


def _words(found: Bill, flows: Metered) -> Iterator[str]:
    """What must be said beside it."""
    if found.by_rule is not None and found.prices_at is not None:
        rule = found.by_rule
        yield f"prices as known at {found.prices_at:%Y-%m-%d %H:%M} UTC, of each the last revision"
        yield (
            f"at the tariff for want of a told price: import of {rule.import_kwh:.1f} kWh for "
            f"{rule.import_cost:.2f} {found.currency}, export of {rule.export_kwh:.1f} kWh for "
            f"{rule.export_revenue:.2f} {found.currency}"
        )
    minutes = len(flows.read) * flows.step_min
    if flows.step_min > 1:
        yield f"minutes were given up to make room: what flowed is on balance of {flows.step_min} minutes"
    if flows.missing:
        yield f"{flows.missing} of {minutes} minutes were not read, and count as no flow"
        for lo, hi in flows.gaps(GAPS_SHOWN):
            yield f"  not read: {lo:%m-%d %H:%M} to {hi:%m-%d %H:%M} UTC"
