"""Inrush: a feeder is switched on only where the sources that make an island's voltage stand it."""

from dataclasses import replace

import pytest

from dispatch.layout import layout_of
from dispatch.protections import bus
from dispatch.protections.feeders import COMES_FIRST
from dispatch.protections.inrush import NO_INRUSH, Inrush
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests import builders

LOAD = {"critical": 60.0, "essential": 90.0, "deferrable": 40.0}
DEAD_S = 60.0
BATTERY_KVA = 1.2 * 550.0  # what the converter stands in the first cycles


def plant(
    essential_kva: float,
    *,
    surge_kva: float | None = None,
    restart_s: float = 1.0,
    deferrable_kva: float = 0.0,
    dwells_s: tuple[float, float] = (60.0, 60.0),
) -> Site:
    """A battery that stands 660 kVA or `surge_kva`, two sets of 500 and 250 kVA; the inrush of two feeders.

    The battery is back before a set is started for the dead bus, unless `restart_s` is long.
    """
    site = builders.site()
    kva = {"essential": (essential_kva, dwells_s[0]), "deferrable": (deferrable_kva, dwells_s[1])}
    feeders = tuple(
        replace(f, inrush_kva=kva[f.id][0], restore_dwell_s=kva[f.id][1]) if f.id in kva else f
        for f in site.feeders
    )
    (one,) = site.bess
    bess = (replace(one, pcs=replace(one.pcs, surge_kva=surge_kva, restart_s=restart_s)),)
    return replace(site, feeders=feeders, bess=bess)


def dead_and_back(site: Site, until_s: float) -> Rig:
    """An island whose battery trips at `DEAD_S`, so that every breaker drops out; no set starts by itself."""
    gensets = tuple(replace(g, mains_failure_start=False) for g in site.gensets)
    trip = Fault(kind="bess_trips", target="bess1", from_s=DEAD_S, until_s=DEAD_S + 2.0)
    rig = Rig(
        replace(site, gensets=gensets), load_kw=LOAD, pv_kw=0.0, faults=[trip],
        options=RigOptions(soc=0.7, islanded_by="bess1"),
    )  # fmt: skip
    return rig.run(until_s)


def closed_s(rig: Rig, feeder: str) -> float | None:
    """When its breaker closed after the bus had died, and stayed closed; None: it is open."""
    rows = [r for r in rig.rows(DEAD_S + 5.0) if not r.decisions.condition.feeder_closed[feeder]]
    return None if rig.last in rows else rows[-1].t_s


def died_again(rig: Rig) -> bool:
    rows = list(rig.rows(DEAD_S))
    alive = [r.decisions.condition.grid_mode is GridMode.ISLANDED for r in rows]
    back = alive.index(True, alive.index(False))
    return not all(alive[back:])


def set_on_load(rig: Rig, at_s: float) -> bool:
    (row,) = rig.rows(at_s - 0.5, at_s + 0.5)
    return any(c.on_load for c in row.decisions.condition.gensets.values())


def test_feeder_whose_inrush_the_battery_stands_comes_back_without_a_set():
    rig = dead_and_back(plant(BATTERY_KVA - 100.0), 300.0)
    at_s = closed_s(rig, "essential")
    assert at_s is not None
    assert not set_on_load(rig, at_s)
    assert not died_again(rig)


@pytest.mark.parametrize(
    ("essential_kva", "surge_kva", "restart_s"),
    [
        (BATTERY_KVA + 200.0, None, 1.0),  # more than the battery stands
        (BATTERY_KVA - 100.0, 300.0, 1.0),  # it stands less than its overload
        (480.0, None, 60.0),  # the small set forms, and a battery that follows makes no voltage
    ],
)
def test_feeder_waits_for_a_set_that_helps_to_stand_its_inrush(
    essential_kva: float, surge_kva: float | None, restart_s: float
):
    rig = dead_and_back(plant(essential_kva, surge_kva=surge_kva, restart_s=restart_s), 900.0)
    at_s = closed_s(rig, "essential")
    assert at_s is not None
    assert set_on_load(rig, at_s)
    assert not died_again(rig)
    told = [a.text for r in rig.rows(DEAD_S, at_s) for a in r.decisions.alarms if a.asset == "essential"]
    why = f"its inrush of {essential_kva:g} kVA is more than the sources on line stand"
    assert any(why in text for text in told)


def test_without_the_rule_the_same_feeder_takes_the_island_with_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bus, "inrush_now", lambda *_: NO_INRUSH)
    rig = dead_and_back(plant(BATTERY_KVA + 200.0), 300.0)
    assert died_again(rig)


def test_feeder_that_nobody_can_switch_on_stays_open_and_calls_nobody():
    rig = dead_and_back(plant(5000.0), 600.0)
    assert closed_s(rig, "essential") is None
    assert closed_s(rig, "deferrable") is not None  # the others do not wait behind it
    assert not died_again(rig)
    assert not any(c.on_load or c.starting for c in rig.last.decisions.condition.gensets.values())
    (alarm,) = [a for a in rig.last.decisions.alarms if a.code == "feeder.shed" and a.asset == "essential"]
    assert "its inrush of 5000 kVA is more than the sources that can make the voltage stand" in alarm.text


def test_beside_the_grid_nothing_waits_for_an_inrush():
    rig = Rig(plant(5000.0), load_kw=LOAD, pv_kw=0.0, mains=[(30.0, 60.0)], options=RigOptions(soc=0.7))
    rig.run(300.0)
    assert rig.last.decisions.condition.grid_mode is GridMode.GRID_TIED
    assert rig.last.decisions.condition.feeder_closed["essential"]


@pytest.mark.parametrize("deferrable_kva", [400.0, 0.0], ids=["both sudden", "one sudden"])
def test_feeders_whose_breakers_would_close_in_one_moment_come_one_after_the_other(deferrable_kva: float):
    """Story: asked 5 s apart with dwells of 60 and 55 s, both closed at once and took the island."""
    site = plant(400.0 if deferrable_kva else 560.0, deferrable_kva=deferrable_kva, dwells_s=(60.0, 55.0))
    rig = dead_and_back(site, 600.0)
    assert not died_again(rig)
    assert closed_s(rig, "essential") is not None
    assert closed_s(rig, "deferrable") is not None
    told = {a.text for r in rig.rows(DEAD_S) for a in r.decisions.alarms if a.asset == "deferrable"}
    assert any(COMES_FIRST in text for text in told) is (deferrable_kva > 0.0)


def test_set_is_not_started_for_an_inrush_of_a_feeder_that_is_too_large_a_step_for_every_set():
    """Story: two sets that take 80 kW at once; one ran on for a feeder of 108 kW that never came."""
    site = plant(480.0, restart_s=1e6)
    gensets = tuple(replace(g, step_load_kw_max=80.0) for g in site.gensets)
    rig = dead_and_back(replace(site, gensets=gensets), 900.0)
    assert closed_s(rig, "essential") is None
    assert [c.on_load for c in rig.last.decisions.condition.gensets.values()].count(True) == 1


def test_of_two_sets_that_stand_an_inrush_together_with_the_battery_one_is_kept():
    full = Inrush(stands_kva=1410.0, p_kw=100.0, of_set_kva={"gen1": 500.0, "gen2": 250.0}, waits="essential")
    layout = layout_of(plant(1000.0))
    assert full.missing_kva(layout) == 0.0
    assert full.missing_kva(layout, "gen2") == 0.0
    rest = full.without("gen2")
    assert rest.of_set_kva == {"gen1": 500.0}
    assert rest.missing_kva(layout, "gen1") > 0.0
