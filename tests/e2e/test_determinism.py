"""The same seed gives the same table twice, and sockets change nothing that counts."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cli.result_table import compare, result_rows
from sim.result import RunResult, load_result
from tests.e2e.days import Lived, around_outage, demo_day, live_through
from tests.e2e.live import LiveDemo
from tests.e2e.virtual import virtual

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).resolve().parents[2]
OF_THE_MACHINE = ("planning time",)


def table(result: RunResult) -> list[tuple[object, ...]]:
    """The rows of the printed table, without the times this machine took."""
    rows = result_rows(compare(around_outage().site, [result]))
    return [(r.label, r.unit, r.values) for r in rows if not r.label.startswith(OF_THE_MACHINE)]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """The quiet half hour a second time: other ports, other process ids, another hash seed."""
    return live_through(tmp_path_factory.mktemp("again"), around_outage())


@pytest.mark.parametrize("controller", ["rules_tou", "mpc"])
def test_virtual_run_same_seed_gives_the_same_everything(controller: str):
    """Two processes with different hash seeds, side by side: an order of a set would show."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.virtual", controller],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    first, second = (json.loads(run.communicate()[0]) for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert first["counters"]["duration_s"] == 1800.0
    assert first == second


def test_socket_run_same_seed_gives_the_same_table_and_trace(quiet: Lived, again: Lived):
    assert quiet.run.ports != again.run.ports
    assert asdict(quiet.result.counters) == asdict(again.result.counters)
    assert table(quiet.result) == table(again.result)
    assert quiet.result.trace.t_s.tolist() == again.result.trace.t_s.tolist()
    assert np.array_equal(quiet.result.trace.values, again.result.trace.values, equal_nan=True)
    assert np.array_equal(quiet.result.edge.values, again.result.edge.values, equal_nan=True)


def test_socket_run_every_reading_and_command_is_the_same_again(quiet: Lived, again: Lived):
    for point in quiet.reader.points():
        one, two = quiet.series(point), again.series(point)
        assert [(t, x.value, x.quality) for t, x in one] == [(t, x.value, x.quality) for t, x in two], point
    mine, theirs = ([(t, c.point, c.value, c.reason) for t, c in x.commands()] for x in (quiet, again))
    assert mine == theirs


def test_socket_run_and_virtual_run_cost_the_same(quiet: Lived):
    """Within 0.5 %: on the one side, readings have passed through registers of 0.1 kW."""
    site = around_outage().site
    sockets, clock = compare(site, [quiet.result, virtual("mpc", around_outage())])
    assert sockets.costs.total_with_voll_cost == pytest.approx(clock.costs.total_with_voll_cost, rel=0.005)
    assert sockets.run.counters.import_kwh == pytest.approx(clock.run.counters.import_kwh, rel=0.005, abs=0.5)
    assert sockets.run.counters.unserved_kwh == pytest.approx(clock.run.counters.unserved_kwh, abs=1e-3)


@pytest.fixture(scope="module")
def virtual_day() -> RunResult:
    """The demo day on a virtual clock, with the planner alive all the time."""
    return virtual("mpc", demo_day())


def test_virtual_demo_day_has_the_cycles_and_plans_of_the_demo(virtual_day: RunResult):
    """Also: it is made while the demo still runs, for the test below."""
    assert virtual_day.plans.count >= 96
    assert virtual_day.counters.duration_s == 86400.0


def test_demo_day_over_sockets_and_on_a_virtual_clock_agree(finished_demo: LiveDemo, virtual_day: RunResult):
    """Within 0.5 % in cost, although the demo kills its planner for ten minutes."""
    result = load_result(finished_demo.out / "mpc")
    sockets, clock = compare(demo_day().site, [result, virtual_day])
    assert sockets.costs.total_cost == pytest.approx(clock.costs.total_cost, rel=0.005)
    assert sockets.run.counters.import_kwh == pytest.approx(clock.run.counters.import_kwh, rel=0.005)
    assert sockets.costs.fuel_l == pytest.approx(clock.costs.fuel_l, rel=0.005, abs=0.5)
