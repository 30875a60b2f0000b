"""53: the edge starts while its devices are slow to answer, or half of them are missing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.day import choose_ports
from cli.edge_process import serve
from cli.edge_records import before, tell_site
from cli.process_config import ProcessConfig
from cli.writing_permit import Permit, permit
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.sqlite_file import EPOCH
from connectors.stores.commissioning import write_record
from ems.clock import SystemClock, VirtualClock, wall_s, wall_sleep
from ems.errors import ConfigError
from ems.site import GridMode, Site
from ems.site_schema import load_site
from sim.faults import Fault
from sim.rig import Rig
from sim.rig_scenario import MONDAY, rig_scenario
from sim.servers import PlantServers, serve_plant
from sim.world import World
from sim.writes import WriteVerdict
from tests.scenarios.commissioning import scaled, whole_record
from tests.scenarios.signed_place import Place, placed

pytestmark = pytest.mark.scenario(53)
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def silent(asset: str, until_s: float) -> Fault:
    return Fault(kind="device_silent", target=asset, from_s=0.0, until_s=until_s)


def written(rig: Rig, until_s: float, from_s: float = 0.0) -> set[str]:
    return {c.point.partition(".")[0] for r in rig.rows(from_s, until_s) for c in r.commands}


def test_cold_boot_slow_witnesses_nothing_is_written_before_the_mode_is_known(small: Site):
    """The meter comes after 20 s, the bus after 25 s: until then nobody knows what the plant is."""
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0, faults=(silent("grid1", 20.0), silent("bus", 25.0)))
    rig.tell("bess1.state", None)
    rig.at(30.0, lambda r: r.tell_truth("bess1.state")).run(90.0)
    known_s = rig.first(0.0, lambda r: r.decisions.mode is not GridMode.UNKNOWN).t_s
    assert known_s >= 20.0
    assert written(rig, known_s) == set()
    assert {"bess1", "pv1"} <= written(rig, 90.0, known_s)


def test_cold_boot_until_the_mode_is_known_no_heartbeat_is_written_either(demo: Site):
    """It would tell a device that somebody is in command, who knows nothing yet."""
    faults = (silent("grid1", 20.0), silent("bus", 25.0))
    rig = Rig(demo, load_kw=LOAD, pv_kw=150.0, faults=faults)
    rig.tell("bess1.state", None)
    rig.at(30.0, lambda r: r.tell_truth("bess1.state")).run(60.0)
    known_s = rig.first(0.0, lambda r: r.decisions.mode is not GridMode.UNKNOWN).t_s
    assert known_s >= 20.0
    assert written(rig, known_s) == set()
    assert rig.first(0.0, lambda r: r.wrote("bess1.heartbeat") is not None).t_s <= 31.0
    assert {"bess1", "pv1"} <= written(rig, 60.0, known_s)


def test_cold_boot_heartbeat_to_a_device_begins_when_it_has_been_seen_whole(demo: Site):
    """The mode is known at once; of the battery everything but its charge limit comes."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=150.0)
    rig.tell("bess1.p_charge_kw_max", None)
    rig.at(20.0, lambda r: r.tell_truth("bess1.p_charge_kw_max"))
    rig.at(40.0, lambda r: r.tell("bess1.p_charge_kw_max", None)).run(60.0)
    beats_s = [r.t_s for r in rig.rows() if r.wrote("bess1.heartbeat") is not None]
    assert beats_s[0] == 20.0
    assert beats_s[-1] == 59.0  # what is lost later is told, and the device still hears from us


def test_cold_boot_controller_of_two_sets_is_fed_while_one_of_them_is_written(demo: Site):
    """It falls back as a whole when the heartbeat stays away; of one set nobody hears its state."""
    one = next(c for c in demo.connections if c.id == "gen1_controller")
    two = next(c for c in demo.connections if c.id == "gen2_controller")
    like = next(m for m in one.points if m.point == "gen1.run_request")
    beat = replace(like, point="gen1.heartbeat", address="60000", low=0.0, high=65535.0)
    moved = tuple(replace(m, address=str(10_000 + int(m.address))) for m in two.points)
    both = replace(one, points=(*one.points, *moved, beat), watchdog_point="gen1.heartbeat")
    others = tuple(c for c in demo.connections if c not in (one, two))
    rig = Rig(replace(demo, connections=(*others, both)), load_kw=LOAD)
    rig.tell("gen1.state", None)
    rig.run(60.0)
    asked = {c.point for r in rig.rows() for c in r.commands if c.point.startswith("gen")}
    assert "gen1.run_request" not in asked
    assert {"gen2.run_request", "gen1.heartbeat"} <= asked


def test_cold_boot_half_of_the_devices_missing_only_the_others_are_written(small: Site):
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0, faults=(silent("bess1", 60.0), silent("gen2", 1e4)))
    rig.run(120.0)
    assert "pv1" in written(rig, 60.0)
    assert written(rig, 60.0).isdisjoint({"bess1", "gen2"})
    assert "bess1" in written(rig, 120.0, 60.0)
    assert "gen2" not in written(rig, 120.0)


def test_cold_boot_device_without_its_limits_is_not_written_even_to_protect(small: Site):
    """It answers, but not how much it may: whatever is written would be a guess."""
    rig = Rig(small, load_kw=LOAD, pv_kw=300.0)
    rig.tell("bess1.p_charge_kw_max", None)
    rig.at(40.0, lambda r: r.tell_truth("bess1.p_charge_kw_max")).run(60.0)
    assert "bess1" not in written(rig, 40.0)
    assert "pv1" in written(rig, 40.0)
    assert "bess1" in written(rig, 60.0, 40.0)


