"""Readings and writes in memory agree with what the wire makes of them."""

import pytest

from ems.clock import VirtualClock
from ems.commands import Cause, Command, WriteOutcome
from ems.site_schema import load_site
from ems.telemetry import Quality
from sim.direct_io import WorldIO
from sim.drive import drive
from sim.world import World
from tests.builders import T0
from tests.unit.sim.sim_builders import scenario

LOADS = {"critical": 60.05, "essential": 90.0, "deferrable": 50.0}


@pytest.fixture(scope="module")
def mapped(project_root):
    return load_site(project_root / "sites" / "demo" / "site.yaml")


def opened(plant=None) -> tuple[World, WorldIO]:
    world = World(scenario(plant=plant, load_kw=LOADS))
    return world, WorldIO(world, VirtualClock(T0))


def command(point: str, value: float) -> Command:
    return Command(
        point=point, value=value, cause=Cause.PLAN, reason="test", owner="plan", plan_id=None,
        epoch=1, seq=1, limits_hash="", decided_at=T0, decided_s=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("point", "sent", "arrived"),
    [
        ("bess1.p_set_kw", 123.456, 123.5),  # s32, 100 W a count, charging positive
        ("pv1.p_limit_kw", 350.3, 350.0),  # u16, 0.7 kW a count
        ("gen1.p_set_kw", 200.1, 200.10000610351562),  # f32
        ("essential.close_request", 0.0, 0.0),  # Boolean
    ],
)
def test_write_command_arrives_as_its_registers_hold_it(mapped, point, sent, arrived):
    world, io = opened(mapped)
    for _ in range(2):  # the second time it is remembered
        (result,) = drive(io.write([command(point, sent)]))
        assert result.outcome is WriteOutcome.CONFIRMED
        assert world.setpoints.values[point] == pytest.approx(arrived, rel=1e-12)
    readings = {r.point: r for r in drive(io.read_all())}
    assert readings[point].value == pytest.approx(arrived, rel=1e-12)


@pytest.mark.parametrize("value", [9999.0, float("nan"), float("inf")])
def test_write_value_that_does_not_fit_is_not_sent(mapped, value):
    world, io = opened(mapped)
    (result,) = drive(io.write([command("bess1.p_set_kw", value)]))
    assert result.outcome is WriteOutcome.NOT_SENT
    assert "bess1.p_set_kw" not in world.setpoints.values


def test_read_all_values_have_the_resolution_of_their_registers(mapped):
    world, io = opened(mapped)
    world.advance(1800.0)
    readings = {r.point: r for r in drive(io.read_all())}
    soc, pv_kw = readings["bess1.soc"].value, readings["pv1.p_kw"].value
    assert soc is not None
    assert pv_kw is not None
    assert soc == round(soc / 0.001) * 0.001 != world.readings()["bess1.soc"]
    assert pv_kw == round(pv_kw / 0.1) * 0.1 != world.readings()["pv1.p_kw"]
    assert {r.quality for r in readings.values()} == {Quality.GOOD}


def test_read_all_site_without_connections_reads_the_plant_as_it_is():
    world, io = opened()
    world.advance(900.0)
    truth = world.readings()
    readings = drive(io.read_all())
    assert {r.point: r.value for r in readings if r.point in truth} == {
        r.point: truth[r.point] for r in readings if r.point in truth
    }
