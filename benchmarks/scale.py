"""How much is measured, and on what: windows of problem P, options, and where this ran."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from benchmarks import rivals
from benchmarks.problem_p import Draw, draw
from optimizer import PlannerOptions

Blocks = tuple[tuple[float, int], ...]
VARIABLE: Blocks = ((900.0, 24), (1800.0, 12), (3600.0, 36))
DAYS = (
    1,
    9,
    17,
    24,
    32,
    45,
    59,
    72,
    86,
    101,
    115,
    128,
    143,
    157,
    172,
    190,
    208,
    225,
    243,
    262,
)  # of the year


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured. `limit_s` ends a solve on the wall clock; what ends so is said."""

    windows: int
    limit_s: float
    long: bool  # steps of five minutes, four days, eight gensets, ten scenarios
    steps: int = 96  # of the window for formulation, tools and gensets
    tools: tuple[str, ...] = tuple(rivals.TOOLS)


FULL = Scale(windows=5, limit_s=60.0, long=True)
QUICK = Scale(windows=2, limit_s=20.0, long=False)
SMALLEST = Scale(windows=1, limit_s=10.0, long=False, steps=16, tools=())


def machine() -> None:
    """Where this ran."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("highspy", "numpy", "scipy"))
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        model = names[0] if names else model
    where = f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{where}; Python {platform.python_version()}, {versions}")


def draws(scale: Scale, blocks: Blocks, gensets: int = 3, count: int = 0) -> list[Draw]:
    """Windows of different days, hours, seeds and gensets running before."""
    return [
        draw(
            24 * DAYS[k] + (6 + 7 * k) % 24, blocks, gensets, seed=7 + k % 3, running=k % min(3, gensets + 1)
        )
        for k in range(count or scale.windows)
    ]


def options(blocks: Blocks, gap: float, limit_s: float, integral_h: float = 24.0) -> PlannerOptions:
    """The planner's options on these steps."""
    return PlannerOptions(
        gap_ratio=gap, node_limit=None, time_limit_s=limit_s, blocks=blocks, integral_h=integral_h
    )
