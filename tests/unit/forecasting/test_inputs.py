"""What others know is laid over our own forecast: newest issue first, no further than it reaches."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.announced import announced
from ems.contracts import CreditBasis, ExportCredit
from ems.forecast import Forecast
from ems.input_rules import house_provider
from ems.inputs import Certainty, InputKind, InputParams, PriceTerms
from ems.site import Site
from ems.timegrid import TimeGrid
from forecasting.history import ForecastOptions, HistoryForecaster
from forecasting.inputs import OWN_H, InputForecaster
from tests.builders import T0, site
from tests.unit.forecasting.knowing import Known, outage
from tests.unit.forecasting.test_history import histories

AT = T0 + timedelta(days=30, hours=9)
HOUR = timedelta(hours=1)
GRID = TimeGrid.blocks(AT, ((900.0, 8), (3600.0, 10)))
SHORT = TimeGrid.uniform(AT, 900.0, 8)


def one(kind: str, name: str | None = None, **changes: Any) -> InputParams:
    found = InputKind(kind)
    made = InputParams(id=name or kind, kind=found, provider=house_provider(found), folder="x")
    return replace(made, **changes)


def of(*inputs: InputParams) -> Site:
    return replace(site(), inputs=inputs)


def own(plant: Site, scenarios: int = 0) -> HistoryForecaster:
    load, pv = histories()
    return HistoryForecaster(plant, load, pv, options=ForecastOptions(scenarios=scenarios))


def seen(known: Known, *inputs: InputParams, at=AT, grid: TimeGrid = GRID, scenarios: int = 0) -> Forecast:
    plant = of(*inputs)
    return InputForecaster(plant, own(plant, scenarios), known).forecast(grid, at)


def same(a: Forecast, b: Forecast) -> bool:
    pairs = [(a.import_per_kwh, b.import_per_kwh), (a.export_per_kwh, b.export_per_kwh)]
    pairs += [(a.load_kw[k], b.load_kw[k]) for k in a.load_kw] + [(a.pv_kw[k], b.pv_kw[k]) for k in a.pv_kw]
    return all(np.array_equal(x, y) for x, y in pairs) and (a.outages, a.inputs) == (b.outages, b.inputs)


def test_nothing_told_is_our_own_forecast_bit_for_bit_and_says_so():
    found = seen(Known(), one("price"), one("weather"), one("forecast"), one("outages"))
    base = own(site()).forecast(GRID, AT)
    assert same(found, base)
    assert found.load_kw_quantiles.keys() == base.load_kw_quantiles.keys()
    for q, kw in base.pv_kw_quantiles.items():
        np.testing.assert_allclose(found.pv_kw_quantiles[q]["pv1"], kw["pv1"], atol=1e-9)
    for name in ("price", "weather", "forecast"):
        assert f"input {name}: tells nothing of this time; our own instead" in found.repairs


def test_price_counts_as_far_as_it_reaches_then_the_tariff():
    known = Known()
    version = known.add("price", AT - HOUR, AT, {"import_per_kwh": [0.5, -0.1, np.nan, 0.7]})
    found = seen(known, one("price"))
    tariff = own(site()).forecast(GRID, AT).import_per_kwh
    assert found.import_per_kwh[:8].tolist() == [0.5] * 4 + [-0.1] * 4, "to the last bit"
    np.testing.assert_allclose(found.import_per_kwh[8:10], [tariff[8], 0.7], err_msg="a gap is the tariff's")
    np.testing.assert_allclose(found.import_per_kwh[10:], tariff[10:])
    np.testing.assert_allclose(found.export_per_kwh, own(site()).forecast(GRID, AT).export_per_kwh)
    (use,) = found.inputs
    assert (use.version, use.series, use.sha256) == (version.id, ("import_per_kwh",), version.sha256)
    assert "inputs tell import_per_kwh in 9 of 18 steps; our own in the others" in found.repairs


def test_export_credited_at_the_import_price_is_planned_at_the_told_one():
    known = Known()
    known.add("price", AT - HOUR, AT, {"import_per_kwh": [0.5, -0.1]})
    credit = ExportCredit(basis=CreditBasis.IMPORT_PRICE)
    plant = replace(of(one("price")), tariff=replace(site().tariff, export_credit=credit))
    found = InputForecaster(plant, own(plant), known).forecast(GRID, AT)
    assert found.export_per_kwh[:8].tolist() == [0.5] * 4 + [-0.1] * 4
    np.testing.assert_allclose(found.export_per_kwh[8:], found.import_per_kwh[8:], err_msg="the tariff's")
    known.add("price", AT - HOUR / 2, AT, {"export_per_kwh": [0.3]})
    found = InputForecaster(plant, own(plant), known).forecast(GRID, AT)
    assert found.export_per_kwh[:8].tolist() == [0.3] * 4 + [-0.1] * 4, "unless it is told itself"


DAYS = TimeGrid.blocks(AT, ((900.0, 8), (3600.0, 22)))  # 24 h
NOT_USED = "is nothing but 0 in 24 h, where up to"


@pytest.mark.parametrize("name", ["load.critical", "pv.pv1"])
def test_whole_day_of_nothing_is_not_used_where_something_was_measured(name: str):
    known, group, asset = Known(), *name.split(".")
    known.add("forecast", AT - HOUR, AT, {name: [0.0] * 24, "load.essential": [70.0] * 24})
    found, base = seen(known, one("forecast"), grid=DAYS), own(site()).forecast(DAYS, AT)
    mine = {"load": (found.load_kw, base.load_kw), "pv": (found.pv_kw, base.pv_kw)}[group]
    np.testing.assert_allclose(mine[0][asset], mine[1][asset])
    assert any(f"input forecast: {name} {NOT_USED}" in r for r in found.repairs), found.repairs
    np.testing.assert_allclose(found.load_kw["essential"], 70.0)
    (use,) = found.inputs
    assert use.series == ("load.essential",), "what is not used is not named"


def test_nothing_told_for_less_than_a_day_or_where_nothing_was_measured_is_believed():
    known = Known()
    known.add("forecast", AT - HOUR, AT, {"load.critical": [0.0] * 12, "pv.pv1": [0.0] * 12})
    found = seen(known, one("forecast"))
    assert not found.load_kw["critical"].any()
    assert not found.pv_kw["pv1"].any()
    known = Known()
    known.add("forecast", AT - HOUR, AT, {"load.critical": [0.0] * 24, "pv.pv1": [0.0] * 24})
    plant = of(one("forecast"))
    found = InputForecaster(plant, HistoryForecaster(plant, {}, {}), known).forecast(DAYS, AT)
    assert not found.load_kw["critical"].any()
    assert not found.pv_kw["pv1"].any()


def test_step_that_is_told_in_part_is_our_own():
    known = Known()
    known.add("price", AT - HOUR, AT, {"import_per_kwh": [0.5] * 5}, step_s=1800.0)
    grid = TimeGrid.uniform(AT, 3600.0, 3)
    found = seen(known, one("price"), grid=grid).import_per_kwh
    np.testing.assert_allclose(found[:2], [0.5, 0.5])
    assert found[2] == own(site()).forecast(grid, AT).import_per_kwh[2]


def test_newest_issue_wins_an_older_one_fills_what_it_leaves_and_one_that_arrives_late_changes_nothing():
    known, price = Known(), one("price")
    known.add("price", AT - 3 * HOUR, AT, {"import_per_kwh": [0.1] * 4})
    known.add("price", AT - HOUR, AT, {"import_per_kwh": [0.3, np.nan]})
    found = seen(known, price)
    np.testing.assert_allclose(found.import_per_kwh[:10], [0.3] * 4 + [0.1] * 6)
    assert {u.version for u in found.inputs} == {1, 2}
    known.add("price", AT - 2 * HOUR, AT, {"import_per_kwh": [0.9, np.nan]}, arrived=AT)
    assert same(seen(known, price), found)


def test_first_input_of_the_site_file_counts_before_the_second():
    known = Known()
    known.add("b", AT - HOUR, AT, {"import_per_kwh": [0.2] * 12})
    known.add("a", AT - 2 * HOUR, AT, {"import_per_kwh": [0.1] * 2})
    found = seen(known, one("price", "a"), one("price", "b"))
    np.testing.assert_allclose(found.import_per_kwh, [0.1] * 8 + [0.2] * 10)


def test_market_price_becomes_that_of_the_contract_and_only_what_is_declared():
    known = Known()
    known.add("price", AT - HOUR, AT, {"spot_per_kwh": [0.10, -0.05] + [0.2] * 10})
    bought = PriceTerms(factor_ratio=1.2, add_per_kwh=0.14)
    found = seen(known, one("price", import_terms=bought))
    np.testing.assert_allclose(found.import_per_kwh[[0, 4]], [0.26, 0.08])
    np.testing.assert_allclose(found.export_per_kwh, own(site()).forecast(GRID, AT).export_per_kwh)
    sold = seen(known, one("price", export_terms=PriceTerms(add_per_kwh=-0.01)))
    np.testing.assert_allclose(sold.export_per_kwh[[0, 4]], [0.09, -0.06])


def test_plan_can_be_replayed_whatever_came_later():
    known = Known()
    inputs = (one("price"), one("weather"), one("forecast"), one("outages"))
    known.add("price", AT - HOUR, AT, {"import_per_kwh": [0.5] * 12})
    known.add("weather", AT - HOUR, AT, {"ghi_w_m2": [300.0] * 12, "temp_air_degc": [9.0] * 12})
    known.add("outages", AT - HOUR, AT, {}, outages=[outage("x", AT - HOUR, AT + 4 * HOUR)])
    before = seen(known, *inputs)
    known.add("price", AT + HOUR, AT, {"import_per_kwh": [9.0] * 12})
    known.add("weather", AT - HOUR / 2, AT, {"ghi_w_m2": [900.0] * 12}, arrived=AT + HOUR)
    known.add("forecast", AT - HOUR, AT, {"load.critical": [9.0] * 12}, arrived=AT + timedelta(seconds=1))
    known.add("outages", AT + HOUR, AT, {}, outages=[outage("x", AT + HOUR, AT + 4 * HOUR, cancelled=True)])
    again = seen(known, *inputs)
    assert same(before, again)
    assert not same(before, seen(known, *inputs, at=AT + 2 * HOUR, grid=replace(GRID, start=AT + 2 * HOUR)))


def test_load_and_sun_told_by_others_replace_ours_with_bands_and_scenarios_around_them():
    known = Known()
    told = {"load.critical": [55.0] * 12, "pv.pv1": [1e6] * 12, "load.critical.p90": [70.0] * 12}
    known.add("forecast", AT - HOUR, AT, told)
    found = seen(known, one("forecast"), scenarios=3)
    base = own(site(), 3).forecast(GRID, AT)
    rating = site().pv[0].p_ac_kw
    np.testing.assert_allclose(found.load_kw["critical"], 55.0)
    np.testing.assert_allclose(found.pv_kw["pv1"], rating)
    np.testing.assert_allclose(found.load_kw_quantiles["p90"]["critical"], 70.0)
    low = found.load_kw_quantiles["p10"]["critical"]
    width = base.load_kw["critical"] - base.load_kw_quantiles["p10"]["critical"]
    np.testing.assert_allclose(low, np.maximum(0.0, 55.0 - width))
    assert (found.pv_kw_quantiles["p10"]["pv1"] <= rating).all()
    assert len(found.scenarios) == len(base.scenarios) >= 2
    assert found.scenarios[0].load_kw is found.load_kw
    for ours, theirs in zip(base.scenarios[1:], found.scenarios[1:], strict=True):
        shift = ours.load_kw["critical"] - base.load_kw["critical"]
        np.testing.assert_allclose(theirs.load_kw["critical"], np.maximum(0.0, 55.0 + shift))
        assert (theirs.pv_kw["pv1"] <= rating).all()
        np.testing.assert_allclose(theirs.load_kw["essential"], ours.load_kw["essential"])


def test_weather_makes_the_sun_of_later_hours_and_the_present_sky_that_of_the_next():
    known = Known()
    known.add("weather", AT - HOUR, AT - HOUR, {"ghi_w_m2": [0.0] * 14, "temp_air_degc": [9.0] * 14})
    dark = seen(known, one("weather"))
    base = own(site()).forecast(GRID, AT)
    middle_h = (GRID.offset_s[:-1] + GRID.offset_s[1:]) / 7200.0
    share = np.clip(1.0 - middle_h / OWN_H, 0.0, 1.0)
    np.testing.assert_allclose(dark.pv_kw["pv1"], share * base.pv_kw["pv1"], atol=1e-9)
    assert dark.temp_degc is not None
    np.testing.assert_allclose(dark.temp_degc, 9.0)
    assert base.temp_degc is None


@pytest.mark.parametrize(
    ("told", "seen_ago_h", "counts"), [(True, 0.0, False), (False, 0.0, True), (False, 7.0, False)]
)
def test_weather_that_is_too_old_does_not_count_and_is_named(told: bool, seen_ago_h: float, counts: bool):
    """Without a time of issue it is as old as the last answer that said the same."""
    known = Known(seen={"weather": AT - seen_ago_h * HOUR})
    known.add("weather", AT - 7 * HOUR, AT - HOUR, {"ghi_w_m2": [0.0] * 14}, told=told)
    found = seen(known, one("weather", age_s_max=6 * 3600.0))
    assert bool(found.inputs) is counts
    note = [r for r in found.repairs if r.startswith("input weather: too old, issued")]
    assert bool(note) is not counts


def test_price_that_is_old_stays_the_price():
    known = Known()
    known.add("price", AT - 100 * HOUR, AT, {"import_per_kwh": [0.5] * 12})
    assert seen(known, one("price", age_s_max=3600.0)).import_per_kwh[0] == 0.5


def test_outages_follow_the_newest_issue_of_each():
    known, utility = Known(), one("outages")
    noon = AT + 3 * HOUR
    known.add("outages", AT - 3 * HOUR, AT, {}, outages=[
        outage("a", AT - 3 * HOUR, noon), outage("b", AT - 3 * HOUR, noon), outage("c", AT - 3 * HOUR, noon),
        outage("d", AT - 3 * HOUR, noon, certainty=Certainty.POSSIBLE),
    ])  # fmt: skip
    assert [n.id for n in seen(known, utility).outages] == ["outages.a", "outages.b", "outages.c"]
    known.add("outages", AT - 2 * HOUR, AT, {}, outages=[
        outage("a", AT - 2 * HOUR, noon, 5.0), outage("b", AT - 2 * HOUR, noon, cancelled=True),
        outage("c", AT - 2 * HOUR, noon + timedelta(days=7)),
    ])  # fmt: skip
    late = known.add("outages", AT - HOUR, AT, {}, outages=[outage("b", AT - 3 * HOUR, noon)])
    found = seen(known, utility)
    assert (found.outages[0].id, found.outages[0].end) == ("outages.a", noon + 5 * HOUR), "revised"
    assert "outages.b" not in [n.id for n in found.outages], "an older issue that comes late revives nothing"
    assert [n.start for n in found.outages if n.id == "outages.c"] == [noon + timedelta(days=7)], "moved away"
    assert {u.version for u in found.inputs} == {2}
    assert late.id == 3
    assert [n.source for n in announced([utility], known, AT - 4 * HOUR)] == []
    sure = seen(known, one("outages", certainty_min=Certainty.POSSIBLE)).outages
    assert "outages.d" in [n.id for n in sure]


def test_complete_list_withdraws_what_it_leaves_out():
    known, utility = Known(), one("outages", complete=True)
    for n, names in enumerate((["a", "b"], ["b"])):
        issued = AT - (2 - n) * HOUR
        known.add("outages", issued, AT, {}, outages=[outage(x, issued, AT + HOUR) for x in names])
    assert [n.id for n in seen(known, utility).outages] == ["outages.b"]
