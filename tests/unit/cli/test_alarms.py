"""`ems alarms`: the list, and actions that reach the edge of a plant and come back as its answer."""

import re
import shlex
import threading
from contextlib import closing
from pathlib import Path

import pytest

from cli import main as cli_main
from connectors.historian.sqlite import SqliteRecorder
from connectors.stores.alarm_desk import AlarmDesk
from dispatch.alarms.machine import AlarmInput, alarms_after
from dispatch.alarms.memory import AlarmMemory
from dispatch.vocabulary import Alarm
from ems.clock import SystemClock

DEAD = Alarm(code="bus.dead", text="the site's bus has no voltage")
SILENT = Alarm(code="device.silent", asset="pv_controller", text="pv_controller gives no good reading")
GONE = Alarm(code="genset.unavailable", asset="gen1", text="gen1 cannot be used: locked out")
PAGE = Path(__file__).parents[3] / "docs" / "alarms.md"
LADDER_PAGE = PAGE.with_name("ladder.md")
TYPED = re.findall(r"^ems (alarms.*)$", PAGE.read_text(), re.M)


class Edge(threading.Thread):
    """What an edge does with its desk: hands actions to the machine, records events and the book."""

    def __init__(self, folder) -> None:
        super().__init__(daemon=True)
        self.recorder = SqliteRecorder(folder / "history.sqlite")
        self.desk = AlarmDesk(folder / "alarm-desk", lambda kind, fields: None)
        self.memory, self.cycles, self.ends = AlarmMemory(), 0, threading.Event()
        self.let_go = False
        for _ in range(5):
            self.cycle()
        self.recorder.flush()

    def cycle(self) -> None:
        at = SystemClock().now()
        self.memory, events = alarms_after(
            self.memory,
            AlarmInput(
                told=[DEAD, SILENT, GONE],
                actions=self.desk.collect(),
                at=at,
                now_s=float(self.cycles),
                dt_s=1.0,
            ),
        )
        self.cycles += 1
        let_go = self.desk.release is not None
        if let_go is not self.let_go:
            kind = "edge.release.begun" if let_go else "edge.release.ended"
            self.recorder.event(at, kind, {"who": "somebody"})
        self.let_go = let_go
        for e in events:
            self.recorder.event(at, e.kind, e.fields)
        self.recorder.alarms(self.memory.book(at))

    def run(self) -> None:
        while not self.ends.wait(0.05):
            self.cycle()


@pytest.fixture
def plant(tmp_path):
    edge = Edge(tmp_path)
    edge.start()
    with closing(edge.recorder):
        yield tmp_path
        edge.ends.set()
        edge.join()


def ems(plant, *arguments: str) -> int:
    return cli_main.main(["alarms", *arguments, "--dir", str(plant)])


def test_alarms_list_most_urgent_first_with_what_to_do(plant, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert ems(plant) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["critical", "medium", "medium"]
    assert "unacknowledged" in lines[1]
    assert "keep people off the feeders" in lines[1]


def test_alarms_acknowledged_edge_answers_with_the_new_state(plant, capsys):
    assert ems(plant, "acknowledge", "bus.dead") == 0
    assert capsys.readouterr().out == "bus.dead: acknowledged\n"


def test_alarms_shelved_beyond_its_limit_or_class_refused_with_the_reason(plant, capsys):
    assert ems(plant, "shelve", "device.silent.pv_controller", "--for", "9h", "--why", "switch replaced") == 1
    assert "at most 8 h" in capsys.readouterr().out
    assert ems(plant, "shelve", "bus.dead", "--for", "30min", "--why", "nuisance") == 1
    assert "never shelved" in capsys.readouterr().out
    assert ems(plant, "shelve", "device.silent.pv_controller", "--for", "2h", "--why", "switch replaced") == 0
    assert capsys.readouterr().out == "device.silent.pv_controller: shelved\n"


def test_alarms_removed_from_service_only_by_an_engineer(plant, capsys):
    assert ems(plant, "remove", "device.silent.pv_controller", "--why", "permit 4711") == 1
    assert ems(plant, "remove", "device.silent.pv_controller", "--why", "permit 4711", "--engineer") == 0
    assert capsys.readouterr().out.endswith("device.silent.pv_controller: out_of_service\n")


def test_alarms_nonsense_refused_in_plain_words(plant, capsys):
    assert ems(plant, "acknowledge") == 2
    assert ems(plant, "shelve", "bus.dead", "--for", "soon") == 2
    assert ems(plant, "acknowledge", "nobody.knows") == 1
    assert "there is no such alarm" in capsys.readouterr().out


def test_alarms_page_every_command_does_what_it_says(plant, capsys):
    assert len(TYPED) == 6
    for command in TYPED:
        assert ems(plant, *shlex.split(command)[1:]) == 0, command
    out = capsys.readouterr().out
    assert "device.silent.pv_controller: shelved" in out
    assert "genset.unavailable.gen1: out_of_service" in out


def test_alarms_no_edge_ever_ran_says_so(tmp_path, capsys):
    assert ems(tmp_path) == 0
    assert "no edge has recorded alarms here yet" in capsys.readouterr().out
    assert ems(tmp_path, "acknowledge", "bus.dead") == 2
    assert "has the edge of this folder ever run" in capsys.readouterr().err


def test_release_page_every_command_reaches_the_edge(plant, capsys):
    commands = re.findall(r"^ems (release.*)$", LADDER_PAGE.read_text(), re.M)
    for command, answer in zip(commands, ["begun", "ended"], strict=True):
        assert cli_main.main([*shlex.split(command), "--dir", str(plant)]) == 0
        assert capsys.readouterr().out == f"{answer}\n"


def test_release_without_a_reason_is_refused(plant, capsys):
    assert cli_main.main(["release", "--dir", str(plant)]) == 2
    assert "--why is needed" in capsys.readouterr().err
