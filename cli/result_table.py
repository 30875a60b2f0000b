"""The table of a comparison: the same rows for the terminal and for the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dispatch.vocabulary import Source
from ems.kpi import CostTable, settle, stored_value_per_kwh
from ems.site import Site
from sim.result import RunResult

CONTROLLER_NAMES: Mapping[str, str] = {
    "mpc": "EMS",
    "mpc_two_stage": "EMS over scenarios",
    "mpc_robust": "EMS, robust",
    "perfect": "EMS, perfect forecast",
    "rules_tou": "rules by the clock",
    "rules": "plain rules",
}


BY_PLAN = (str(Source.PLAN), str(Source.LAST_PLAN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: a number per run, None where there is none; `better` says which way is good, if any."""

    label: str
    unit: str
    values: tuple[float | None, ...]  # in `unit`; ratio
    digits: int = 0
    better: str = "low"  # low | high | none
    indent: bool = False
    strong: bool = False
    note: str = ""

    def best(self) -> frozenset[int]:
        """Indices of the runs that are better than another one."""
        known = [v for v in self.values if v is not None]
        if self.better == "none" or len(known) < 2 or max(known) == min(known):
            return frozenset()
        top = min(known) if self.better == "low" else max(known)
        half_digit = 0.5 * 10.0**-self.digits
        near = {i for i, v in enumerate(self.values) if v is not None and abs(v - top) < half_digit}
        return frozenset(near) if len(near) < len(known) else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run with its money."""

    run: RunResult
    costs: CostTable

    @property
    def name(self) -> str:
        """How the run is called in tables."""
        return CONTROLLER_NAMES.get(self.run.controller, self.run.controller)


def compare(site: Site, runs: Sequence[RunResult]) -> tuple[Compared, ...]:
    """Settle runs of the same period with one value of stored energy."""
    value = stored_value(site, runs[0])
    return tuple(
        Compared(run=r, costs=settle(site, r.counters, start=r.start, stored_per_kwh=value)) for r in runs
    )


def stored_value(site: Site, run: RunResult) -> float:
    """Value of energy left in the batteries, at told prices where there are any [money per kWh]."""
    return stored_value_per_kwh(site, run.end) if run.priced is None else run.priced.stored_per_kwh


def better_baseline(baselines: Sequence[Compared]) -> Compared:
    """The one with the lower cost including lost load: the only fair rival."""
    return min(baselines, key=lambda c: c.costs.total_with_voll_cost)


def result_rows(compared: Sequence[Compared]) -> list[Row]:
    """Every row of the table, in reading order."""
    return [
        *_money_rows(compared),
        *_energy_rows(compared),
        *_genset_rows(compared),
        *_violation_rows(compared),
        *_plan_rows(compared),
    ]


def _row(
    compared: Sequence[Compared],
    label: str,
    unit: str,
    value: Callable[[Compared], float | None],
    **options: object,
) -> Row:
    return Row(label=label, unit=unit, values=tuple(value(c) for c in compared), **options)  # type: ignore[arg-type]


def _if_any(*rows: Row) -> list[Row]:
    """Rows of what this tariff has; a row of nothing but zeros is left out."""
    return [r for r in rows if any(v is not None and v != 0.0 for v in r.values)]


def _money_rows(compared: Sequence[Compared]) -> list[Row]:
    money = compared[0].costs.currency
    demand = compared[0].costs.demand_label
    part: dict[str, object] = {"digits": 1, "indent": True}
    return [
        _row(
            compared,
            "Cost, all cash and stored energy",
            money,
            lambda c: c.costs.total_cost,
            digits=1,
            strong=True,
        ),
        _row(
            compared,
            "energy less export",
            money,
            lambda c: c.costs.energy_cost - c.costs.export_revenue,
            **part,
        ),
        *_by_rule_rows(compared),
        _row(compared, demand, money, lambda c: c.costs.demand_cost, **part),
        _row(compared, "diesel", money, lambda c: c.costs.diesel_cost, **part),
        _row(compared, "genset starts and hours", money, lambda c: c.costs.start_cost, **part),
        *_if_any(
            _row(compared, "energy blocks", money, lambda c: c.costs.block_cost, **part),
            _row(compared, "power factor and minimum charge", money, lambda c: c.costs.extra_cost, **part),
            _row(compared, "carbon", money, lambda c: c.costs.carbon_cost, **part),
        ),
        _row(compared, "fixed charge", money, lambda c: c.costs.fixed_cost, **part),
        _row(
            compared,
            "energy missing in the batteries at the end",
            money,
            lambda c: c.costs.stored_cost,
            note="negative: more is stored than at the start",
            **part,
        ),
        _row(compared, "Value of lost load", money, lambda c: c.costs.voll_cost, digits=1),
        _row(
            compared,
            "Cost including lost load",
            money,
            lambda c: c.costs.total_with_voll_cost,
            digits=1,
            strong=True,
        ),
    ]


def _by_rule_rows(compared: Sequence[Compared]) -> list[Row]:
    """How much of the energy and its money rests on the tariff where an input should have told prices."""
    if all(c.run.priced is None for c in compared):
        return []
    money = compared[0].costs.currency
    note = "no input told their price; part of energy less export"
    part: dict[str, object] = {"digits": 1, "indent": True, "better": "none"}
    return [
        _row(compared, "of it at the tariff instead", money, lambda c: c.costs.rule_cost, note=note, **part),
        _row(compared, "energy at the tariff instead", "kWh", lambda c: c.costs.rule_kwh, **part),
    ]


def _energy_rows(compared: Sequence[Compared]) -> list[Row]:
    tiers = sorted(compared[0].costs.unserved_tier_kwh)
    return [
        *(
            _row(
                compared,
                f"Unserved energy, tier {t}",
                "kWh",
                lambda c, t=t: c.costs.unserved_tier_kwh[t],  # type: ignore[misc]
                digits=1,
            )
            for t in tiers
        ),
        _row(compared, "Bus without voltage", "s", lambda c: c.run.counters.bus_dead_s, digits=1),
        _row(compared, "Peak import", "kW", lambda c: c.costs.peak_import_kw, digits=1),
        _row(compared, "Imported energy", "kWh", lambda c: c.run.counters.import_kwh, better="none"),
        _row(
            compared,
            "Renewable share",
            "%",
            lambda c: None if c.costs.renewable_ratio is None else 100.0 * c.costs.renewable_ratio,
            digits=1,
            better="high",
        ),
        _row(compared, "PV curtailed", "kWh", lambda c: c.costs.curtailed_kwh),
        _row(compared, "Battery throughput", "kWh", lambda c: c.costs.bess_throughput_kwh, better="none"),
        *_wear_rows(compared),
    ]


def _wear_rows(compared: Sequence[Compared]) -> list[Row]:
    """What cycles by depth wore, where the site has a battery that wears so."""
    if not any(c.run.counters.bess_life_used_ratio for c in compared):
        return []
    money = compared[0].costs.currency
    note = "no cash, in no total; cycles counted by depth on the true state of charge"
    return [_row(compared, "Battery wear", money, lambda c: c.costs.wear_cost, note=note)]


def _genset_rows(compared: Sequence[Compared]) -> list[Row]:
    return [
        _row(compared, "Diesel", "L", lambda c: c.costs.fuel_l, digits=1),
        _row(compared, "Genset hours", "h", lambda c: sum(c.costs.run_h.values()), digits=2),
        _row(compared, "Genset starts", "", lambda c: float(sum(c.costs.starts.values()))),
        _row(
            compared, "Failed starts", "", lambda c: float(sum(c.costs.failed_starts.values())), better="none"
        ),
    ]


OVER_CAP = ("import_over_cap", "export_over_cap")


def _violation_rows(compared: Sequence[Compared]) -> list[Row]:
    kinds = sorted({k for c in compared for k, n in c.costs.violations.items() if n})
    return [
        _row(
            compared, "Physics steps in violation", "", lambda c: float(c.costs.violation_count), strong=True
        ),
        *(
            _row(
                compared,
                kind.replace("_", " "),
                "s",
                lambda c, k=kind: float(c.run.violation_s.get(k, 0.0)),  # type: ignore[misc]
                digits=1,
                indent=True,
            )
            for kind in kinds
        ),
        *(
            _row(
                compared,
                f"{kind.replace('_', ' ')}, by at most",
                "kW",
                lambda c, k=kind: float(c.run.violation_max.get(k, 0.0)),  # type: ignore[misc]
                digits=1,
                indent=True,
            )
            for kind in OVER_CAP
            if kind in kinds
        ),
    ]


def _plan_rows(compared: Sequence[Compared]) -> list[Row]:
    def made(value: Callable[[RunResult], float]) -> Callable[[Compared], float | None]:
        return lambda c: value(c.run) if c.run.plans.count else None

    none: dict[str, object] = {"better": "none"}
    return [
        _row(compared, "Plans made", "", made(lambda r: float(r.plans.count)), **none),
        _row(compared, "time they were followed", "%", made(_followed_percent), indent=True, **none),
        _row(
            compared,
            "planning time, median",
            "s",
            made(lambda r: r.plans.p50_s),
            digits=2,
            indent=True,
            **none,
        ),
        _row(
            compared,
            "planning time, longest",
            "s",
            made(lambda r: r.plans.max_s),
            digits=2,
            indent=True,
            **none,
        ),
    ]


def _followed_percent(run: RunResult) -> float:
    """Share of the time in which a plan decided, the newest or the one before [%]."""
    codes = [i for i, name in enumerate(run.edge_sources) if name in BY_PLAN]
    by_plan = np.isin(run.edge.column("source"), codes)
    return 100.0 * float(run.edge.dt_s[by_plan].sum() / run.edge.dt_s.sum())


def number(value: float | None, digits: int) -> str:
    """A number as a reader wants it: thousands apart, a true minus, a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.replace("-", "")
    return text.replace("-", "−").replace(",", "\u202f")
