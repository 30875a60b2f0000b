"""The search of thresholds: it finds the bottom of a known valley, and its file can be read again."""

from dataclasses import replace

import pytest

from dispatch.controllers.rules import RulesParams
from dispatch.controllers.rules_tou import TouParams
from ems.errors import DataError
from sim import tune as tuning
from sim.tune import Trial, load_tuned, save_tuned, tune
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
