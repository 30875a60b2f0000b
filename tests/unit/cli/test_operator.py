"""`ems operator`: what people type reaches the edge's tick through the desk, and its answer comes back."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cli import main as cli_main
from cli import operator_desk
from cli.edge_status import edge_status
from connectors.historian.sqlite import SqliteRecorder
from connectors.stores.request_desk import RequestDesk
from dispatch.authority.view import Look, counts, shown
from dispatch.vocabulary import Decisions
from ems.clock import VirtualClock
from ems.control import ControlMode, Role
from ems.control_site import ControlParams, Interlock, InterlockEffect, LimitKind, UtilityLimit
from tests.builders import T0
from tests.scenarios.poi import with_breaker
from tests.unit.dispatch.controlled import P_SET, Steady
from tests.unit.dispatch.loop import Loop, site_with

PAGE = Path(__file__).parents[3] / "docs" / "authority.md"
TYPED = re.findall(r"^ems (operator .*)$", PAGE.read_text(), re.M)
ALL = frozenset({Role.OPERATOR, Role.ENGINEER, Role.UTILITY})
CONTROL = ControlParams(
    users={"ann": ALL, "bob": frozenset({Role.OPERATOR}), "guest": frozenset({Role.VIEWER})},
    transfer_ramp_s=0.0,
    limits=(UtilityLimit(id="dso", kind=LimitKind.EXPORT, watchdog_s=60.0, on_loss_kw=0.0),),
    interlocks=(
        Interlock(
            id="door",
            point="room.door",
            low=0.5,
            high=None,
            effects=(InterlockEffect(point="pv1.p_limit_kw", low=None, high=None),),
            cause="the door is open",
        ),
    ),
)


class Edge:
    """The edge's tick over the physics, its desk and its historian; one cycle whenever it is told to."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.who = directory, "ann"
        self.recorder = SqliteRecorder(directory / "history.sqlite", sync=False)
        self.loop = Loop(Steady(), plant_site=with_breaker(site_with(control=CONTROL)))
        self.clock = VirtualClock(T0)
        self.desk = RequestDesk(
            directory,
            clock=self.clock,
            told=lambda kind, fields: self.recorder.event(self.loop.now, kind, fields),
            name_of=lambda uid: self.who,
        )
        self.deaf = self.shadow = False
        for _ in range(3):
            self.cycle()

    def cycle(self) -> Decisions:
        self.clock.advance(max(0.0, self.loop.t - self.clock.monotonic_s()))
        self.loop.inbox += [] if self.deaf else self.desk.collect()
        decisions = self.loop.run(1.0)
        for event in decisions.events:
            self.recorder.event(decisions.at, event.kind, event.fields)
        memory = self.loop.edge.authority
        look = Look(layout=self.loop.setup.layout, memory=memory, at=decisions.at, now_s=self.loop.t)
        told = {
            "epoch": 1,
            "held_safe": self.loop.edge.held_safe,
            "requests_refused": self.desk.wrong,
            "standing_unwritten": False,
            **counts(memory),
        }
        self.recorder.status(edge_status(decisions, 1.0, told, shadow=self.shadow, authority=shown(look)))
        assert self.recorder.flush()
        return decisions

    def hold_safe(self) -> None:
        self.loop.edge = replace(self.loop.edge, held_safe=True)
        self.cycle()


Ems = Callable[..., int]


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """Whoever waits for an answer lets the edge make a cycle."""
    one = Edge(tmp_path)
    times = iter(range(10_000))

    async def cycle(seconds: float) -> None:
        one.cycle()

    monkeypatch.setattr(operator_desk, "wall_sleep", cycle)
    monkeypatch.setattr(operator_desk, "wall_s", lambda: float(next(times)))
    monkeypatch.setenv("COLUMNS", "250")
    with closing(one.recorder):
        yield one


@pytest.fixture
def ems(edge: Edge) -> Ems:
    return lambda *words: cli_main.main(["operator", *words, "--dir", str(edge.directory)])


def token(text: str) -> str:
    found = re.search(r"ems operator \w+ ([0-9a-f]{8,12})", text)
    assert found, text
    return found[1]


def test_operator_page_every_command_does_what_it_says(edge, ems, capsys):
    """In the order of the page, TOKEN being what the answer before it said; a second person confirms."""
    edge.loop.world.inputs["room.door"] = 1.0
    waits = {"limit import none", "bypass door"}
    last = ""
    for command in TYPED:
        words = shlex.split(command)[1:]
        if words[0] == "mode" and words[1] == "off":
            assert ems(*words) == 0
            assert ems("mode", "auto") == 0, "and on again, for the rest of the page"
            continue
        if words[0] == "resume":
            edge.hold_safe()
        if words[-1] == "TOKEN":
            words[-1] = token(last)
        edge.who = "bob" if words[0] == "confirm" else "ann"
        expected = 3 if any(" ".join(words).startswith(w) for w in waits) else 0
        code, last = ems(*words), capsys.readouterr().out
        assert code == expected, f"{command}: {last}"
    authority = edge.loop.edge.authority
    assert "import" not in authority.limits
    assert authority.told["dso"].value_kw == 200.0
    assert f"{P_SET}.high" in authority.loosened
    assert not edge.loop.edge.held_safe
    assert len(TYPED) >= 16


