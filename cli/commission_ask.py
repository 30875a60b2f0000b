"""What an engineer says yes to before a plant is commissioned, and what is shown of it."""

import argparse
import asyncio
import sys
from collections.abc import Container, Sequence
from pathlib import Path

from rich.console import Console

from cli._sites import find_site
from cli.check import protection
from cli.commission_plant import Task, commission, engineer
from cli.run import cycle_length, refuse_without_connections
from dispatch.commissioning.conditions import SOC_HIGH, SOC_LOW, never_probed
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.layout import layout_of
from ems.errors import EmsError
from ems.site import Site
from ems.site_schema import load_site

COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.NOT_SHOWN: "yellow"}


def commission_plant(args: argparse.Namespace) -> int:
    """Check what was asked for, ask for the rest, and do it."""
    path: Path = find_site(args.site)
    site = load_site(path)
    refuse_without_connections(site, str(path))
    console = Console(highlight=False, soft_wrap=True)
    user = engineer(site)
    accepted = _accepted(site, args.accept)
    for line in _by_hand(site, accepted):
        console.print(line, markup=False)
    agreed = _agreed(site, args.consent) if args.consent or not sys.stdin.isatty() else _ask(console, site)
    record: Path = args.dir / "commissioning.json" if args.record is None else args.record
    for line in protection(site):
        console.print(f"protection of {line}", markup=False)
    console.print(
        f"commissioning {site.name} as {user}; a setpoint moves only in test, on the grid, with a charge "
        f"of {SOC_LOW:.0%} to {SOC_HIGH:.0%}; "
        f"may be moved: {', '.join(agreed) if agreed else 'nothing'}; Ctrl-C brings back what was moved"
    )

    def tell(said: PointRow | str) -> None:
        if isinstance(said, str):
            console.print(said, markup=False)
            return
        console.print(f"{said.point:28s} [{COLOURS[said.verdict]}]{said.verdict.value}[/]  ", end="")
        console.print(said.text, markup=False)

    task = Task(
        site=site,
        site_file=path,
        directory=args.dir,
        record_file=record,
        cycle_s=cycle_length(args.cycle, site),
        user=user,
        agreed=agreed,
        accepted=accepted,
        tell=tell,
    )
    code = asyncio.run(commission(task))
    whole = _conclude(console, site, record)
    return code if code or whole else 1


def _conclude(console: Console, site: Site, record: Path) -> bool:
    """Whether the plant may be written to now; says so, and what is missing."""
    from connectors.stores.commissioning import read_record
    from connectors.stores.permit import missing

    left = missing(read_record(record), site)
    for point, found in left:
        console.print(f"missing: {point}: {found}", markup=False)
    if left:
        console.print(f"{len(left)} points are neither shown nor accepted by hand: ems run --write refuses")
    else:
        console.print(f"every point is shown or accepted by hand: {record}")
    return not left


def _never(site: Site) -> dict[str, str]:
    """Setpoints that are never moved here, each with why."""
    layout = layout_of(site)
    return {p: why for p in site.authority.setpoints if (why := never_probed(layout, p)) is not None}


def _by_hand(site: Site, accepted: Container[str]) -> list[str]:
    """What is never moved and nobody has vouched for now, by why."""
    points: dict[str, list[str]] = {}
    for point, why in _never(site).items():
        if point not in accepted:
            points.setdefault(why, []).append(point)
    return [
        f"not moved ({why}): {', '.join(found)}; check by hand, then --accept POINT=how"
        for why, found in points.items()
    ]


def _agreed(site: Site, consents: Sequence[str]) -> list[str]:
    never = _never(site)
    allowed = [p for p in site.authority.setpoints if p not in never]
    for point in consents:
        if point in never:
            raise EmsError(f"--consent: found {point}; allowed: {', '.join(allowed)} ({never[point]})")
        if point not in allowed:
            raise EmsError(f"--consent: found {point}; allowed: {', '.join(allowed)}")
    return list(dict.fromkeys(consents))


def _accepted(site: Site, texts: Sequence[str]) -> dict[str, str]:
    points = {m.point for c in site.connections for m in c.points}
    out = {}
    for text in texts:
        point, _, why = text.partition("=")
        if point not in points:
            raise EmsError(f"--accept: found {point!r}; allowed: a point of the site's maps")
        if not why.strip():
            raise EmsError(f"--accept: found no reason for {point}; allowed: {point}=how it was checked")
        out[point] = why.strip()
    return out


def _ask(console: Console, site: Site) -> list[str]:
    """One question a setpoint; anything but y is no."""
    out, never = [], _never(site)
    for point, a in site.authority.setpoints.items():
        if point not in never:
            said = console.input(
                f"move {point} ({a.low:g} to {a.high:g}) by 5 % of its rating and back? y/N "
            )
            if said.strip().lower() == "y":
                out.append(point)
    return out
