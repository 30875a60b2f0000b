"""`ems import`: take over the history of another historian."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cli._sites import find_site
from connectors.imports.rows import CsvRows, PostgresRows, Rows, SqliteRows
from connectors.imports.store import ImportStore, Outcome
from ems.clock import SystemClock
from ems.errors import ConfigError, Problem
from ems.imports import ImportMapping
from ems.site_schema import load_site
from ems.site_schema.import_mapping import load_import_mapping

HELP = """Read history from CSV files or by an SQL query, as a mapping file says, and keep it beside the
records of a plant, marked by its source. All rows of a file are checked before one is stored. Run again,
nothing comes twice."""
TAGS_TOLD = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("site", help="a site file, its folder, or the name of a shipped site")
    add("files", nargs="*", type=Path, help="CSV files")
    add("--mapping", type=Path, required=True, help="which column or tag is which point")
    add("--sqlite", type=Path, help="an SQLite file to put the mapping's query to")
    add("--postgresql", metavar="WHERE", help="or a server, as libpq takes it: host=... dbname=...")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the plant's records (ems-data)")


def run(args: argparse.Namespace) -> int:
    """Import everything that is named; 1 where some of it was there with other values.

    Raises
    ------
    ConfigError : of all that was refused; what was not is stored.
    """
    mapping = load_import_mapping(args.mapping, load_site(find_site(args.site)))
    sources = list(_sources(args, mapping))
    problems: list[Problem] = []
    unlike = 0
    now = SystemClock().now()
    with closing(ImportStore(args.dir)) as store:
        for rows in sources:
            try:
                outcome = store.take(rows, mapping, now, by_content=isinstance(rows, CsvRows))
            except ConfigError as error:
                problems += error.problems
                continue
            print("\n".join(_told(outcome)))
            unlike += outcome.unlike
    if problems:
        raise ConfigError(problems)
    return 1 if unlike else 0


def _sources(args: argparse.Namespace, mapping: ImportMapping) -> Iterator[Rows]:
    """What is to be read. Raises ConfigError where that is not clear."""
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
