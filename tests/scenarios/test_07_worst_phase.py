"""7: caps at the POI and ratings hold on the worst phase, where the total alone would be inside them."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.layout import layout_of
from dispatch.observing.phases import Phases, unbalance_ratio
from ems.phases import PhaseParams
from ems.site import Site
from plant_models.phases import phase_readings
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from tests import builders

pytestmark = pytest.mark.scenario(7)
AT_S = 60.0
LOAD = {"critical": 100.0, "essential": 130.0, "deferrable": 60.0}
ONE = (1.0, 0.0, 0.0)


def uneven(site: Site, phases: PhaseParams | None, **shares: tuple[float, float, float]) -> Site:
    """The plant with feeders that load their phases unlike, and how the POI's phases are held."""
    feeders = tuple(replace(f, phase_share=shares.get(f.id, f.phase_share)) for f in site.feeders)
    return replace(site, feeders=feeders, grid=replace(site.grid, phases=phases))


def poi(site: Site, row: Row) -> list[float]:
    """True power of each phase at the POI [kW]."""
    held = site if site.grid.phases is not None else uneven(site, PhaseParams(margin_kw=1.0))
    readings = phase_readings(held, row.flows)
    return [readings[f"grid1.p_l{n}_kw"] for n in (1, 2, 3)]


def one_phase_more(kw: float) -> dict[str, float | Callable[[float], float]]:
    return {**LOAD, "critical": lambda t_s: 0.0 if t_s < AT_S else kw}


@pytest.mark.parametrize("worst", [True, False])
def test_load_on_one_phase_import_is_inside_a_third_of_the_cap_on_each(small: Site, worst: bool):
    phases = PhaseParams(margin_kw=35.0) if worst else None
    site = uneven(small, phases, critical=ONE)
    rig = Rig(site, load_kw=one_phase_more(100.0), options=RigOptions(soc=0.2)).run(AT_S + 120.0)
    settled = rig.rows(AT_S + 3.0)
    assert all(r.flows.grid_p_kw < site.grid.p_import_kw_max for r in settled)  # the total is no reason
    over = [r for r in rig.rows(AT_S) if max(poi(site, r)) > site.grid.p_import_kw_max / 3.0]
    if not worst:
        assert len(over) > 100  # by the sum of phases nothing is to be done
        return
    assert len(over) <= 3
    assert rig.after(AT_S, lambda r: max(poi(site, r)) <= site.grid.p_import_kw_max / 3.0) <= 3.0
    given_kw = [r.flows.bess_p_kw["bess1"] for r in rig.rows(AT_S + 10.0)]
    assert max(given_kw) - min(given_kw) <= 0.02 * 500.0  # and it stands still


def test_sun_and_load_on_one_phase_no_phase_exports(small: Site):
    site = uneven(small, PhaseParams(margin_kw=35.0), critical=ONE)
    site = replace(site, grid=replace(site.grid, p_export_kw_max=0.0))

    def sun(t_s: float) -> float:
        return 40.0 + 360.0 * min(1.0, max(0.0, (t_s - AT_S) / 20.0))

    rig = Rig(site, load_kw=LOAD, pv_kw=sun, options=RigOptions(soc=0.949)).run(AT_S + 90.0)
    exported = [r.t_s for r in rig.rows(AT_S) if min(poi(site, r)) < -0.05 * 350.0 / 3.0]
    assert len(exported) <= 5
    n = 30
    lowest = [min(poi(site, r)) for r in rig.rows(AT_S)]
    assert all(sum(lowest[i : i + n]) / n >= 0.0 for i in range(0, len(lowest) - n + 1, n))


