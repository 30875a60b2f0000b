"""The meter at the POI stands still while batteries, gensets or PV move: lost, and nothing that is not."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dispatch.controllers.rules import Rules
from dispatch.observing.condition import Observed, observe
from dispatch.protections.balancing_memory import MeterWatch
from dispatch.protections.poi_meter import hold_load, watch_meter
from dispatch.state import ObserverMemory, Written
from ems.frozen import replace as changed
from ems.site import GridMode
from tests.builders import T0
from tests.unit.dispatch.lagging import Delays, LaggingLoop
from tests.unit.dispatch.test_condition import LAYOUT, snapshot

P_SET = "bess1.p_set_kw"
FEEDERS = frozenset({"critical.p_kw", "essential.p_kw", "deferrable.p_kw"})
LOAD_KW = 150.0
Power = Callable[[float], float]
LEAST_KW = 14.0  # 4 % of 350 kW, the POI's rating


@dataclass
class Bench:
    """The watch with one battery, a meter that is told, and feeders that are not read unless said."""

    dt_s: float = 1.0
    written: bool = True
    mode: GridMode = GridMode.GRID_TIED
    t: float = 0.0
    watch: MeterWatch = field(default_factory=MeterWatch)
    seen: Observed | None = None

    def look(self, grid_kw: float | None, bess_kw: float, load_kw: float | None = None) -> Observed:
        parts = dict.fromkeys(FEEDERS, None if load_kw is None else load_kw / 3.0)
        told = {"bess1.p_kw": bess_kw, "pv1.p_kw": 0.0, "gen1.p_kw": 0.0, "grid1.p_kw": grid_kw, **parts}
        shot = snapshot(T0, self.t, **told)
        _, observed = observe(LAYOUT, ObserverMemory(), shot, {}, self.dt_s)
        observed = changed(observed, condition=changed(observed.condition, grid_mode=self.mode))
        written = {P_SET: Written(value=bess_kw, at_s=self.t, known=True)} if self.written else {}
        self.watch, observed = watch_meter(LAYOUT, self.watch, shot, observed, written, self.dt_s)
        self.watch, self.seen = hold_load(self.watch, observed)
        self.t += self.dt_s
        return self.seen

    def run(self, seconds: float, grid_kw: Power, bess_kw: Power) -> bool:
        """Whether the meter was lost meanwhile; both powers by the time since now."""
        t0, lost = self.t, False
        while self.t < t0 + seconds:
            lost |= not self.look(grid_kw(self.t - t0), bess_kw(self.t - t0)).meter_ok
        return lost


def still(kw: float) -> Power:
    return lambda _: kw


def lose(bench: Bench) -> float:
    """Stand still at 20 kW while the battery goes up by 2 kW in each second; how long that took [s]."""
    bench.run(5.0, lambda t: 20.5 + 0.001 * t, still(130.0))
    began_s = bench.t
    while bench.look(20.0, 130.0 + 2.0 * (bench.t - began_s)).meter_ok:
        assert bench.t - began_s < 60.0
    return bench.t - began_s


def test_meter_that_does_not_answer_is_lost_and_the_load_is_held_meanwhile():
    bench = Bench()
    took_s = lose(bench)
    assert took_s == pytest.approx(LEAST_KW / 2.0 + 8.0, abs=3.0), "the move, then 6 s and a cycle"
    assert bench.seen is not None
    assert bench.seen.meter_still
    assert bench.seen.condition.grid_p_kw is None
    assert "grid1.p_kw" in bench.seen.substituted
    again = Bench()
    again.run(5.0, lambda t: 20.5 + 0.001 * t, still(130.0))
    loads = [again.look(20.0, 130.0 + 2.0 * k).power.load_kw for k in range(14)]
    assert loads[-1] == loads[-4] < loads[0] + LEAST_KW + 6.0, "no integrator while it is in doubt"


def test_meter_that_answers_late_or_coarsely_is_not_lost():
    late = Bench()
    late.run(20.0, still(20.0), still(100.0))
    assert not late.run(60.0, lambda t: 20.0 if t < 3.0 else -40.0, lambda t: 100.0 if t < 1.0 else 160.0)
    younger = Bench()  # the meter shows it, and the source's own reading comes 2 s later
    younger.run(20.0, still(20.0), still(100.0))
    assert not younger.run(60.0, lambda t: -40.0, lambda t: 100.0 if t < 2.0 else 160.0)
    coarse = Bench()
    coarse.run(30.0, lambda t: 20.0 + 5.0 * (t % 2.0 > 0.5), still(100.0))  # its steps are 5 kW: 8 of them
    assert not coarse.run(60.0, still(20.0), lambda t: 100.0 + min(t, 38.0))


def test_meter_of_a_plant_at_rest_is_not_lost_and_a_move_that_went_back_is_forgotten():
    rest = Bench()
    assert not rest.run(600.0, still(20.0), lambda t: 100.0 + 5.0 * math.sin(t))
    spike = Bench()
    spike.run(20.0, still(20.0), still(100.0))
    assert not spike.run(60.0, still(20.0), lambda t: 200.0 if 5.0 <= t < 8.0 else 100.0)


def test_meter_beside_feeders_that_moved_as_far_as_the_sources_has_nothing_to_answer():
    bench = Bench()
    for k in range(60):
        assert bench.look(20.0, 100.0 + k, 120.0 + k).meter_ok
    assert not all(bench.look(20.0, 160.0 + k, 179.0).meter_ok for k in range(40))


@pytest.mark.parametrize(
    "bench",
    [Bench(written=False), Bench(mode=GridMode.ISLANDED), Bench(dt_s=5.0)],
    ids=["not ours", "island", "long cycles"],
)
def test_meter_is_not_judged_where_nothing_is_commanded_or_seen(bench: Bench):
    assert not bench.run(200.0, still(20.0), lambda t: 100.0 + t)


def test_meter_that_answers_what_its_loss_did_is_believed_at_once_and_later_losses_need_more():
    bench = Bench()
    lose(bench)
    at_kw = bench.watch.moves[-1].gave_kw
    assert not bench.look(20.0, 0.0).meter_ok, "it still reads the same"
    assert bench.look(20.0 + at_kw, 0.0).meter_ok
    lose(bench)
    changes = 0
    while not bench.look(20.0 + at_kw + 0.1 * changes, 0.0).meter_ok:
        changes += 1
    assert changes + 1 == 6, "three changes, doubled"


def test_meter_lost_stays_so_unread_and_in_an_island():
    bench = Bench()
    lose(bench)
    assert not bench.look(None, 0.0).meter_ok
    bench.mode = GridMode.ISLANDED
    assert not bench.look(20.0, 0.0).meter_ok
    bench.mode = GridMode.GRID_TIED
    assert not bench.look(20.0, 0.0).meter_ok
    assert not bench.look(20.0 + 140.0, 0.0).meter_ok, "what it read in between is no answer"
    assert not bench.look(161.0, 0.0).meter_ok
    assert bench.look(162.0, 0.0).meter_ok


class Whole(LaggingLoop):
    """Its meter at the POI reads whole kilowatts."""

    def _reading(self, point: str) -> float:
        value = super()._reading(point)
        return float(round(value)) if point == "grid1.p_kw" else value


@pytest.mark.parametrize("rate_kw_s", [0.5, 3.0])
def test_meter_of_whole_kilowatts_beside_a_steady_ramp_of_load_is_not_lost(rate_kw_s: float):
    """The export cap is held so well that the reading stands still: held for a moment, the load shows."""
    loop = Whole(Rules(), Delays(command_s={}, reading_s={"grid1": 1.0}), soc=0.9)
    loop.world.silent = FEEDERS
    loop.world.pv_kw = {"pv1": 0.0}
    start = dict(loop.world.demand_kw)
    doubts = 0

    def ramp(x: object) -> None:
        nonlocal doubts
        more_kw = min(120.0, rate_kw_s * max(0.0, loop.t - 30.0))
        loop.world.demand_kw = {**start, "essential": start["essential"] + more_kw}
        doubts += loop.edge.balancing.meter.doubt is not None

    loop.run(150.0, each=ramp)
    assert doubts > 0
    assert all("grid.meter.lost" not in {a.code for a in d.alarms} for _, d, _ in loop.log)
