"""The edge's desks and stores at a disk that fails: nothing is raised, and the alarms are told what it is."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli.edge_people import People
from cli.edge_records import deaf
from cli.process_config import ProcessConfig
from connectors.stores.alarm_desk import hand_in
from connectors.stores.drop_folder import drop_file
from connectors.stores.plans import PlanReader
from connectors.stores.request_text import text_of
from dispatch.controllers.rules import Rules
from dispatch.runtime import EdgeRuntime
from ems.clock import VirtualClock
from ems.control import ControlMode
from ems.control_site import ControlParams
from ems.release import ReleaseRequest
from ems.requests import Request, Standing, SwitchMode
from tests.builders import T0, site

Told = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def config(tmp_path: Path) -> ProcessConfig:
    return ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)


def people_of(config: ProcessConfig, told: Told, *, ran_before: bool = False) -> People:
    return People(
        config, VirtualClock(T0), lambda kind, fields: told.append((kind, dict(fields))),
        ControlParams(start_mode=ControlMode.MANUAL), ran_before=ran_before,
    )  # fmt: skip


class Deaf:
    """Every port of an edge that nobody asks here."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def runtime_of() -> EdgeRuntime:
    deaf: Any = Deaf()
    return EdgeRuntime(
        site(), clock=VirtualClock(T0), device_io=deaf, plans=deaf, recorder=deaf, controller=Rules(),
        shadow=True, epoch=1,
    )  # fmt: skip


def full(*_: object, **__: object) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "name", ["open", "scandir", "unlink", "replace", "rename", "fsync", "mkdir", "chmod"]
)
def test_people_whatever_call_fails_at_the_disk_no_cycle_ends(config, told, monkeypatch, name):
    """Each kind of call in turn, from the start on and in a running edge, with something at every desk."""
    runtime, people = runtime_of(), people_of(config, told)
    for began_well in (True, False):
        with monkeypatch.context() as patch:
            if began_well:
                hand_in(config.alarm_desk, "engineer", ReleaseRequest(id=f"{name}1", let_go=True, why="work"))
                ask = SwitchMode(device=None, mode=ControlMode.OFF)
                request = Request(id=f"{name}2", session="s", epoch=1, ttl_s=9.0, reason="", ask=ask)
                drop_file(config.directory / "requests", f"{request.id}.json", text_of(request))
            patch.setattr(os, name, full)
            patch.setattr(Path, name, full, raising=False)
            people = people if began_well else people_of(config, told)
            people.serve(runtime)
            for plant in (ControlMode.AUTO, ControlMode.MANUAL):
                people.hear(runtime)
                people.keep(Standing(plant=plant))
            failing = people.failing()
        if name in ("open", "scandir"):
            assert failing
    people.keep(Standing(plant=ControlMode.AUTO))
    for _ in range(200):  # who asks is looked up beside the cycle
        people.hear(runtime)
        if not people.failing():
            break
        time.sleep(0.02)
    assert people.failing() == {}


def test_people_that_cannot_be_heard_ring(config, told, monkeypatch):
    people, runtime = people_of(config, told), runtime_of()
    assert deaf(people.failing()) == ()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", full)
        people.hear(runtime)
        (alarm,) = deaf(people.failing())
    assert alarm.key == "edge.desk.failing"
    assert "requests: cannot read its folder: No space left on device" in alarm.text
    people.hear(runtime)
    assert deaf(people.failing()) == ()


def test_people_standing_that_cannot_be_written_is_known(config, told, monkeypatch):
    people = people_of(config, told)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        people.keep(Standing(plant=ControlMode.AUTO))
        assert people.unwritten
    people.keep(Standing(plant=ControlMode.AUTO))
    assert not people.unwritten


def test_plan_reader_of_a_folder_that_is_closed_to_it_has_no_plan_and_tells_it(tmp_path, monkeypatch, told):
    reader = PlanReader(tmp_path / "plans.sqlite", on_event=lambda at, kind, f: told.append((kind, dict(f))))
    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(Path, "exists", full)
    assert (reader.current(), reader.producer_alive()) == (None, True), "nobody's death"
    assert {kind for kind, _ in told} == {"plan.store.unreadable"}


# --- a standing file that was taken away --------------------------------------------------------------------


def test_first_start_needs_no_ceremony_and_leaves_its_standing_at_once(config, told):
    first = people_of(config, told)
    assert (first.standing, told) == (None, []), "the edge begins in the mode of the site file"
    second = people_of(config, told, ran_before=True)
    assert second.standing is not None, "also where the first died before its first cycle"
    assert (second.standing.plant, second.standing.lost) == (ControlMode.MANUAL, False)


@pytest.mark.parametrize("left", ["everything else", "the historian alone", "the traces of the desk alone"])
def test_deleted_standing_is_off_and_told_though_nobody_ever_asked(config, told, left):
    """A latched stop, or a limit that a utility told, is no request of a person."""
    people_of(config, told).keep(Standing(plant=ControlMode.AUTO, stopped=True))
    (config.directory / "standing.json").unlink()
    if left == "the historian alone":
        for name in ("requests", "requests-aside"):
            (config.directory / name).rmdir()
    again = people_of(config, told, ran_before=left != "the traces of the desk alone")
    assert again.standing is not None
    assert (again.standing.plant, again.standing.lost) == (ControlMode.OFF, True)
    assert [kind for kind, _ in told] == ["standing.file.lost"]
