"""`ems inputs`: prices, weather, forecasts and announced outages from elsewhere, as they are known."""

import argparse
import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli._sites import find_site
from cli.input_doubts import doubts_of
from cli.plan_screen import input_lines
from connectors.inputs.folder import DropFolder
from connectors.inputs.keeper import feeds_of
from connectors.inputs.state import InputState, input_state, words_s
from connectors.inputs.store import InputReader, InputStore
from connectors.stores.plans import PlanReader
from ems.clock import SystemClock, wall_sleep
from ems.errors import EmsError
from ems.inputs import InputKind, InputLook
from ems.site import Site
from ems.site_schema import load_site

HELP = """Show what is known of each input of a site: the version in force, when it was issued, how old it is,
where it came from, whether it is late, and what was refused and why. With --at as it was known then; with
--look every folder and URL is looked at first (not while `ems run` does that)."""
SETTLE_S = 1.0
SHOWN = 3  # refusals of an input


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems inputs`."""
    add = parser.add_argument
    add("site", help="a site file, its folder, or the name of a shipped site")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the plant's records (ems-data)")
    add("--look", action="store_true", help="look at every folder and URL once, and keep what comes")
    add("--at", metavar="TIME", help="as it was known then, ISO 8601 with a zone")
    add("--plan", metavar="ID", help="what a plan rests on, held against what is kept; current: the newest")
    add(
        "--show", type=int, metavar="VERSION", help="print the bytes that a version came in, and nothing else"
    )


def run(args: argparse.Namespace) -> int:
    """Show it; 1 if an input is late or the last thing that came was refused."""
    path = find_site(args.site)
    site = load_site(path)
    if args.show is not None:
        return _show_raw(args.dir, args.show)
    if args.plan is not None:
        return _proved(args.dir, args.plan)
    if not site.inputs:
        print(f"{site.name}: no inputs; forecasts are our own, prices and outages those of the site file")
        return 0
    if args.look:
        if args.at is not None:
            raise EmsError("--look: found --at too; allowed: one of them")
        look_once(site, path.parent, args.dir)
    now = SystemClock().now()
    at = now if args.at is None else _time(args.at)
    with closing(InputReader(args.dir)) as reader:
        states = [input_state(reader, p, at, now) for p in site.inputs]
    console = Console()
    console.print(_table(states, at))
    for line in _lines(states):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 1 if any(s.late or s.ahead or s.refused for s in states) else 0


def look_once(site: Site, folder: Path, directory: Path) -> list[InputLook]:
    """Look at every source; a file counts when it has not changed for a second.

    Raises
    ------
    StoreError : a running `ems run` keeps this folder's inputs, or it cannot be written.
    """
    clock = SystemClock()
    with closing(InputStore(directory)) as store:
        feeds = feeds_of(site, store, folder, clock.now, lambda params: doubts_of(site, params))
        looks = [look for feed in feeds for look in feed.look()]
        dropped = [f for f in feeds if isinstance(f.source, DropFolder)]
        if dropped:
            asyncio.run(wall_sleep(SETTLE_S))
        return looks + [look for feed in dropped for look in feed.look()]


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise EmsError(f"--at: found {text!r}; allowed: a time with its zone, like 2026-03-18T06:00+00:00")
    return at.astimezone(UTC)


def _show_raw(directory: Path, number: int) -> int:
    with closing(InputReader(directory)) as reader:
        found = reader.version(number)
    if found is None:
        raise EmsError(f"--show: found {number}; allowed: the number of a version that is kept")
    print(found[1].decode("utf-8", "replace"), end="")
    return 0


def _proved(directory: Path, plan_id: str) -> int:
    """The versions a plan names, and whether the bytes that are kept are those; 1 if one is not."""
    with closing(PlanReader(directory / "plans.sqlite")) as plans:
        plan = plans.current() if plan_id == "current" else plans.get(plan_id)
    if plan is None:
        raise EmsError(
            f"--plan: found {plan_id}; allowed: a plan that was published in {directory}, or current"
        )
    print(f"{plan.plan_id}, issued {plan.issued_at:%Y-%m-%d %H:%M:%S} UTC: {len(plan.inputs)} inputs")
    wrong = False
    with closing(InputReader(directory)) as reader:
        for use, line in zip(plan.inputs, input_lines(plan), strict=True):
            kept = reader.version(use.version)
            same = kept is not None and hashlib.sha256(kept[1]).hexdigest() == use.sha256
            word = "not kept any more" if kept is None else "kept as it came" if same else "NOT what is kept"
            wrong = wrong or not same
            print(f"  {line}: {word}")
    return 1 if wrong else 0


def _table(states: list[InputState], at: datetime) -> Table:
    table = Table(title=f"Inputs as known at {at:%Y-%m-%d %H:%M} UTC")
    for name in ("input", "kind", "from", "version", "issued", "age", "tells until", "state"):
        table.add_column(name)
    for s in states:
        v = s.version
        issued = "" if v is None else f"{v.issued_at:%m-%d %H:%M}{'' if v.issued_told else ' (arrival)'}"
        reaches = "" if s.reaches is None else f"{s.reaches:%m-%d %H:%M}"
        age = "" if s.age_s is None else words_s(s.age_s)
        number = "" if v is None else f"{v.id} {v.sha256[:8]}"
        table.add_row(
            s.params.id, str(s.params.kind), s.params.place, number, issued, age, reaches, _state(s)
        )
    return table


def _state(s: InputState) -> str:
    return "late" if s.late else "clock was ahead" if s.ahead else "refused" if s.refused else "ok"


def _lines(states: list[InputState]) -> Iterator[str]:
    for s in states:
        name = s.params.id
        if s.late:
            yield f"{name}: late: {s.late}; instead: {instead(s.params.kind)}"
        if s.ahead:
            yield f"{name}: {s.ahead}"
        for look in [x for x in s.looks if x.version is not None and x.detail][:SHOWN]:
            yield f"{name}: version {look.version}, {look.at:%m-%d %H:%M}: {look.detail}"
        if s.failed is not None:
            yield f"{name}: {s.failed.at:%m-%d %H:%M}: {s.failed.detail}"
        for look in [x for x in s.looks if x.outcome == "refused"][:SHOWN]:
            yield f"{name}: refused {look.at:%m-%d %H:%M}: {look.file}"
            yield from (f"    {line}" for line in look.detail.splitlines())
        for o in () if s.version is None else s.version.outages:
            said = "cancelled" if o.cancelled else str(o.certainty)
            reason = f", {o.reason}" if o.reason else ""
            yield f"{name}: outage {o.id}: {o.start:%m-%d %H:%M} to {o.end:%m-%d %H:%M} UTC, {said}{reason}"


def instead(kind: InputKind) -> str:
    """What is planned with where an input tells nothing that counts."""
    return {
        InputKind.PRICE: "the tariff of the site file",
        InputKind.WEATHER: "our own forecast of PV",
        InputKind.FORECAST: "our own forecast",
        InputKind.OUTAGES: "what was announced before, and the site file",
    }[kind]
