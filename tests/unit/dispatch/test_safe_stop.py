"""Whatever raises, the safe table reaches every device that can be reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import dispatch.cycle
import dispatch.supervision.safe_stop
import dispatch.writing.last_line
from dispatch.supervision import safe_stop
from dispatch.supervision.safe_stop import SAFE_TRIES
from ems.commands import Cause, Command, WriteOutcome, WriteResult
from ems.control import ControlMode
from ems.site import GridMode
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
