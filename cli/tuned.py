"""Options of a run on a site: baselines at their tuned thresholds, planner limited by nodes."""

from pathlib import Path

from sim.harness import SimulateOptions
from sim.steps import StepOptions


def tuned_options(site_file: Path, *, steps: StepOptions) -> SimulateOptions:
    """Options for runs on this site."""
    return SimulateOptions(steps=steps)