@pytest.mark.parametrize("powers", [True, False], ids=["powers and currents", "currents alone"])
def test_fuse_of_the_poi_is_held_in_amps_on_each_phase(small: Site, powers: bool):
    site = uneven(small, PhaseParams(margin_kw=35.0, worst=False, i_a_max=400.0), critical=ONE)
    site = replace(site, grid=replace(site.grid, v_nominal_v=400.0, r_ohm=0.001, x_ohm=0.003))
    rig = Rig(site, load_kw=one_phase_more(100.0), options=RigOptions(soc=0.7))
    for n in (1, 2, 3):
        if not powers:
            rig.tell(f"grid1.p_l{n}_kw", None)
    rig.run(AT_S + 90.0)

    def amps(row: Row) -> float:
        readings = phase_readings(site, row.flows)
        return max(readings[f"grid1.i_l{n}_a"] for n in (1, 2, 3))

    assert rig.after(AT_S, lambda r: amps(r) > 400.0) <= 2.0  # the load alone is more than the fuse carries
    assert sum(amps(r) > 400.0 for r in rig.rows(AT_S)) <= 5
    assert rig.held(lambda r: amps(r) <= 400.0, AT_S + 10.0)


def wrong_sum(rig: Rig) -> None:
    rig.tell("grid1.p_l2_kw", 0.0)


def no_answer(rig: Rig) -> None:
    rig.tell("grid1.p_l2_kw", None)


@pytest.mark.parametrize("wrong", [wrong_sum, no_answer])
def test_phases_lost_the_declared_margin_is_kept_and_told(small: Site, wrong: Callable[[Rig], None]):
    site = uneven(small, PhaseParams(margin_kw=80.0))
    load_kw = {"critical": 110.0, "essential": 130.0, "deferrable": 60.0}
    rig = Rig(site, load_kw=load_kw, options=RigOptions(soc=0.2))
    rig.at(AT_S, wrong).run(AT_S + 60.0)
    cap_kw = site.grid.p_import_kw_max
    assert rig.first(AT_S - 5.0, lambda r: r.flows.grid_p_kw > cap_kw - 80.0).t_s < AT_S
    assert rig.raised("phases.lost") == 1
    assert rig.held(lambda r: r.flows.grid_p_kw <= cap_kw - 80.0, AT_S + 10.0)
    rig.tell_truth("grid1.p_l2_kw")
    rig.run(AT_S + 180.0)
    assert "phases.lost" not in {a.code for a in rig.last.decisions.alarms}
    assert rig.last.flows.grid_p_kw > cap_kw - 80.0


@pytest.mark.parametrize("told_kw", [0.0, None])
def test_phases_lost_no_cap_is_looser_than_what_was_known_of_them(small: Site, told_kw: float | None):
    """One phase carries 200 kW more than a third; 35 kW of margin would let it 40 % over its cap."""
    site = uneven(small, PhaseParams(margin_kw=35.0), critical=ONE)
    rig = Rig(site, load_kw={**LOAD, "critical": 100.0}, options=RigOptions(soc=0.2))
    rig.at(AT_S, lambda r: r.tell("grid1.p_l1_kw", told_kw)).run(AT_S + 60.0)
    assert rig.raised("phases.lost") == 1
    assert rig.held(lambda r: max(poi(site, r)) <= site.grid.p_import_kw_max / 3.0, 20.0)


def test_fuse_held_by_currents_alone_nothing_is_lost_while_none_flows(small: Site):
    """The POI is open in an island: three currents of nothing are readings, and no alarm."""
    site = uneven(small, PhaseParams(margin_kw=35.0, worst=False, i_a_max=400.0))
    rig = Rig(site, load_kw=LOAD, mains=[(AT_S, 300.0)], options=RigOptions(soc=0.7))
    for n in (1, 2, 3):
        rig.tell(f"grid1.p_l{n}_kw", None)
    rig.run(AT_S + 60.0)
    assert rig.last.flows.grid_p_kw == 0.0
    assert rig.raised("phases.lost") == 0


