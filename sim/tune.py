"""Thresholds of the rules baselines, searched on the month before: a weak baseline would be a lie.

Coordinate search: from what the site has, one threshold after the other takes the best of a few values while
the rest stands still, until a whole round changes nothing. Every trial is a whole run of the production edge,
and every one of them could stand in the site file.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from dispatch.controllers.build import rules_params
from ems.errors import DataError
from ems.kpi import settle
from ems.rules import (
    ISLAND,
    SOC_HIGH,
    SOC_LOW,
    TIED,
    TOU,
    RulesParams,
    TouParams,
    fitted_all,
    into_window,
    minimum_ratios,
    ratio_faults,
    shared,
    soc_faults,
    windows_of,
)
from sim.harness import ControllerName, SimulateOptions, simulate
from sim.scenario import Scenario

FORMAT = 1
ROUNDS_MAX = 2
Value = float | bool | None

# Candidates by threshold; a name with "base." is one of the rules below the time-of-use layer.
GRID_RULES: Mapping[str, tuple[Value, ...]] = {
    "soc_floor": (0.2, 0.4, 0.6),
    "soc_recharge": (0.3, 0.5, 0.7),
    "grid_charge_ratio": (0.15, 0.3, 0.6),
    "soc_start": (0.15, 0.25, 0.4),
    "soc_stop": (0.5, 0.65, 0.85),
    "genset_load_ratio": (0.7, 0.8, 0.9),
    "charge_with_genset": (True, False),
}
GRID_TOU: Mapping[str, tuple[Value, ...]] = {
    "discharge_soc": (0.2, 0.4, 0.6),
    "mid_soc": (0.3, 0.45, 0.6, 0.8),
    "charge_soc": (0.5, 0.65, 0.8, 0.9),
    "charge_power_ratio": (0.2, 0.4, 0.7),
    "outage_soc": (0.75, 0.9, 0.95),
    "outage_lead_h": (3.0, 6.0, 12.0),
    "peak_soc": (0.15, 0.25, 0.4),
    "base.soc_start": (0.15, 0.25, 0.4),
    "base.soc_stop": (0.5, 0.65, 0.85),
    "base.genset_load_ratio": (0.7, 0.8, 0.9),
    "base.charge_with_genset": (True, False),
}
PEAK_RATIOS = (0.7, 0.8, 0.9, 0.97)  # of the contract's cap, beside None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one set of thresholds costs on the month."""

    controller: str
    rules: RulesParams
    tou: TouParams
    cost: float  # money: all cash, stored energy and lost load


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The best thresholds found, and how they were found."""

    site: str
    period: str  # start and end of the month they were found on
    seed: int
    rules: RulesParams
    tou: TouParams
    rules_cost: float
    rules_default_cost: float
    tou_cost: float
    tou_default_cost: float
    trials: int
    labels: Mapping[str, str]


def cost_of(scenario: Scenario, controller: str, rules: RulesParams, tou: TouParams) -> Trial:
    """Run one set of thresholds through the month."""
    options = SimulateOptions(rules=rules, tou=tou, trace_s=None)
    result = simulate(scenario, controller, options=options)
    value = None if result.priced is None else result.priced.stored_per_kwh
    cost = settle(scenario.site, result.counters, start=scenario.start, stored_per_kwh=value)
    return Trial(controller=controller, rules=rules, tou=tou, cost=cost.total_with_voll_cost)


def tune(
    scenario: Scenario,
    *,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Search the thresholds of both baselines on a scenario of about a month.

    Parameters
    ----------
    executor : runs the trials of one threshold side by side; None: one after the other.
    progress : told in words what has been found.
    """
    cap_kw = scenario.site.grid.p_import_kw_max
    search = _Search(scenario, executor, progress)
    rules = search.run(ControllerName.RULES, GRID_RULES)
    peaks: tuple[Value, ...] = (None, *(r * cap_kw for r in PEAK_RATIOS))
    tou = search.run(ControllerName.RULES_TOU, {"peak_shave_kw": peaks, **GRID_TOU})
    return Tuned(
        site=scenario.site.name,
        period=f"{scenario.start.isoformat()} to {scenario.end.isoformat()}",
        seed=scenario.seed,
        rules=rules[1].rules,
        tou=tou[1].tou,
        rules_cost=rules[1].cost,
        rules_default_cost=rules[0].cost,
        tou_cost=tou[1].cost,
        tou_default_cost=tou[0].cost,
        trials=search.trials,
        labels=scenario.labels,
    )


