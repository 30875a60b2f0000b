"""`ems commission SITE`: the plant over the wire; `--simulated`: the matrices on its simulated plant."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cli._sites import find_site
from ems.errors import EmsError
from ems.site_schema import load_site

if TYPE_CHECKING:
    from sim.commissioning import TrialRow
    from sim.faults import Fault

HELP = """Commission a site: read every point, move each agreed setpoint by a small step and back, and write
down what was found. `ems run SITE --write` asks for that record. Only on the grid, in test, charge between
30 and 70 %%; never a breaker or an engine start. With --simulated: the matrices on its simulated plant."""
COLOURS = {"pass": "green", "fail": "bold red", "not applicable": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems commission`."""
    add = parser.add_argument
    add("site", help="name of a shipped site, or the path of a site file")
    add("--simulated", action="store_true", help="the matrices, on the simulated plant")
    add("--consent", action="append", default=[], metavar="POINT",
        help="this setpoint may be moved by 5 %% of its rating (left out: asked at a terminal)")  # fmt: skip
    add("--accept", action="append", default=[], metavar="POINT=WHY",
        help="this point was checked by hand, and how; you vouch for it in the record")  # fmt: skip
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the running plant (ems-data)")
    add("--record", type=Path, help="the record (commissioning.json in --dir); an old one is gone on with")
    add("--cycle", type=float, help="length of the control cycle [s] (that of the site file)")
    add("--only", metavar="ROWS", help="these rows alone, comma-separated: import-cap,cloud")
    add("--plant-fault", action="append", default=[], metavar="KIND[:TARGET[:VALUE]]",
        help="a fault of the catalogue (ems soak --list) in every row, to see the report fail")  # fmt: skip
    add("--seed", type=int, default=0, help="of measurement noise (0)")
    add("--out", type=Path, help="folder for report.json and report.txt")


def run(args: argparse.Namespace) -> int:
    """Run it; 1 when a row failed."""
    if not args.simulated:
        from cli.commission_ask import commission_plant

        return commission_plant(args)
    return _simulated(args)


def _simulated(args: argparse.Namespace) -> int:
    """Run the rows of the matrices; 1 when one failed."""
    from sim.commissioning import MATRIX, run_trial

    site = load_site(find_site(args.site))
    planted = [_fault(text) for text in args.plant_fault]
    known = {t.id: t for t in MATRIX}
    wanted = list(known) if args.only is None else args.only.split(",")
    if unknown := [w for w in wanted if w not in known]:
        raise EmsError(f"--only: found {', '.join(unknown)}; allowed: {', '.join(known)}")
    console = Console()
    rows = []
    for name in wanted:
        row = run_trial(known[name], site, planted, args.seed)
        said = f"[{COLOURS[row.verdict]}]{row.verdict}[/]"
        console.print(f"{row.id:22s} {said}  {row.measured}", highlight=False)
        rows.append(row)
    console.print(table(rows))
    console.print(verdict(rows))
    if args.out is not None:
        write(args.out, site.name, rows, planted)
    return 1 if any(r.verdict == "fail" for r in rows) else 0


def table(rows: Sequence[TrialRow]) -> Table:
    """The report, one row a trial."""
    out = Table(show_lines=True)
    for head in ("row", "clause", "start", "injection", "threshold", "measured", "verdict", "trace"):
        out.add_column(head, overflow="fold")
    for r in rows:
        out.add_row(
            f"{r.matrix}\n{r.id}", r.clause, r.start, r.injection, r.threshold, r.measured,
            f"[{COLOURS[r.verdict]}]{r.verdict}[/]", r.trace_hash[:12],
        )  # fmt: skip
    return out


def verdict(rows: Sequence[TrialRow]) -> str:
    """One sentence."""
    count = {v: sum(r.verdict == v for r in rows) for v in COLOURS}
    return f"{count['pass']} passed, {count['fail']} failed, {count['not applicable']} not applicable"


def write(folder: Path, site: str, rows: Sequence[TrialRow], planted: Sequence[Fault]) -> None:
    """Store the report for machines and for people."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "site": site,
        "planted": [dataclasses.asdict(f) | {"until_s": None} for f in planted],
        "rows": [dataclasses.asdict(r) for r in rows],
    }
    (folder / "report.json").write_text(json.dumps(whole, indent=2) + "\n")
    with (folder / "report.txt").open("w") as file:
        paper = Console(file=file, width=200)
        paper.print(f"Commissioning of {site} on its simulated plant")
        paper.print(table(rows))
        paper.print(verdict(rows))


def _fault(text: str) -> Fault:
    from sim.faults import CATALOGUE, Fault

    kind, _, rest = text.partition(":")
    target, _, value = rest.partition(":")
    if kind not in CATALOGUE:
        raise EmsError(f"--plant-fault: found {kind!r}; allowed: a fault of `ems soak --list`")
    try:
        return Fault(kind=kind, target=target, value=float(value) if value else None)
    except ValueError:
        raise EmsError(f"--plant-fault: found {value!r}; allowed: a number") from None