def test_unbalance_of_gensets_one_that_is_not_read_has_its_share(small: Site):
    """What the others share without it was taken for half of what it is: it was let go, and asked again."""
    layout = layout_of(in_gensets(small, unbalance_ratio_max=0.25))
    both = {g: Phases(more_kw=kw, less_kw=0.5 * kw) for g, kw in (("gen1", 60.0), ("gen2", 30.0))}
    lost = {**both, "gen2": replace(both["gen2"], lost=True)}
    for phases in (both, lost):
        assert unbalance_ratio(layout, phases, ("gen1", "gen2")) == pytest.approx(135.0 / 600.0)
        assert unbalance_ratio(layout, phases, ("gen1", "gen2"), "gen2") == pytest.approx(135.0 / 400.0)
        assert unbalance_ratio(layout, phases, ("gen1",), "gen1") is None
    assert unbalance_ratio(layout, lost, ("gen2",)) is None


def in_gensets(site: Site, unbalance_ratio_max: float | None = None) -> Site:
    params = PhaseParams(margin_kw=40.0, unbalance_ratio_max=unbalance_ratio_max)
    return replace(site, gensets=tuple(replace(g, phases=params) for g in site.gensets))


def island(site: Site, load_kw: dict[str, float]) -> Rig:
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 200.0}, soc=0.12)
    return Rig(site, load_kw=load_kw, options=options)


def test_genset_worst_phase_counts_for_its_rating(small: Site):
    site = in_gensets(uneven(small, None, critical=(0.8, 0.1, 0.1)))
    rated_kw = site.gensets[0].p_rated_kw
    rig = island(site, {"critical": 120.0, "essential": 120.0, "deferrable": 60.0}).run(300.0)

    def worst_kw(row: Row) -> float:
        readings = phase_readings(site, row.flows)
        return max(
            3.0 * readings[f"{g.id}.p_l{n}_kw"] / g.p_rated_kw for g in site.gensets for n in (1, 2, 3)
        )

    assert rig.log[0].flows.genset_p_kw["gen1"] < 0.95 * rated_kw  # its total is no reason to start another
    assert rig.raised("genset.phase.unbalance") == 0
    assert rig.held(lambda r: worst_kw(r) <= 1.0, 150.0)


def test_genset_phases_too_far_apart_the_next_set_shares_and_it_is_told(small: Site):
    site = in_gensets(uneven(small, None, critical=ONE), unbalance_ratio_max=0.25)
    rig = island(site, {"critical": 60.0, "essential": 80.0, "deferrable": 30.0}).run(900.0)
    on = [sum(kw > 1.0 for kw in r.flows.genset_p_kw.values()) for r in rig.rows()]
    assert on[0] == 1
    assert rig.raised("genset.phase.unbalance") >= 1
    assert on[-1] == 2
    assert sum(a != b for a, b in pairwise(on)) == 1  # it stays, and does not come and go


@pytest.mark.parametrize("read", [True, False])
def test_forming_converter_worst_phase_counts_for_its_rating(small: Site, read: bool):
    pcs = replace(small.bess[0].pcs, phases=PhaseParams(margin_kw=50.0))
    told = replace(uneven(small, None, critical=ONE), bess=(replace(small.bess[0], pcs=pcs),))
    site = told if read else replace(told, bess=small.bess)
    load_kw = {"critical": 110.0, "essential": 180.0, "deferrable": 90.0}
    rig = Rig(site, load_kw=load_kw, options=RigOptions(islanded_by="bess1", soc=0.8)).run(300.0)

    def inside(row: Row) -> bool:
        readings = phase_readings(told, row.flows)
        return 3.0 * max(readings[f"bess1.p_l{n}_kw"] for n in (1, 2, 3)) <= pcs.s_kva

    assert rig.held(inside, 3.0) is read  # 380 kW are less than its rating of 550 kVA
    assert (rig.raised("feeder.shed") > 0) is read


