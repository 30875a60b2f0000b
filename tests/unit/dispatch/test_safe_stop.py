"""Whatever raises, the safe table reaches every device that can be reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import dispatch.cycle
import dispatch.supervision.safe_stop
import dispatch.writing.last_line
from dispatch.authority.state import memory_of
from dispatch.layout import layout_of
from dispatch.state import EdgeState
from dispatch.supervision import safe_stop
from dispatch.supervision.safe_stop import SAFE_TRIES
from ems.commands import Cause, Command, WriteOutcome, WriteResult
from ems.control import ControlMode
from ems.control_site import ControlParams, Interlock, InterlockEffect
from ems.site import GridMode
from tests.unit.dispatch.loop import site_with
from tests.unit.dispatch.test_runtime import Bench, drive

FAILURES = (WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT, WriteOutcome.REJECTED)
SAFE = {"bess1.p_set_kw": 0.0, "pv1.p_limit_kw": 0.0}


class BreakingError(Exception):
    """What a test lets something raise."""


def breaks(*args: object, **kwargs: object) -> Any:
    raise BreakingError("broken on purpose")


def safe_of(sent: Sequence[Command]) -> dict[str, float]:
    return {c.point: c.value for c in sent if c.cause is Cause.SAFE_TABLE}


def running() -> Bench:
    bench = Bench()
    bench.cycles(3)
    bench.io.sent.clear()
    return bench


def observing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch.cycle, "observe", breaks)
    monkeypatch.setattr(dispatch.writing.last_line, "observe", breaks)


def reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.io, "read_all", breaks)


def latching(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.edge._image, "latch", breaks)


def recording(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("readings", "intent", "outcome", "event"):
        monkeypatch.setattr(bench.recorder, name, breaks)


def ruling(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch.cycle, "rule", breaks)
    for module in (dispatch.cycle, dispatch.writing.last_line, dispatch.supervision.safe_stop):
        monkeypatch.setattr(module, "rule_safe", breaks)


def planning(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.edge._plans, "current", breaks, raising=False)


@pytest.mark.parametrize("what", [observing, reading, latching, recording, ruling, planning])
def test_anything_that_raises_before_the_decision_writes_the_safe_table(
    monkeypatch: pytest.MonkeyPatch, what: Callable[[Bench, pytest.MonkeyPatch], None]
):
    """`observe` is in the tick and in the safe stop: where it raised, nothing was written at all."""
    bench = running()
    what(bench, monkeypatch)
    with pytest.raises(BreakingError):
        bench.edge.cycle(1.0).send(None)
    assert safe_of(bench.io.sent) == SAFE
    assert bench.edge.state.held_safe


def test_safe_stop_that_was_interrupted_is_done_again_and_then_no_more(monkeypatch: pytest.MonkeyPatch):
    bench = running()
    monkeypatch.setattr(bench.edge, "_until_safe", breaks)
    with pytest.raises(BreakingError):
        bench.edge.safe_stop().send(None)
    monkeypatch.undo()
    drive(bench.edge.safe_stop())
    assert safe_of(bench.io.sent) == SAFE
    drive(bench.edge.safe_stop())
    assert len(bench.io.sent) == len(SAFE)


def test_shadow_whatever_raises_nothing_is_written(monkeypatch: pytest.MonkeyPatch):
    bench = Bench(shadow=True)
    bench.cycles(3)
    observing(bench, monkeypatch)
    with pytest.raises(BreakingError):
        bench.edge.cycle(1.0).send(None)
    assert bench.io.sent == []


@dataclass
class Failing:
    """Writes to `points` raise, or are lost, so many times."""

    bench: Bench
    points: tuple[str, ...]
    times: int
    outcome: WriteOutcome | None = None  # None: it raises
    tried: list[str] = field(default_factory=list)

    async def __call__(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        (c,) = commands
        self.tried.append(c.point)
        if c.point in self.points and self.tried.count(c.point) <= self.times:
            if self.outcome is None:
                raise BreakingError("a driver's bug")
            return [WriteResult(command=c, outcome=self.outcome, detail="", finished_at=c.decided_at)]
        return await type(self.bench.io).write(self.bench.io, commands)


@pytest.mark.parametrize(
    "outcome", [None, WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT, WriteOutcome.REJECTED]
)
@pytest.mark.parametrize("point", sorted(SAFE))
def test_device_that_fails_does_not_drop_the_rest_and_is_tried_again(
    point: str, outcome: WriteOutcome | None
):
    bench = running()
    bench.io.write = failing = Failing(bench, (point,), SAFE_TRIES - 1, outcome)  # type: ignore[method-assign]
    drive(bench.edge.safe_stop())
    assert safe_of(bench.io.sent) == SAFE
    assert failing.tried.count(point) == SAFE_TRIES
    assert len(failing.tried) == SAFE_TRIES + len(SAFE) - 1  # what was confirmed is not written again


def test_device_that_never_takes_it_is_told_by_name_and_seq_goes_on():
    bench = running()
    bench.io.write = Failing(bench, ("bess1.p_set_kw",), 99, WriteOutcome.NOT_SENT)  # type: ignore[method-assign]
    before = bench.edge.state.seq
    drive(bench.edge.safe_stop())
    kind, fields = bench.recorder.events[-1]
    assert (kind, fields["unconfirmed"]) == ("edge.safe_table.incomplete", ["bess1.p_set_kw"])
    assert bench.edge.state.seq == before + len(SAFE) + SAFE_TRIES - 1


def test_write_that_raises_in_a_cycle_lets_the_other_devices_have_theirs_then_the_safe_table():
    bench = Bench()
    bench.io.write = failing = Failing(bench, ("pv1.p_limit_kw",), 1)  # type: ignore[method-assign]
    with pytest.raises(BreakingError):
        bench.edge.cycle(1.0).send(None)
    assert {"gen1.run_request", "gen2.run_request", "pv1.p_limit_kw"} <= set(failing.tried)
    assert safe_of(bench.io.sent) == SAFE
    assert bench.log.count("outcome 1") == 1


async def test_loop_device_that_raises_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dispatch.runtime.SAFE_RETRY_S", 0.0)
    bench = Bench()
    await bench.edge.cycle(1.0)
    bench.io.sent.clear()
    bench.io.write = Failing(bench, ("bess1.p_set_kw",), 1)  # type: ignore[method-assign]
    await bench.edge.safe_stop()
    assert safe_of(bench.io.sent) == SAFE


def test_bare_table_leaves_local_devices_and_the_forming_battery_alone():
    bench = running()
    edge, last = bench.edge, bench.edge.last
    assert last is not None
    snapshot = safe_stop.bare_snapshot(last, last.at, 9.0)

    def table(**changes: Any) -> dict[str, float]:
        now = replace(last, **changes)
        commands = safe_stop.bare_safe_commands(edge.setup.layout, edge.state, now, snapshot, "a test")
        return {c.point: c.value for c in commands}

    assert table() == SAFE
    assert "bess1.p_set_kw" not in table(control={"bess1": ControlMode.LOCAL})
    islanded = replace(last.condition, grid_mode=GridMode.ISLANDED, forming="bess1")
    assert "bess1.p_set_kw" not in table(mode=GridMode.ISLANDED, condition=islanded)


def test_first_cycle_breaks_with_nothing_known_nothing_unknown_is_touched(monkeypatch: pytest.MonkeyPatch):
    bench = Bench()
    reading(bench, monkeypatch)
    observing(bench, monkeypatch)
    with pytest.raises(BreakingError):
        bench.edge.cycle(1.0).send(None)
    unknown = {
        p: a.safety.grid_tied
        for p, a in bench.edge.setup.layout.setpoints.items()
        if a.safety.grid_tied is not None and a.safety.grid_tied == a.safety.islanded
    }
    assert safe_of(bench.io.sent) == unknown


# --- what interlocks and the emergency stop forbid ---------------------------------------------------------

BAND = Interlock(
    id="room",
    point="room.hot",
    low=0.5,
    high=None,
    effects=(InterlockEffect(point="pv1.p_limit_kw", low=10.0, high=20.0),),
    cause="the room is hot",
)
SHUT = replace(BAND, effects=(InterlockEffect(point="pv1.p_limit_kw", low=None, high=None),))
OUTSIDE = replace(BAND, effects=(InterlockEffect(point="pv1.p_limit_kw", low=-20.0, high=-10.0),))
STOP = {"bess1.p_set_kw": 0.0}


def bare(
    control: ControlParams, *, rules: bool, stopped: bool = False, islanded: bool = False
) -> list[Command]:
    """The bare table of a plant whose interlocks are tripped."""
    layout = layout_of(site_with(control=control))
    state = EdgeState(epoch=1, authority=replace(memory_of(ControlMode.AUTO), stopped=stopped))
    bench = running()
    last = bench.edge.last
    assert last is not None
    if islanded:
        seen = replace(last.condition, grid_mode=GridMode.ISLANDED, forming="bess1")
        last = replace(last, mode=GridMode.ISLANDED, condition=seen)
    snapshot = safe_stop.bare_snapshot(last, last.at, 9.0)
    with pytest.MonkeyPatch.context() as patch:
        if not rules:
            patch.setattr(safe_stop, "rule_safe", breaks)
        return list(safe_stop.bare_safe_commands(layout, state, last, snapshot, "a test"))


@pytest.mark.parametrize("rules", [True, False], ids=["judged now", "as in the last cycle"])
@pytest.mark.parametrize(
    ("interlock", "limit_kw"), [(BAND, 10.0), (SHUT, None), (OUTSIDE, None)], ids=["band", "shut", "outside"]
)
def test_bare_table_keeps_to_interlocks(rules: bool, interlock: Interlock, limit_kw: float | None):
    """The fallback of a safe stop once wrote 0 to a setpoint that an interlock bounds."""
    commands = bare(ControlParams(interlocks=(interlock,)), rules=rules)
    assert {c.point: c.value for c in commands}.get("pv1.p_limit_kw") == limit_kw
    assert "bess1.p_set_kw" in {c.point for c in commands}


@pytest.mark.parametrize("islanded", [False, True])
def test_bare_table_of_an_open_emergency_stop_is_what_the_stop_demands_alone(islanded: bool):
    commands = bare(ControlParams(emergency_stop=STOP), rules=False, stopped=True, islanded=islanded)
    wanted = [] if islanded else [("bess1.p_set_kw", 0.0, Cause.EMERGENCY_STOP)]
    assert [(c.point, c.value, c.cause) for c in commands] == wanted
