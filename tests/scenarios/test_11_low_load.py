"""11: a genset at low load for half an hour, and one that the bus drives backwards."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from ems.assets import BurnOff, Exercise, GensetParams, LowLoad, ReversePower, Sharing
from ems.points import GensetState
from ems.site import Site
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(11)
AT_S = 60.0
MIN_KW = 120.0  # of gen1: 30 % of its rating
RELAY = ReversePower(p_kw=40.0, delay_s=5.0)


def falls(before_kw: float, after_kw: float) -> Callable[[float], float]:
    return lambda t_s: before_kw if t_s < AT_S else after_kw


def with_gen1(small: Site, **changes: object) -> Site:
    gensets = tuple(replace(g, **changes) if g.id == "gen1" else g for g in small.gensets)  # type: ignore[arg-type]
    return replace(small, gensets=gensets)


def island(
    site: Site, load_kw: dict[str, Power], pv_kw: Power, soc: float, dt_s: float = 1.0, shadow: bool = False
) -> Rig:
    """gen1 forms with 250 kW on it; the battery follows."""
    options = RigOptions(
        soc=soc, islanded_by="gen1", gensets_on_kw={"gen1": 250.0}, shadow=shadow, judge=not shadow
    )
    return Rig(following_only(site), load_kw=load_kw, pv_kw=pv_kw, dt_s=dt_s, options=options)


def gen1(row: Row) -> float:
    return row.flows.genset_p_kw["gen1"]


@pytest.mark.parametrize(
    ("soc", "pv_kw", "after_kw"),
    [(0.5, 0.0, 20.0), (0.5, 90.0, 60.0), (0.949, 200.0, 90.0)],
    ids=["charging alone", "charging and curtailing", "battery full: curtailing alone"],
)
def test_low_load_for_half_an_hour_minimum_load_is_held(
    small: Site, soc: float, pv_kw: float, after_kw: float
):
    """The set would carry 20 to 90 kW less PV; its minimum is 120 kW."""
    load: dict[str, Power] = {"critical": 60.0, "essential": falls(220.0, after_kw), "deferrable": 0.0}
    rig = island(small, load, pv_kw, soc, dt_s=5.0)
    rig.run(AT_S + 1800.0)
    assert rig.after(AT_S, lambda r: gen1(r) >= MIN_KW) <= 60.0
    assert rig.held(lambda r: gen1(r) >= MIN_KW, AT_S + 60.0)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.raised("genset.reverse_power") == 0


def test_low_load_is_counted_and_the_hot_run_is_asked_for(small: Site):
    """Nobody can load the set: no battery that charges, no PV. The counter keeps to a second an hour.

    That is judged between two cycles in the midst of it, where it begins and ends with none.
    """
    low = LowLoad(below_ratio=0.4, burn_off=BurnOff(after_h=0.25, for_h=0.5, above_ratio=0.7))
    site = with_gen1(small, low_load=low)
    load: dict[str, Power] = {"critical": 60.0, "essential": falls(160.0, 75.0), "deferrable": 0.0}
    rig = island(site, load, 0.0, 0.949)
    rig.run(1200.0)

    def counted_s(t_s: float) -> float:
        sets = rig.first(t_s, lambda r: True).decisions.condition.gensets
        return 3600.0 * sets["gen1"].duty.low_load_h

    line_kw = 0.4 * 400.0
    true_s = sum(rig.dt_s for r in rig.rows() if gen1(r) < line_kw)
    assert true_s == pytest.approx(1200.0 - AT_S, abs=2.0)
    from_s, until_s = AT_S + 10.0, 1190.0
    assert all(gen1(r) < line_kw for r in rig.rows(from_s, until_s))
    passed_s = until_s - from_s
    assert counted_s(until_s) - counted_s(from_s) == pytest.approx(passed_s, abs=passed_s / 3600.0)
    assert counted_s(until_s) == pytest.approx(until_s - AT_S, abs=2.0)
    told_s = rig.after(AT_S, lambda r: r.alarmed("genset.burn_off.due"))
    assert told_s == pytest.approx(900.0, abs=2.0)
    assert not any(r.alarmed("genset.low_load") for r in rig.rows())


HOT = LowLoad(below_ratio=0.4, burn_off=BurnOff(after_h=0.1, for_h=0.1, above_ratio=0.7))


def test_hot_run_in_an_island_is_made_by_rules_on_batteries_that_charge(small: Site):
    """Rules charge no further with fuel than to 82 %: the set stays at low load until its hot run is due."""
    load: dict[str, Power] = {"critical": 60.0, "essential": 75.0, "deferrable": 0.0}
    rig = island(with_gen1(small, low_load=HOT), load, 0.0, 0.85, dt_s=5.0).run(1000.0)
    due_s = rig.after(0.0, lambda r: r.alarmed("genset.burn_off.due"))
    assert due_s <= 400.0
    hot_s = [r.t_s for r in rig.rows() if gen1(r) >= 0.7 * 400.0]
    assert hot_s[0] - due_s <= 30.0
    assert 360.0 <= rig.dt_s * len(hot_s) <= 400.0  # long enough, and over
    assert hot_s[-1] - hot_s[0] < rig.dt_s * len(hot_s)  # one run
    assert not rig.last.alarmed("genset.burn_off.due")
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_hot_run_nobody_can_take_is_not_begun(small: Site):
    load: dict[str, Power] = {"critical": 60.0, "essential": 75.0, "deferrable": 0.0}
    rig = island(with_gen1(small, low_load=HOT), load, 0.0, 0.949, dt_s=5.0).run(600.0)
    assert rig.held(lambda r: r.alarmed("genset.burn_off.due"), 400.0)
    assert rig.held(lambda r: gen1(r) < 0.5 * 400.0, 300.0)


@pytest.mark.parametrize("sharing", list(Sharing))
@pytest.mark.parametrize(("charge_kw", "enough"), [(250.0, False), (281.0, True)])
def test_hot_run_of_sets_that_share_is_made_whole_or_left_and_never_by_turns(
    small: Site, charge_kw: float, enough: bool, sharing: Sharing
):
    """What is put on one is put on both: 280 kW make 72 % of it, not the 165 of the first look."""
    hot = replace(HOT, below_ratio=0.6, burn_off=BurnOff(after_h=0.05, for_h=0.1, above_ratio=0.7))
    sets = tuple(replace(g, low_load=hot, min_up_s=7200.0, sharing=sharing) for g in small.gensets)
    options = RigOptions(soc=0.83, islanded_by="gen1", gensets_on_kw={"gen1": 100.0, "gen2": 100.0})
    load: dict[str, Power] = {"critical": 60.0, "essential": 90.0, "deferrable": 0.0}
    rig = Rig(following_only(replace(small, gensets=sets)), load_kw=load, options=options)
    rig.tell("bess1.p_charge_kw_max", charge_kw)
    rig.run(700.0)
    assert rig.after(0.0, lambda r: r.alarmed("genset.burn_off.due")) <= 190.0
    kw = [r.flows.bess_p_kw["bess1"] for r in rig.rows(150.0)]
    assert sum(abs(b - a) > 20.0 for a, b in pairwise(kw)) <= (6 if enough else 0)
    hot_s = rig.dt_s * sum(gen1(r) >= 0.7 * 400.0 for r in rig.rows())
    assert hot_s >= 355.0 if enough else hot_s == 0.0


def test_hot_run_that_is_due_is_made_beside_the_grid_after_a_rest(small: Site):
    """The mains come back before the island could do it: the set rests for an hour and is then loaded."""
    load: dict[str, Power] = {"critical": 60.0, "essential": 75.0, "deferrable": 0.0}
    sets = tuple(replace(g, low_load=HOT, min_up_s=60.0) for g in small.gensets)
    site = following_only(replace(small, gensets=sets))
    options = RigOptions(soc=0.6, islanded_by="gen1", gensets_on_kw={"gen1": 135.0}, horizon_s=6000.0)
    rig = Rig(site, load_kw=load, mains=[(0.0, 390.0)], dt_s=10.0, options=options)
    rig.at(0.0, lambda r: r.tell("bess1.p_charge_kw_max", 0.0))  # nothing to load the set with
    rig.at(430.0, lambda r: r.tell_truth("bess1.p_charge_kw_max"))
    rig.run(5400.0)
    assert rig.first(0.0, lambda r: r.alarmed("genset.burn_off.due")).t_s < 450.0
    off = rig.first(390.0, lambda r: r.flows.genset_p_kw["gen1"] < 1.0)
    hot_s = [r.t_s for r in rig.rows(off.t_s) if gen1(r) >= 0.7 * 400.0]
    assert 3600.0 <= hot_s[0] - off.t_s <= 3700.0
    assert 360.0 <= rig.dt_s * len(hot_s) <= 420.0
    assert rig.last.flows.genset_state["gen1"] is not GensetState.RUNNING
    assert not rig.last.alarmed("genset.burn_off.due")


def test_low_load_beyond_its_budget_is_told(small: Site):
    site = with_gen1(small, low_load=LowLoad(below_ratio=0.4, budget_h=0.05, window_h=6.0))
    load: dict[str, Power] = {"critical": 60.0, "essential": falls(160.0, 75.0), "deferrable": 0.0}
    rig = island(site, load, 0.0, 0.949).run(AT_S + 200.0)
    assert rig.after(AT_S, lambda r: r.alarmed("genset.low_load")) == pytest.approx(180.0, abs=3.0)


def test_exercise_run_that_is_due_is_told(small: Site):
    """Counted from when the edge first sees the set; the clock is set on by a month."""
    site = with_gen1(small, exercise=Exercise(every_h=0.05, for_h=0.5, load_ratio=0.5))
    rig = Rig(site, load_kw={"critical": 60.0}).run(240.0)
    first = rig.first(0.0, lambda r: r.alarmed("genset.exercise.due"))
    assert first.decisions.at - rig.options.start >= timedelta(hours=0.05)
    assert first.t_s <= 182.0


def test_reverse_power_pv_is_cut_before_the_relay_opens(small: Site):
    """220 of 320 kW trip beside 150 kW of PV: the set is driven until PV is cut. Its relay: 40 kW, 5 s."""
    load: dict[str, Power] = {"critical": 100.0, "essential": falls(220.0, 0.0), "deferrable": 0.0}
    rig = island(with_gen1(small, reverse_power=RELAY), load, 150.0, 0.949)
    rig.run(AT_S + 120.0)
    before_kw = rig.first(AT_S - 1.0, lambda r: True).flows.pv_p_kw["pv1"]
    driven = rig.first(AT_S, lambda r: gen1(r) < -RELAY.p_kw)
    assert driven.t_s <= AT_S + 1.0
    cut_s = rig.after(driven.t_s, lambda r: r.flows.pv_p_kw["pv1"] < before_kw - 50.0)
    assert cut_s <= 1.0
    assert rig.held(lambda r: gen1(r) >= 0.0, driven.t_s + 2.0)
    assert rig.held(lambda r: r.flows.genset_state["gen1"] is GensetState.RUNNING)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.raised("genset.reverse_power") == 1


def test_reverse_power_without_the_edge_the_relay_opens_and_the_island_is_dead(small: Site):
    """The plant of the test above, watched and not written to: what the edge prevents does happen."""
    load: dict[str, Power] = {"critical": 100.0, "essential": falls(220.0, 0.0), "deferrable": 0.0}
    rig = island(with_gen1(small, reverse_power=RELAY), load, 150.0, 0.949, shadow=True)
    rig.run(AT_S + 30.0)
    opened_s = rig.after(AT_S, lambda r: r.flows.genset_state["gen1"] is GensetState.LOCKED_OUT)
    assert opened_s == pytest.approx(RELAY.delay_s, abs=1.0)
    assert rig.unserved_kwh(AT_S) > 0.0


def test_reverse_power_that_lasts_takes_all_pv_away(small: Site):
    """The set goes on saying that it is driven: after half of its relay's time all PV goes."""
    site = with_gen1(small, reverse_power=RELAY)
    params: GensetParams = next(g for g in site.gensets if g.id == "gen1")
    assert params.reverse_power is RELAY
    load: dict[str, Power] = {"critical": 100.0, "essential": 220.0, "deferrable": 0.0}
    rig = island(site, load, 190.0, 0.949)
    rig.at(AT_S, lambda r: r.tell("gen1.p_kw", -60.0))
    rig.run(AT_S + 10.0)
    assert rig.after(AT_S, lambda r: r.held.get("pv1.p_limit_kw", 600.0) == 0.0) <= 0.5 * RELAY.delay_s + 1.0
