"""`ems import`: take over the history of another historian."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from cli._period import day
from cli._sites import find_site
from connectors.imports.rows import CsvRows, PostgresRows, Rows, SqliteRows
from connectors.imports.store import ImportStore, Outcome
from ems.clock import SystemClock
from ems.errors import ConfigError, EmsError, Problem
from ems.imports import ImportMapping, MeterProfile
from ems.site import Connection, Site
from ems.site_schema import load_site
from ems.site_schema.import_mapping import load_import_mapping

HELP = """Read history from CSV files, by an SQL query, from an OPC UA server, or from
the load profile of a meter, as a mapping file says,
and keep it beside the records of a plant, marked by its source. All rows of a file are checked before one is
stored. Run again, nothing comes twice."""
TAGS_TOLD = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("site", help="a site file, its folder, or the name of a shipped site")
    add("files", nargs="*", type=Path, help="CSV files")
    add("--mapping", type=Path, required=True, help="which column or tag is which point")
    add("--sqlite", type=Path, help="an SQLite file to put the mapping's query to")
    add("--postgresql", metavar="WHERE", help="or a server, as libpq takes it: host=... dbname=...")
    add("--from", dest="start", type=day, help="of a server's history: first local day")
    add("--to", type=day, help="local day after the last; left out: until now")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the plant's records (ems-data)")


def run(args: argparse.Namespace) -> int:
    """Import everything that is named; 1 where some of it was there with other values.

    Raises
    ------
    ConfigError : of all that was refused; what was not is stored.
    """
    site = load_site(find_site(args.site))
    mapping = load_import_mapping(args.mapping, site)
    sources = list(_sources(args, mapping, site))
    problems: list[Problem] = []
    unlike = 0
    now = SystemClock().now()
    with closing(ImportStore(args.dir)) as store:
        for rows in sources:
            try:
                with closing(rows):
                    outcome = store.take(rows, mapping, now, by_content=isinstance(rows, CsvRows))
            except ConfigError as error:
                problems += error.problems
                continue
            print("\n".join(_told(outcome)))
            unlike += outcome.unlike
    if problems:
        raise ConfigError(problems)
    return 1 if unlike else 0


def _sources(args: argparse.Namespace, mapping: ImportMapping, site: Site) -> Iterator[Rows]:
    """What is to be read. Raises ConfigError where that is not clear."""
    if mapping.server is not None:
        yield _history(args, mapping, mapping.server, site)
        return
    if mapping.meter is not None:
        yield _profile(args, mapping, mapping.meter, site)
        return
    for key, given in (("--from", args.start), ("--to", args.to)):
        if given is not None:
            raise _unclear(
                str(args.mapping), f"no server, and {key} {given}", "`server` or `meter`, or no days"
            )
    asked = [bool(args.files), args.sqlite is not None, args.postgresql is not None]
    by_query = args.sqlite is not None or args.postgresql is not None
    if sum(asked) != 1:
        raise _unclear("what to read", f"{sum(asked)} of them", "CSV files, or --sqlite, or --postgresql")
    if by_query is not (mapping.query is not None):
        found = "a query" if mapping.query is not None else "no query"
        raise _unclear(
            str(args.mapping), found, "`query` in the mapping with --sqlite and --postgresql alone"
        )
    if args.sqlite is not None:
        yield SqliteRows(args.sqlite, mapping)
    if args.postgresql is not None:
        yield PostgresRows(args.postgresql, mapping)
    for path in args.files:
        yield CsvRows(path, mapping)


def _history(args: argparse.Namespace, mapping: ImportMapping, server: Connection, site: Site) -> Rows:
    """What an OPC UA server keeps of whole local days, or until now."""
    from connectors.imports.ua_rows import UaHistoryRows
    from connectors.opcua.security import located

    start, end = _days(args, site)
    if server.security is not None:
        server = replace(server, security=located(server.security, args.mapping.parent))
    return UaHistoryRows(server, mapping, start, end, folder=args.dir, now=SystemClock().now)


def _profile(args: argparse.Namespace, mapping: ImportMapping, meter: MeterProfile, site: Site) -> Rows:
    """What a meter has captured of whole local days, or until now."""
    from connectors.dlms.package import package_fault

    if fault := package_fault():
        raise EmsError(f"DLMS {fault}")
    from connectors.imports.meter_rows import MeterRows

    start, end = _days(args, site)
    meter = replace(meter, dlms=meter.dlms.located(args.mapping.parent))
    return MeterRows(meter, mapping, start, end, now=SystemClock().now)


def _days(args: argparse.Namespace, site: Site) -> tuple[datetime, datetime]:
    """[start, end) of what is asked of a server or a meter. Raises ConfigError."""
    if args.files or args.sqlite is not None or args.postgresql is not None:
        raise _unclear("what to read", "files or a database", f"nothing: {args.mapping} names whom to ask")
    if args.start is None:
        raise _unclear(
            str(args.mapping), "no --from", "the first local day of the history, such as 2026-01-01"
        )
    zone, now = ZoneInfo(site.timezone), SystemClock().now()
    start = datetime.combine(args.start, time(0), tzinfo=zone).astimezone(UTC)
    end = now if args.to is None else datetime.combine(args.to, time(0), tzinfo=zone).astimezone(UTC)
    if not start < min(end, now):
        raise _unclear(str(args.mapping), f"--from {args.start}", "a day before --to, and not after today")
    return start, min(end, now)


def _unclear(file: str, found: str, allowed: str) -> ConfigError:
    return ConfigError([Problem(file=file, line=None, key="source", found=found, allowed=allowed)])


def _told(outcome: Outcome) -> Iterator[str]:
    if outcome.skipped:
        yield f"{outcome.name}: imported before, nothing to do"
        return
    span = (
        ""
        if outcome.first is None
        else f", {outcome.first:%Y-%m-%d %H:%M} to {outcome.last:%Y-%m-%d %H:%M} UTC"
    )
    yield f"{outcome.name}: {outcome.added} values added, {outcome.known} were there{span}"
    if outcome.unlike:
        yield f"  {outcome.unlike} values are there already with another value: left as they were"
    if outcome.unknown:
        tags = sorted(outcome.unknown)
        more = f" and {len(tags) - TAGS_TOLD} more" if len(tags) > TAGS_TOLD else ""
        yield f"  rows of tags that the mapping does not name: {', '.join(tags[:TAGS_TOLD])}{more}"
    sys.stdout.flush()