def test_operator_set_without_the_mode_is_refused_and_in_manual_the_device_holds_it(edge, ems, capsys):
    assert ems("set", P_SET, "-40") == 1
    assert "refused (no_right): ann" in capsys.readouterr().out
    assert ems("mode", "manual", "bess1") == 0
    assert ems("set", P_SET, "-40", "--for", "90s", "--why", "cell check") == 0
    assert capsys.readouterr().out.endswith(f"done: {P_SET} = -40 for 90 s\n")
    edge.cycle()
    assert edge.loop.set[P_SET] == -40.0
    assert ems("status") == 0
    text = capsys.readouterr().out
    for part in (
        "plant: auto",
        "emergency stop: closed",
        "ann: -40",
        "cell check",
        "its own, chosen by ann",
        "reserve: ",
        "if lost: ",
    ):
        assert part in text, text


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("mode", "manual", "bess9"), 1, "allowed: bess1"),
        (("set", "bess1.q", "1"), 1, "allowed: bess1.p_set_kw"),
        (("limit", "weather", "1"), 1, "allowed: import"),
        (("limit", "import", "-5"), 1, "allowed: 0 to"),
        (("bypass", "window", "--for", "1h"), 1, "allowed: door"),
        (("tell", "tso", "1"), 1, "allowed: dso"),
        (("confirm", "00000000"), 1, "unknown_proposal"),
        (("operate", "00000000"), 1, "not_selected"),
        (("resume", "--why", "looked"), 1, "not_held_safe"),
        (("set", P_SET, "much"), 2, "VALUE"),
        (("set", P_SET, "1 kWh"), 2, "VALUE"),
        (("set", P_SET, "1", "--for", "soon"), 2, "--for"),
        (("mode", "off", "--why", "a\nb"), 2, "--why"),
    ],
)
def test_operator_nonsense_is_refused_with_what_is_allowed(edge, ems, capsys, words, code, named):
    assert ems(*words) == code
    out, err = capsys.readouterr()
    assert named in out + err
    assert edge.loop.edge.authority.leases == {}


def test_operator_without_a_role_may_look_and_nothing_else(edge, ems, capsys):
    for who, why in (("guest", "no_right"), ("mallory", "unknown_user")):
        edge.who = who
        assert ems("mode", "off") == 1
        assert why in capsys.readouterr().out
        assert ems("status") == 0
    assert edge.loop.edge.authority.plant.mode is ControlMode.AUTO


def test_operator_in_shadow_it_says_that_no_device_hears_of_it(edge, ems, capsys):
    edge.shadow = True
    edge.cycle()
    assert ems("mode", "manual", "bess1") == 0
    assert capsys.readouterr().out.endswith("; in shadow: no device is written to\n")


def test_operator_same_person_does_not_confirm(edge, ems, capsys):
    assert ems("limit", "import", "100") == 0
    assert ems("limit", "import", "200", "--why", "crane") == 3
    text = capsys.readouterr().out
    assert "who is not ann" in text
    assert ems("confirm", token(text)) == 1
    assert ems("status") == 0
    text = capsys.readouterr().out
    assert "import to 200, proposed by ann (crane)" in text
    edge.who = "bob"
    assert ems("confirm", token(text)) == 0
    assert edge.loop.edge.authority.limits["import"].value == 200.0


def test_operator_selected_in_one_session_is_not_operated_in_another(edge, ems, capsys, monkeypatch):
    assert ems("mode", "manual", "gen1") == 0
    capsys.readouterr()
    assert ems("select", "gen1.run_request", "1") == 0
    selected = token(capsys.readouterr().out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getsid", lambda pid: -1)
        assert ems("operate", selected) == 1
    assert ems("operate", selected) == 0
    edge.cycle()
    assert edge.loop.set["gen1.run_request"] == 1.0


def test_operator_edge_that_does_not_hear_the_request_is_taken_back(edge, ems, capsys):
    edge.deaf = True
    assert ems("mode", "off") == 4
    assert "taken back: nothing was changed" in capsys.readouterr().out
    edge.deaf = False
    edge.cycle()
    assert edge.loop.edge.authority.plant.mode is ControlMode.AUTO


def test_operator_folder_that_anybody_may_write_is_shown_and_takes_nothing(edge, ems, capsys):
    (edge.directory / "requests").chmod(0o777)
    assert ems("mode", "off") == 4
    capsys.readouterr()
    assert ems("status") == 0
    assert "NO REQUEST IS TAKEN: its mode is 0777" in capsys.readouterr().out


def test_operator_held_safe_is_shown_and_ends_with_a_reason(edge, ems, capsys):
    edge.hold_safe()
    assert ems("status") == 0
    assert "HELD SAFE" in capsys.readouterr().out
    assert ems("resume") == 1
    assert "no_reason" in capsys.readouterr().out
    assert ems("resume", "--why", "meter replaced") == 0
    assert not edge.loop.edge.held_safe


def test_operator_no_edge_ever_ran_says_so(tmp_path, capsys):
    for words in (["status"], ["mode", "off"]):
        assert cli_main.main(["operator", *words, "--dir", str(tmp_path)]) == 2
        assert "no edge has run in this folder" in capsys.readouterr().err
