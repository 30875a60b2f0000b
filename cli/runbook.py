"""`ems runbook`: what is deployed at a plant, as one document to print and to keep beside the cabinet."""

import argparse
from pathlib import Path

HELP = """Write the runbook of a plant: every connection, protocol and cadence, every register map with the
requests of a poll, what may be written inside which bounds, what happens when something fails, limits,
people, alarms, and where time stamps come from. Markdown, or one HTML file that needs no network."""
FORMS = (".md", ".html")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("site", help="site file, its folder, or the name of a shipped site (demo)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .md or .html file; without: the screen")


def run(args: argparse.Namespace) -> int:
    """Print or write it."""
    from cli._sites import find_site
    from cli.runbook_text import runbook
    from connectors.problems import connection_problems
    from connectors.stores.permit import file_hashes
    from ems.errors import BadValue, ConfigError
    from ems.site_schema import load_site

    out: Path | None = args.out
    if out is not None and out.suffix not in FORMS:
        raise BadValue(f"--out {out}: ends with {out.suffix or 'nothing'!r}; allowed: {', '.join(FORMS)}")
    path = find_site(args.site)
    site = load_site(path)
    if refused := connection_problems(site):
        raise ConfigError(refused)
    text = runbook(site, file_hashes(path))
    if out is None:
        print(text)
        return 0
    if out.suffix == ".html":
        from cli.runbook_page import page_of

        text = page_of(text)
    out.write_text(text, encoding="utf-8")
    print(f"runbook: {out}")
    return 0
