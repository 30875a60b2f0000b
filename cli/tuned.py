"""Options of a run on a site: baselines at their tuned thresholds, planner limited by nodes."""

from pathlib import Path

from sim.harness import SimulateOptions
from sim.steps import StepOptions
from sim.tune import load_tuned

TUNED_FILE = "baselines.json"


def tuned_file(site_file: Path) -> Path:
    """Where the thresholds of a site's baselines lie: beside the site file."""
    return site_file.with_name(TUNED_FILE)


def tuned_options(site_file: Path, *, steps: StepOptions) -> SimulateOptions:
    """Options for runs on this site; the defaults of the baselines where none were searched."""
    path = tuned_file(site_file)
    if not path.is_file():
        return SimulateOptions(steps=steps)
    tuned = load_tuned(path)
    return SimulateOptions(steps=steps, rules=tuned.rules, tou=tuned.tou)
