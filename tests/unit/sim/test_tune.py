"""The search of thresholds: it finds the bottom of a known valley, and its file can be read again."""

from dataclasses import replace

import pytest

from ems.errors import DataError
from ems.rules import (
    ISLAND,
    TIED,
    TOU,
    RulesParams,
    TouParams,
    minimum_ratios,
    ratio_faults,
    soc_faults,
    windows_of,
)
from sim import tune as tuning
from sim.tune import Trial, load_tuned, save_tuned, tune
from tests.builders import bess, site
from tests.unit.sim.sim_builders import scenario


def valley(_: object, controller: str, rules: RulesParams, tou: TouParams) -> Trial:
    """Cheapest at a floor of 20 %, an evening reserve of 95 % and a peak threshold of 315 kW."""
    cost = 100.0 + 50.0 * abs(rules.soc_floor - 0.2)
    if controller == "rules_tou":
        cost = 90.0 + 30.0 * abs(tou.outage_soc - 0.95) + 9.0 * abs(tou.base.soc_start - 0.15)
        cost += 20.0 if tou.peak_shave_kw is None else 0.05 * abs(tou.peak_shave_kw - 315.0)
    return Trial(controller=controller, rules=rules, tou=tou, cost=cost)


@pytest.fixture
def tuned(monkeypatch):
    monkeypatch.setattr(tuning, "cost_of", valley)
    return tune(scenario(1.0))


def test_tune_coordinate_search_finds_the_bottom(tuned):
    assert tuned.rules.soc_floor == 0.2
    assert tuned.tou.outage_soc == 0.95
    assert tuned.tou.base.soc_start == 0.15
    assert tuned.tou.peak_shave_kw == pytest.approx(315.0)
    assert tuned.rules_cost < tuned.rules_default_cost
    assert tuned.tou_cost < tuned.tou_default_cost


def test_tune_ladders_stay_ladders(monkeypatch):
    seen: list[RulesParams] = []

    def cost(_: object, controller: str, rules: RulesParams, tou: TouParams) -> Trial:
        seen.extend([rules, tou.base])
        return Trial(controller=controller, rules=rules, tou=tou, cost=-rules.soc_floor - tou.base.soc_start)

    monkeypatch.setattr(tuning, "cost_of", cost)
    tune(scenario(1.0))
    assert all(r.soc_floor < r.soc_recharge and r.soc_start < r.soc_stop for r in seen)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.95), (0.2, 0.6), (0.5, 0.56)])
def test_tune_tries_only_what_the_site_file_takes(monkeypatch, low, high):
    """Outside the window of the battery the candidates are scaled into it, and the search still has some."""
    own = bess(soc_min=low, soc_max=high, soc_taper_low=low, soc_taper_high=high)
    plant = replace(site(), bess=(own,))
    seen: list[tuple[str, TouParams]] = []

    def cost(_: object, controller: str, rules: RulesParams, tou: TouParams) -> Trial:
        seen.append((controller, tou if controller == "rules_tou" else replace(tou, base=rules)))
        return Trial(controller=controller, rules=rules, tou=tou, cost=rules.soc_floor + tou.outage_soc)

    monkeypatch.setattr(tuning, "cost_of", cost)
    tune(scenario(1.0, plant=plant))
    windows, minimum = windows_of(plant.bess), minimum_ratios(plant.gensets)
    for _, tried in seen:
        assert not list(soc_faults(tried, windows, (*ISLAND, *TIED, *TOU)))
        assert not list(ratio_faults(tried, minimum))
    assert len({t.base.soc_start for _, t in seen}) > 1
    assert len({t.outage_soc for _, t in seen}) > 1


def test_tune_begins_at_the_rules_of_the_site(monkeypatch):
    own = TouParams(base=RulesParams(soc_start=0.3), mid_soc=0.7)
    seen: list[tuple[RulesParams, TouParams]] = []

    def cost(_: object, controller: str, rules: RulesParams, tou: TouParams) -> Trial:
        seen.append((rules, tou))
        return Trial(controller=controller, rules=rules, tou=tou, cost=0.0)

    monkeypatch.setattr(tuning, "cost_of", cost)
    tune(scenario(1.0, plant=replace(site(), rules=own)))
    assert seen[0] == (own.base, own)


def test_save_tuned_loaded_again_is_the_same(tuned, tmp_path):
    save_tuned(tmp_path / "baselines.json", tuned)
    assert load_tuned(tmp_path / "baselines.json") == tuned


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "tou": {"base": {"x": 1}}}']
)
def test_load_tuned_something_else_is_refused(tmp_path, text):
    (tmp_path / "baselines.json").write_text(text)
    with pytest.raises(DataError, match="baselines"):
        load_tuned(tmp_path / "baselines.json")


def test_cost_of_runs_the_production_edge():
    base = scenario(2.0, pv_kw=0.0)
    trial = tuning.cost_of(base, "rules", RulesParams(), TouParams())
    dearer = tuning.cost_of(
        replace(base, load_kw={f: replace(s, values=1.1 * s.values) for f, s in base.load_kw.items()}),
        "rules",
        RulesParams(),
        TouParams(),
    )
    assert 0.0 < trial.cost < dearer.cost