def test_cold_boot_first_writes_take_over_without_a_step(small: Site):
    """The battery charges with what the PV gives over the load: as it was found, it goes on."""
    rig = Rig(small, load_kw=LOAD, pv_kw=150.0).run(30.0)
    first = next(r for r in rig.rows() if r.commands)
    assert first.t_s == 0.0  # everything answers at once: nothing is waited for
    assert rig.held(lambda r: r.flows.grid_closed and r.flows.grid_p_kw > -8.0, 3.0)


def test_cold_boot_a_changed_map_is_refused_and_in_shadow_told(demo: Site, tmp_path: Path):
    """Commissioned, then somebody changed a scale: an edge that shall write does not begin, by name."""
    write_record(tmp_path / "commissioning.json", whole_record(demo))
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    assert permit(config, demo) == Permit()
    other = scaled(demo, "bess1.p_set_kw", 10.0)
    doubts = permit(config, other).doubts
    assert ["connections.pcs: found changed since commissioning" in d for d in doubts] == [True]
    writing = replace(config, shadow=False, record=tmp_path / "commissioning.json")
    assert permit(writing, demo).doubts == ()
    with pytest.raises(ConfigError, match=r"connections\.pcs: found changed since commissioning"):
        permit(writing, other)
    config.directory.joinpath("commissioning.json").write_text("{}")
    assert "found other keys" in permit(config, demo).doubts[0]


def test_cold_boot_what_changed_since_the_last_start_is_in_the_audit(demo: Site, tmp_path: Path):
    """Without any record of commissioning too."""
    file = tmp_path / "history.sqlite"

    def start(site: Site) -> None:
        recorder = SqliteRecorder(file, clock=VirtualClock(MONDAY))
        past = before(SqliteHistoryReader(file))
        tell_site(lambda kind, fields: recorder.event(MONDAY, kind, fields), past, site, Permit())
        assert recorder.close()

    for site in (demo, demo, scaled(demo, "bess1.p_set_kw", 10.0)):
        start(site)
    told = SqliteHistoryReader(file).events(EPOCH, datetime.max.replace(tzinfo=UTC), "edge.site.changed", 10)
    assert [e.fields["changed"] for e in told] == [["connections.pcs"]]


@asynccontextmanager
async def plant_on_the_wire(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ProcessConfig, list[str]]]:
    """The plant of a site file behind real servers, and every point that anybody writes."""
    site = load_site(place.site)
    ports, _ = choose_ports(site, 0, free=True)
    config = ProcessConfig(site=place.site, directory=place.home, ports=ports, cycle_s=0.2)
    start = rig_scenario(site, load_kw=LOAD, pv_kw=150.0, mains=(), faults=(), start=MONDAY, horizon_s=3600.0)
    world, written = World(start), []
    write = world.write

    def noted(point: str, value: float) -> WriteVerdict:
        written.append(point)
        return write(point, value)

    monkeypatch.setattr(world, "write", noted)
    addresses = {c: ("127.0.0.1", port) for c, port in ports.items()}
    async with PlantServers(world, site.connections, addresses=addresses) as servers:
        loop = asyncio.create_task(serve_plant(world, SystemClock(), servers, period_s=lambda _: 0.05))
        yield config, written
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


@pytest.mark.timeout(120)
async def test_cold_boot_the_edge_of_a_changed_map_writes_nothing_no_heartbeat_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The edge process as it is started: in shadow it reads and rings, else it refuses before it reads.

    The same edge where nothing is in its way writes setpoints and heartbeat within seconds.
    """
    place = placed(tmp_path)
    path = tmp_path / "maps" / "bess_pcs.yaml"
    text = path.read_text()
    path.write_text(text.replace("type: s32, scale: 100, sign: -1, unit: W, range: [-600 kW", "type: s32, "
                                 "scale: 10, sign: -1, unit: W, range: [-600 kW"))  # fmt: skip
    assert path.read_text() != text
    async with plant_on_the_wire(place, monkeypatch) as (config, written):
        with pytest.raises(ConfigError, match=r"connections\.pcs: found changed since commissioning"):
            await serve(replace(config, shadow=False, record=place.record, trust=place.trust))
        assert written == []
        rung = await until(config, lambda: "edge.site.unproven" in alarms_told(config))
        assert rung
        assert written == []
        assert await until(
            replace(config, shadow=False),
            lambda: {"bess1.heartbeat", "bess1.p_set_kw", "pv1.p_limit_kw"} <= set(written),
        )


async def until(config: ProcessConfig, holds: Callable[[], bool]) -> bool:
    """Run the edge until something holds, for 30 s at most; it is stopped as a service is."""
    edge = asyncio.create_task(serve(config))
    until_s = wall_s() + 30.0
    while not (done := holds()) and wall_s() < until_s and not edge.done():
        await wall_sleep(0.2)
    edge.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await edge
    return done


def alarms_told(config: ProcessConfig) -> str:
    """What rings by the newest status of the edge, once it has decided some cycles."""
    row = SqliteHistoryReader(config.history).statuses().get("edge")
    beat = None if row is None else row.fields.get("heartbeat")
    return str(row.fields["alarms"]) if row is not None and isinstance(beat, int) and beat >= 20 else ""
