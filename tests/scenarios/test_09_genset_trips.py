"""9: a genset trips in an island that gensets carry."""

import pytest

from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(9)
AT_S = 60.0
LOAD = {"critical": 100.0, "essential": 180.0, "deferrable": 100.0}


def island(
    small: Site, load_kw: dict[str, float], on_kw: dict[str, float], reset_s: float | None = None
) -> Rig:
    """Both sets carry what gen2 alone cannot; the battery follows and is nearly empty."""
    site = following_only(small)
    forming = next(iter(on_kw))
    options = RigOptions(
        soc=0.12, islanded_by=forming, gensets_on_kw=on_kw, horizon_s=3000.0, reset_s=reset_s
    )
    trip = Fault(kind="genset_trips", target=forming, from_s=AT_S, until_s=AT_S + 5.0)
    return Rig(site, load_kw=load_kw, faults=(trip,), options=options)


@pytest.fixture(scope="module")
def both(small: Site) -> Rig:
    return island(small, LOAD, {"gen1": 250.0, "gen2": 130.0}).run(AT_S + 120.0)


def test_trip_reserve_is_that_without_the_set_in_one_cycle(both: Rig):
    def held_kw(t_s: float) -> float:
        return both.first(t_s, lambda r: True).decisions.reserve_held_kw

    assert held_kw(AT_S - 2.0) - held_kw(AT_S + 1.0) > 50.0
    seen_s = both.after(AT_S, lambda r: "locked_out" in r.decisions.condition.gensets["gen1"].states)
    assert seen_s <= 1.0
    assert (
        both.after(
            AT_S,
            lambda r: bool(r.decisions.events) and "genset.tripped" in {e.kind for e in r.decisions.events},
        )
        <= 1.0
    )


def test_trip_deficit_is_shed_within_two_seconds(both: Rig):
    rated_kw = next(g.p_rated_kw for g in both.site.gensets if g.id == "gen2")
    assert sum(LOAD.values()) > rated_kw  # there is a deficit
    shed_s = both.after(
        AT_S, lambda r: any(r.wrote(f"{f}.close_request") == 0.0 for f in ("essential", "deferrable"))
    )
    assert shed_s <= 2.0


def test_trip_set_is_not_commanded_before_it_was_reset(both: Rig):
    assert not any(r.wrote("gen1.run_request") == 1.0 for r in both.rows(AT_S + 1.0))


def test_trip_next_set_is_asked_within_two_seconds(small: Site):
    """gen1 alone carries the island; gen2 stands."""
    rig = island(small, {"critical": 90.0, "essential": 60.0, "deferrable": 40.0}, {"gen1": 190.0})
    rig.run(AT_S + 120.0)
    confirm_s = rig.site.grid.supervision.start_confirm_s
    asked_s = rig.after(AT_S, lambda r: r.wrote("gen2.run_request") == 1.0)
    assert asked_s <= 2.0 + confirm_s  # the bus is dead: that is confirmed first
    assert rig.last.decisions.condition.forming == "gen2"


def test_trip_set_that_somebody_has_reset_is_used_again(small: Site):
    rig = island(small, LOAD, {"gen1": 250.0, "gen2": 130.0}, reset_s=300.0).run(AT_S + 1500.0)
    reset_s = AT_S + 300.0
    first = rig.after(AT_S + 1.0, lambda r: r.wrote("gen1.run_request") == 1.0)
    assert first >= reset_s - AT_S - 2.0
    assert rig.last.decisions.condition.gensets["gen1"].on_load