def beside_a_set(site: Site, inrush_kva: float = 0.0, **load_kw: float) -> Rig:
    """An island on a battery whose worst phase is near its rating, and sets that stand by."""
    pcs = replace(site.bess[0].pcs, phases=PhaseParams(margin_kw=50.0))
    site = replace(uneven(site, None, critical=ONE), bess=(replace(site.bess[0], pcs=pcs),))
    last = replace(site.feeders[-1], inrush_kva=inrush_kva)
    site = replace(site, feeders=(*site.feeders[:-1], last))
    return Rig(site, load_kw=load_kw, options=RigOptions(islanded_by="bess1", soc=0.8))


def test_beside_a_forming_converter_a_set_makes_room_for_the_feeder_that_waits(small: Site):
    """At its least load it left the converter 5 kW short of what the last feeder takes, and stayed there."""
    rig = beside_a_set(small, critical=110.0, essential=180.0, deferrable=90.0).run(300.0)
    gave_kw = [r.flows.genset_p_kw["gen1"] for r in rig.rows(60.0)]
    assert min(gave_kw) == small.gensets[0].p_min_kw < max(gave_kw)
    assert rig.held(lambda r: all(r.decisions.condition.feeder_closed.values()), 240.0)
    assert rig.last.flows.genset_p_kw["gen1"] == small.gensets[0].p_min_kw  # and no longer than for that


@pytest.mark.parametrize(("critical", "deferrable"), [(110.0, 140.0), (120.0, 120.0), (130.0, 130.0)])
def test_room_of_many_steps_of_its_ramp_is_made_whole(small: Site, critical: float, deferrable: float):
    """The set stood half way to what was asked of it: what it was on the way was taken off its target."""
    rig = beside_a_set(small, critical=critical, essential=180.0, deferrable=deferrable).run(600.0)
    assert rig.held(lambda r: all(r.decisions.condition.feeder_closed.values()), 500.0)
    up_kw = 0.95 * small.bess[0].pcs.s_kva - 2.0 * critical
    assert rig.held(lambda r: r.flows.bess_p_kw["bess1"] <= 0.92 * up_kw, 500.0)


def test_no_set_works_more_for_a_feeder_that_stays_out(small: Site):
    """Its inrush is more than all sources stand, so that it does not come back whatever a set gives."""
    load_kw = {"critical": 110.0, "essential": 180.0, "deferrable": 90.0}
    rig = beside_a_set(small, inrush_kva=5000.0, **load_kw).run(600.0)
    assert not rig.last.decisions.condition.feeder_closed["deferrable"]
    assert rig.held(lambda r: r.flows.genset_p_kw["gen1"] == small.gensets[0].p_min_kw, 200.0)


@pytest.mark.parametrize(
    ("essential", "deferrable"), [(180.0, 300.0), (180.0, 305.0), (310.0, 234.0), (310.0, 235.0)]
)
def test_room_that_can_hardly_be_made_is_made_or_not_and_no_set_swings(
    small: Site, essential: float, deferrable: float
):
    one = replace(
        small,
        gensets=small.gensets[:1],
        forming=replace(small.forming, islanded=("bess1", "gen1")),
        authority=builders.authority(small.gensets[:1]),
    )
    rig = beside_a_set(one, critical=110.0, essential=essential, deferrable=deferrable).run(600.0)
    set_kw = [r.held["gen1.p_set_kw"] for r in rig.rows(200.0)]
    steps_kw = [b - a for a, b in pairwise(set_kw) if abs(b - a) > 10.0]
    assert sum(a * b < 0.0 for a, b in pairwise(steps_kw)) <= 4


def test_phases_lost_beside_a_silent_meter_are_one_alarm(small: Site):
    site = uneven(small, PhaseParams(margin_kw=80.0))
    silent = Fault(kind="device_silent", target="grid1", from_s=AT_S, until_s=math.inf)
    rig = Rig(site, load_kw=LOAD, faults=[silent]).run(AT_S + 60.0)
    assert "phases.lost.grid1" in {f["key"] for f in rig.events("alarm.suppressed")}
    assert rig.raised("grid.device.silent") == 1
