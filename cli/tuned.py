"""Options of a run on a site: which thresholds its baselines have, and how they are told."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from ems.rules import ISLAND, TIED, TOU, RulesParams, TouParams, soc_faults, windows_of
from ems.site import Site
from sim.harness import SimulateOptions
from sim.steps import StepOptions
from sim.tune import load_tuned

TUNED_FILE = "baselines.json"


def tuned_file(site_file: Path) -> Path:
    """Where the thresholds of a site's baselines lie: beside the site file."""
    return site_file.with_name(TUNED_FILE)


def tuned_options(site_file: Path, site: Site, *, steps: StepOptions) -> SimulateOptions:
    """Options for runs on this site.

    Baselines have the thresholds of the site file; where it has none, those found by a search; else the
    defaults. The rules that a plan falls back on are always those of the site file.
    """
    path = tuned_file(site_file)
    if site.rules is not None or not path.is_file():
        return SimulateOptions(steps=steps)
    tuned = load_tuned(path)
    return SimulateOptions(steps=steps, rules=tuned.rules, tou=tuned.tou)


def thresholds_text(site_file: Path, site: Site) -> str:
    """Where the thresholds of the baselines come from."""
    path = tuned_file(site_file)
    if site.rules is not None:
        return "dispatch.rules of the site file"
    return f"found on {load_tuned(path).period}, {path.name}" if path.is_file() else "defaults"


def site_block(params: TouParams, site: Site) -> str:
    """`dispatch.rules` as it is written in the site file.

    Groups of thresholds that no one number can tell for all batteries are left out: they are scaled there.
    """
    windows, left_out = windows_of(site.bess), set[str]()
    for group in (ISLAND, (*TIED, *TOU)):
        if any(True for _ in soc_faults(params, windows, group)):
            left_out |= {*group}
    lines = ["dispatch:", "  rules:"]
    lines += [f"    {name}: {value}" for name, value in _told(params.base, left_out | {"base"})]
    lines += ["    tou:", *(f"      {name}: {value}" for name, value in _told(params, left_out | {"base"}))]
    return "\n".join(lines)


def _told(params: RulesParams | TouParams, left_out: set[str]) -> Iterator[tuple[str, str]]:
    """Fields as the site file writes them; what is None is left out there."""
    for f in fields(params):
        value = getattr(params, f.name)
        if f.name in left_out or value is None:
            continue
        yield f.name, str(value).lower() if isinstance(value, bool) else f"{value:g}"
