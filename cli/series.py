"""`ems series`: what was recorded of points over some days, which readings do not count, and why."""

import argparse
import csv
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli._period import day, period_of
from cli._sites import find_site
from connectors.historian.sqlite import SqliteHistoryReader
from ems.cleaning import KEPT, CleanSample, Mark, cleaned_long, rules_of
from ems.errors import EmsError
from ems.points import POINTS, Access, PointSpec, point_id
from ems.ports import HistoryReader
from ems.records import Sample
from ems.site import Site
from ems.site_schema import load_site

HELP = """Show what was recorded of a plant's points over some days: how many readings there are, how many of
them do not count, and why, and for how many something stands in. With --csv each reading is written with
what stands for it; what was recorded is not changed."""
PAGE = 10_000
HEAD = ("at", "point", "value", "mark", "substituted", "raw", "quality")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems series`."""
    add = parser.add_argument
    add("site", help="a site file, its folder, or the name of a shipped site")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the plant's records (ems-data)")
    add("--from", dest="start", type=day, required=True, help="first local day")
    add("--to", type=day, help="local day after the last")
    add("--days", type=int, help="number of days (1)")
    add(
        "--point", action="append", metavar="POINT", help="this point, such as grid1.p_kw (all that are read)"
    )
    add("--csv", type=Path, metavar="FILE", help="each reading with what stands for it")


def run(args: argparse.Namespace) -> int:
    """Print it; 1 where nothing was recorded."""
    site = load_site(find_site(args.site))
    start, end = period_of(args).bounds(site)
    history = args.dir / "history.sqlite"
    if not history.is_file():
        raise EmsError(f"{args.dir}: found no historian; allowed: the folder of a run, --dir of ems run")
    known = _points(site)
    wanted = list(known) if args.point is None else args.point
    for point in wanted:
        if point not in known:
            close = difflib.get_close_matches(point, known, 1)
            raise EmsError(f"--point: found {point!r}; allowed: a point that is read{_hint(close)}")
    reader, console = SqliteHistoryReader(history), Console()
    console.print(f"{site.name}: {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", highlight=False)
    table = Table("point", "readings", "do not count", "stood in for", "why", "counter went on")
    found = 0
    with _written(args.csv) as write:
        for point in wanted:
            rules = rules_of(known[point], site.row_of(point))
            told = dict[str, int]()
            for sample in cleaned_long(_samples(reader, point, start, end), rules):
                told[sample.mark] = told.get(sample.mark, 0) + 1
                told["substituted"] = told.get("substituted", 0) + sample.substituted
                write(point, sample)
            if told or args.point is not None:
                table.add_row(*_cells(point, told))
            found += sum(told.values())
    console.print(table)
    if args.csv is not None:
        console.print(f"written: {args.csv}", soft_wrap=True)
    return int(found == 0)


def _points(site: Site) -> dict[str, PointSpec]:
    """Every point of the site that is read, in file order."""
    return {
        point_id(asset, spec.name): spec
        for asset, kind in site.asset_kinds().items()
        for spec in POINTS[kind]
        if spec.access is Access.READ
    }


def _samples(reader: HistoryReader, point: str, start: datetime, end: datetime) -> Iterator[Sample]:
    while page := reader.series(point, start, end, PAGE):
        yield from page
        start = page[-1].at + timedelta(milliseconds=1)


def _cells(point: str, told: Mapping[str, int]) -> tuple[str, ...]:
    out = {m: n for m, n in told.items() if m not in (*KEPT, "substituted")}
    went_on = {m: n for m, n in told.items() if m in KEPT and m != Mark.MEASURED}
    readings = sum(n for m, n in told.items() if m != "substituted")
    return (
        point,
        f"{readings:,}",
        f"{sum(out.values()):,}",
        f"{told.get('substituted', 0):,}",
        ", ".join(f"{m} {n:,}" for m, n in out.items()),
        ", ".join(f"{m} {n:,}" for m, n in went_on.items()),
    )


def _hint(close: Sequence[str]) -> str:
    return f", such as {close[0]}" if close else ""


@contextmanager
def _written(file: Path | None) -> Iterator[Callable[[str, CleanSample], None]]:
    """What writes a reading into the file, which is there whole or not at all."""
    if file is None:
        yield lambda point, sample: None
        return
    draft = file.with_name(f".{file.name}.part")
    try:
        with draft.open("w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out)
            rows.writerow(HEAD)
            yield lambda point, s: rows.writerow(
                (s.at.isoformat(), point, s.value, s.mark, int(s.substituted), s.raw, s.quality)
            )
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
