"""`ems report DIR`: the HTML report of a folder of results."""

import argparse
from pathlib import Path

from cli.report_data import ReportInput, load_meta, load_runs, report_input
from ems.clock import SystemClock

HELP = "write the HTML report of stored runs: one file that needs no network"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems report`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of results, as written by a run")
    parser.add_argument("--site", help="site name or file (default: the one the results name)")
    parser.add_argument("--out", type=Path, help="where to write (default: DIR/report.html)")


def run(args: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from cli._sites import find_site
    from ems.site_schema import load_site

    meta = load_meta(args.folder)
    site = load_site(find_site(meta.site_file if args.site is None else args.site))
    data = report_input(site, load_runs(args.folder), meta, SystemClock().now())
    out = args.folder / "report.html" if args.out is None else args.out
    write_report(out, data)
    print(f"written: {out}")
    return 0


def write_report(path: Path, data: ReportInput) -> Path:
    """Write the report, whole or not at all, and return its path."""
    from cli.report_page import report_html

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(report_html(data), encoding="utf-8")
    part.replace(path)
    return path
