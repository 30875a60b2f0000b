"""12: demand that oscillates around what starts a genset."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.controllers.rules import Rules, RulesParams
from ems.control_site import ControlParams
from ems.points import GensetState
from ems.site import Site
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power

pytestmark = pytest.mark.scenario(12, left="24 h run in `make soak` alone; 3 h here")
MOST = 2  # starts an hour


def wave(mean_kw: float, swing_kw: float, period_s: float) -> Callable[[float], float]:
    return lambda t: mean_kw + swing_kw * math.sin(2.0 * math.pi * t / period_s)


def oscillating(small: Site, hours: float, dt_s: float) -> Rig:
    """An island whose net load crosses the start and stop thresholds every few minutes."""
    sets = tuple(replace(g, starts_per_h_max=MOST, min_up_s=600.0, min_down_s=300.0) for g in small.gensets)
    site = replace(small, gensets=sets)
    load: dict[str, Power] = {"critical": 60.0}
    load |= {"essential": wave(145.0, 70.0, 900.0), "deferrable": wave(100.0, 65.0, 420.0)}
    options = RigOptions(
        islanded_by="bess1", soc=0.5, horizon_s=hours * 3600.0 + 60.0, refuel_below_ratio=0.2
    )
    eager = Rules(
        params=RulesParams(
            load_start_ratio=0.7, load_stop_ratio=0.6, soc_start=0.15, soc_stop=0.2, confirm_s=5.0
        )
    )
    return Rig(site, load_kw=load, dt_s=dt_s, controller=eager, options=options).run(hours * 3600.0)


@pytest.mark.parametrize(
    ("hours", "dt_s"), [(3.0, 5.0), pytest.param(24.0, 2.0, marks=pytest.mark.soak)], ids=["3 h", "24 h"]
)
def test_oscillation_starts_per_hour_and_minimum_times_are_kept(small: Site, hours: float, dt_s: float):
    rig = oscillating(small, hours, dt_s)
    for g in rig.site.gensets:
        running = [(r.t_s, r.flows.genset_state[g.id] is GensetState.RUNNING) for r in rig.rows()]
        changes = [(t, now) for (_, was), (t, now) in pairwise(running) if was is not now]
        starts = [t for t, now in changes if now]
        assert all(sum(t <= s < t + 3600.0 for s in starts) <= MOST for t in starts)
        for (t, on), (after, _) in pairwise(changes):
            least_s = g.min_up_s if on else g.min_down_s
            assert after - t >= least_s - 2.0 * dt_s, f"{g.id} {'up' if on else 'down'} from {t} to {after}"
    asked = rig.events("genset.start.requested")
    assert len(asked) >= hours  # the demand did cross the threshold
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-6)


def test_oscillation_the_emergency_stop_waits_for_no_minimum_time(small: Site):
    """gen1 has been on load for some seconds of its half hour when the stop circuit opens."""
    demands = {"gen1.run_request": 0.0, "gen2.run_request": 0.0, "bess1.p_set_kw": 0.0}
    site = replace(small, control=ControlParams(emergency_stop=demands))
    load: dict[str, Power] = {"critical": 60.0, "essential": 160.0, "deferrable": 60.0}
    options = RigOptions(
        islanded_by="bess1", soc=0.2, judge=False
    )  # the stop ends the supply: nothing to judge
    rig = Rig(site, load_kw=load, options=options)
    rig.at(0.0, lambda r: r.tell("bus.emergency_stop", 1.0)).run(60.0)
    on_load = rig.first(0.0, lambda r: r.flows.genset_state["gen1"] is GensetState.RUNNING)
    rig.at(60.0, lambda r: r.tell("bus.emergency_stop", 0.0)).run(65.0)
    assert 60.0 - on_load.t_s < min(g.min_up_s for g in site.gensets)
    assert rig.first(60.0, lambda r: True).held["gen1.run_request"] == 0.0
    assert rig.held(lambda r: r.held["gen1.run_request"] == 0.0, 60.0)
