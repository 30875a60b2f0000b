"""A study over seeds: how the EMS does against the better baseline, day by day, losses shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from cli.result_table import Compared, better_baseline, compare, stored_value
from ems.kpi import settle
from ems.site import Site
from sim.result import RunResult

EMS = ("mpc", "mpc_two_stage", "mpc_robust", "perfect")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAgainst:
    """One day of one seed: what the EMS saved against the better baseline of that seed; negative: lost."""

    seed: int
    day: datetime
    saved_money: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedAgainst:
    """One seed: cost of the period, lost load included."""

    seed: int
    ems_cost: float
    baseline: str
    baseline_cost: float
    violations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All seeds of one EMS controller against the baselines."""

    ems: str
    seeds: tuple[SeedAgainst, ...]
    days: tuple[DayAgainst, ...]

    @property
    def worst(self) -> DayAgainst:
        """The day that went worst for the EMS."""
        return min(self.days, key=lambda d: d.saved_money)

    @property
    def lost(self) -> int:
        """Days on which the EMS cost more than the baseline."""
        return sum(1 for d in self.days if d.saved_money < 0.0)


def day_costs(site: Site, run: RunResult) -> list[float]:
    """Cost of each day with lost load; stored energy at one value, the day's own peak prorated [money]."""
    value = stored_value(site, run)
    before_kwh: dict[str, float] = {}
    out = []
    for at, c in run.days:
        table = settle(site, c, start=at, stored_per_kwh=value, before_kwh=before_kwh)
        out.append(table.total_with_voll_cost)
        for month, kwh in c.month_import_kwh.items():
            before_kwh[month] = before_kwh.get(month, 0.0) + kwh
    return out


def study(site: Site, groups: Sequence[Sequence[RunResult]]) -> Study | None:
    """Study of groups of runs, one group a seed; None where no EMS or no baseline was run."""
    seeds: list[SeedAgainst] = []
    days: list[DayAgainst] = []
    name = ""
    for runs in groups:
        compared = compare(site, runs)
        ems = next((c for e in EMS for c in compared if c.run.controller == e), None)
        baselines = [c for c in compared if c.run.controller not in EMS]
        if ems is None or not baselines:
            return None
        rival = better_baseline(baselines)
        name = ems.run.controller
        seeds.append(_seed(ems, rival))
        costs = zip(ems.run.days, day_costs(site, ems.run), day_costs(site, rival.run), strict=True)
        days += [DayAgainst(seed=ems.run.seed, day=at, saved_money=r - e) for (at, _), e, r in costs]
    return Study(ems=name, seeds=tuple(seeds), days=tuple(days))


def _seed(ems: Compared, rival: Compared) -> SeedAgainst:
    return SeedAgainst(
        seed=ems.run.seed,
        ems_cost=ems.costs.total_with_voll_cost,
        baseline=rival.run.controller,
        baseline_cost=rival.costs.total_with_voll_cost,
        violations=ems.costs.violation_count,
    )


def print_study(console: Console, site: Site, found: Study) -> None:
    """One line a seed, then the days."""
    table = Table(title=f"{found.ems} against the better baseline, lost load included", title_justify="left")
    for head in (
        "seed",
        "baseline",
        f"baseline {site.currency}",
        f"{found.ems} {site.currency}",
        "saved",
        "%",
    ):
        table.add_column(head, justify="right")
    for s in found.seeds:
        saved = s.baseline_cost - s.ems_cost
        cells = (
            f"{s.baseline_cost:.0f}",
            f"{s.ems_cost:.0f}",
            f"{saved:+.0f}",
            _percent(saved, s.baseline_cost),
        )
        table.add_row(str(s.seed), s.baseline, *cells)
    console.print(table)
    saved_money = [d.saved_money for d in found.days]
    console.print(
        f"{len(found.days)} days: median saved {median(saved_money):+.1f} {site.currency} a day; worst "
        f"{found.worst.saved_money:+.1f} ({found.worst.day:%Y-%m-%d}, seed {found.worst.seed}); "
        f"{found.lost} days cost more than with the baseline, together "
        f"{sum(m for m in saved_money if m < 0.0):+.1f}"
    )


def _percent(part: float, whole: float) -> str:
    return f"{100.0 * part / whole:+.1f}" if whole > 0.0 else "-"


def save_study(path: Path, found: Study) -> None:
    """Every seed and every day, as JSON."""
    body = asdict(found)
    body["days"] = [asdict(d) | {"day": d.day.isoformat()} for d in found.days]
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
