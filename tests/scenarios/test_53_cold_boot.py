"""53: the edge starts while its devices are slow to answer, or half of them are missing."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.edge_records import before, tell_site, unproven
from cli.process_config import ProcessConfig
from cli.writing_permit import Permit, permit
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.sqlite_file import EPOCH
from connectors.stores.commissioning import write_record
from ems.clock import VirtualClock
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.scenarios.commissioning import scaled, whole_record

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


def test_cold_boot_in_shadow_a_changed_map_is_told(demo: Site, tmp_path: Path):
    """Commissioned, then somebody changed a scale: the edge reads on, writes nothing, and rings."""
    write_record(tmp_path / "commissioning.json", whole_record(demo))
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    assert permit(config, demo) == Permit()
    other = scaled(demo, "bess1.p_set_kw", 10.0)
    doubts = permit(config, other).doubts
    assert ["connections.pcs: found changed since commissioning" in d for d in doubts] == [True]
    rig = Rig(other, load_kw=LOAD, pv_kw=150.0, options=RigOptions(shadow=True))
    rig.runtime._beside = lambda: unproven(doubts)
    rig.run(10.0, judge=False)  # no heartbeat is written either
    assert rig.after(0.0, lambda row: row.alarmed("edge.site.unproven")) <= 2.0
    assert not any(row.commands for row in rig.rows())
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
