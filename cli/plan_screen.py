"""A plan in the terminal: its steps, its money, and why."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from ems.explanation import Explanation, ReasonCode, SetpointWhy
from ems.plan import Plan
from ems.site import GridMode, Site

SMALL_KW = 0.05
MODES = {GridMode.GRID_TIED: "tied", GridMode.ISLANDED: "island"}
QUIET = (ReasonCode.UNAVAILABLE, ReasonCode.COMMITMENT)  # nothing to decide


def show(console: Console, site: Site, plan: Plan, repairs: tuple[str, ...]) -> None:
    """Print head, steps, money and notes."""
    solve = plan.solve
    gap = "not proven" if solve.gap_ratio is None else f"gap {solve.gap_ratio:.2%}"
    console.print(
        f"[bold]{plan.plan_id}[/bold]: {plan.label}, {gap}, solved in {solve.solve_s:.2f} s; "
        f"valid until {_local(site, plan.valid_until)}, "
        f"commitment integral until {_local(site, plan.integral_until)}"
    )
    console.print(_steps(site, plan))
    console.print(_money(site, plan))
    for text in dict.fromkeys((*repairs, *plan.notes)):  # those of the forecast are in both
        console.print(f"note: {text}")
    for line in input_lines(plan):
        console.print(f"input: {line}")


def input_lines(plan: Plan) -> Iterator[str]:
    """A line for each version from elsewhere that a plan rests on."""
    for use in plan.inputs:
        times = f"issued {use.issued_at:%Y-%m-%d %H:%M}, arrived {use.arrived_at:%Y-%m-%d %H:%M} UTC"
        yield f"{use.input} version {use.version}, {times}, {', '.join(use.series)}, sha256 {use.sha256[:16]}"


def _local(site: Site, when: datetime) -> str:
    return when.astimezone(ZoneInfo(site.timezone)).strftime("%a %H:%M")


def _steps(site: Site, plan: Plan) -> Table:
    title = f"plan of {site.name}, local time, mean kW per step"
    table = Table(title=title, title_justify="left", padding=(0, 1, 0, 0))  # two gensets fit into 80 columns
    heads = [
        "from",
        "mode",
        "price",
        "load",
        "PV",
        "grid",
        *plan.bess_p_kw,
        "SoC %",
        *plan.genset_p_kw,
        "shed",
    ]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=head in ("from", "mode", "price"))
    for t, start in enumerate(plan.grid.starts()):
        table.add_row(
            _local(site, start),
            MODES.get(plan.grid_mode[t], plan.grid_mode[t]),
            f"{plan.import_per_kwh[t]:.3f}",
            f"{sum(s[t] for s in plan.load_kw.values()):.0f}",
            f"{sum(s[t] for s in plan.pv_p_kw.values()):.0f}",
            f"{plan.grid_p_kw[t]:.0f}",
            *[f"{s[t]:.0f}" for s in plan.bess_p_kw.values()],
            "/".join(f"{100 * s[t]:.0f}" for s in plan.bess_soc_end.values()),
            *[f"{s[t]:.0f}" if plan.genset_on[g][t] > 0.01 else "-" for g, s in plan.genset_p_kw.items()],
            f"{sum(s[t] for s in plan.shed_kw.values()):.0f}",
        )
    return table


def _money(site: Site, plan: Plan) -> Table:
    table = Table(title=f"objective over the horizon, {site.currency}", title_justify="left")
    table.add_column("term")
    table.add_column("money", justify="right")
    for name, value in plan.cost_terms.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}")
    table.add_row("[bold]sum[/bold]", f"[bold]{sum(plan.cost_terms.values()):,.2f}[/bold]")
    return table


def show_why(console: Console, site: Site, plan: Plan, explanation: Explanation) -> None:
    """Runs, limits in conflict, worths, and what is decided while the plan is valid; JSON holds the rest."""
    for conflict in explanation.conflicts:
        console.print(f"[bold]missed[/bold]: {conflict.sentence}", highlight=False)
    for run in explanation.commitments:
        console.print(f"[bold]{run.code}[/bold]: {run.sentence}", highlight=False)
    console.print(_worths(site, explanation))
    told = Table(title=f"why, until {_local(site, plan.valid_until)}", title_justify="left", show_lines=True)
    told.add_column("reason")
    told.add_column("setpoint", ratio=1)
    for why in explanation.setpoints:
        if why.start < plan.valid_until and _decided(plan, why):
            told.add_row(str(why.code), why.sentence)
    console.print(told)
    for note in explanation.notes:
        console.print(f"note: {note}")
    console.print(
        f"explained until {_local(site, explanation.until)}: {len(explanation.setpoints)} setpoints "
        f"in {explanation.took_s:.0f} s by solving {explanation.solves} times"
    )


def _decided(plan: Plan, why: SetpointWhy) -> bool:
    """Whether it is worth a line: a feeder that is served and sun that is used are not."""
    served = why.quantity == "shed_kw" and why.p_kw < SMALL_KW
    there = plan.pv_available_kw.get(why.asset)
    used = there is not None and there[why.step] - why.p_kw < SMALL_KW
    return why.code not in QUIET and not served and not used


def _worths(site: Site, explanation: Explanation) -> Table:
    told = Table(title="one unit more of a limit", title_justify="left")
    for head in ("limit", "unit", "step from", f"would save, {site.currency}"):
        told.add_column(head, justify="right" if head.startswith("would") else "left")
    starts = {w.step: w.start for w in explanation.setpoints}
    for worth in explanation.worths:
        when = "all" if worth.step is None else _local(site, starts[worth.step])
        told.add_row(worth.key, worth.unit, when, f"{worth.saving_cost + 0.0:.4f}")
    return told