class _Search:
    def __init__(
        self, scenario: Scenario, executor: Executor | None, progress: Callable[[str], None]
    ) -> None:
        self._scenario, self._executor, self._progress = scenario, executor, progress
        self._site, self._windows = scenario.site, windows_of(scenario.site.bess)
        self._shared, self._minimum = shared(self._windows), minimum_ratios(scenario.site.gensets)
        self.trials = 0

    def run(self, controller: ControllerName, grid: Mapping[str, Sequence[Value]]) -> tuple[Trial, Trial]:
        """What the site has, and the best found from there."""
        start = fitted_all(rules_params(self._site), self._windows)
        first = best = self._costs([(controller, start.base, start)])[0]
        for _ in range(ROUNDS_MAX):
            before = best
            for name, values in grid.items():
                found = self._costs([(controller, *c) for c in self._others(best, name, values)])
                best = min([best, *found], key=lambda t: t.cost)
                self._progress(f"{controller}: {name} = {_value(best, name)}, cost {best.cost:.1f}")
            if best is before:
                break
        return first, best

    def _others(
        self, best: Trial, name: str, values: Sequence[Value]
    ) -> Iterator[tuple[RulesParams, TouParams]]:
        """Other values that the site file takes; one outside the batteries' window is scaled into it."""
        low, high = self._shared
        is_soc = name.removeprefix("base.") in (*ISLAND, *TIED, *TOU)
        for v in values if low < high or not is_soc else ():
            tries = (v, into_window(v, low, high)) if is_soc and v is not None else (v,)
            for t in tries:
                changed = _changed(best, name, t, high - low)
                if self._takes(best.controller, *changed):
                    if t != _value(best, name):
                        yield changed
                    break

    def _takes(self, controller: str, rules: RulesParams, tou: TouParams) -> bool:
        """Whether the site file takes these, as far as one set of thresholds fits all batteries."""
        by_clock = controller == ControllerName.RULES_TOU
        tried = tou if by_clock else replace(tou, base=rules)
        low, high = self._shared
        names = (*ISLAND, *TIED, *TOU) if by_clock else (*ISLAND, *TIED)
        wrong = list(soc_faults(tried, self._windows, names)) if low < high else []
        return not wrong and not list(ratio_faults(tried, self._minimum))

    def _costs(self, wanted: Sequence[tuple[ControllerName, RulesParams, TouParams]]) -> list[Trial]:
        self.trials += len(wanted)
        if self._executor is None:
            return [cost_of(self._scenario, *w) for w in wanted]
        return [f.result() for f in [self._executor.submit(cost_of, self._scenario, *w) for w in wanted]]


def _value(trial: Trial, name: str) -> Value:
    owner, field = _owner(trial, name)
    value: Value = getattr(owner, field)
    return value


def _owner(trial: Trial, name: str) -> tuple[RulesParams | TouParams, str]:
    if name.startswith("base."):
        return trial.tou.base, name.removeprefix("base.")
    if trial.controller == ControllerName.RULES_TOU:
        return trial.tou, name
    return trial.rules, name


def _changed(trial: Trial, name: str, value: Value, width: float) -> tuple[RulesParams, TouParams]:
    """One value changed; `width` is that of the window of the batteries [SoC]."""
    if name.startswith("base."):
        base = _consistent(replace(trial.tou.base, **{name.removeprefix("base."): value}), width)  # type: ignore[arg-type]
        return trial.rules, replace(trial.tou, base=base)
    if trial.controller == ControllerName.RULES_TOU:
        return trial.rules, replace(trial.tou, **{name: value})  # type: ignore[arg-type]
    return _consistent(replace(trial.rules, **{name: value}), width), trial.tou  # type: ignore[arg-type]


def _consistent(rules: RulesParams, width: float) -> RulesParams:
    """Ladders must stay ladders: what is recharged to lies above the floor, the stop above the start."""
    narrow = min(1.0, width / (SOC_HIGH - SOC_LOW))
    return replace(
        rules,
        soc_recharge=max(rules.soc_recharge, rules.soc_floor + 0.05 * narrow),
        soc_stop=max(rules.soc_stop, rules.soc_start + 0.1 * narrow),
    )


def save_tuned(path: Path, tuned: Tuned) -> None:
    """Write thresholds and provenance as JSON, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"format": FORMAT} | asdict(tuned), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def load_tuned(path: Path) -> Tuned:
    """Read what `save_tuned` wrote.

    Raises
    ------
    DataError : it is not such a file, or holds thresholds that these controllers do not have.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format", None) != FORMAT:
            raise DataError(f"{path}: thresholds of format {FORMAT} are needed")
        known = {f.name for f in fields(Tuned)}
        base = RulesParams(**data["tou"].pop("base"))
        data["tou"] = TouParams(base=base, **data["tou"])
        data["rules"] = RulesParams(**data["rules"])
        return Tuned(**{k: v for k, v in data.items() if k in known})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no thresholds: {type(error).__name__} {error}") from error
