"""A run half-way, on disk: written whole or not at all, read only for the very same run."""

import hashlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from ems.errors import DataError
from sim.scenario import Scenario

if TYPE_CHECKING:
    from sim.harness import Run

FORMAT = 5


def fingerprint(scenario: Scenario) -> str:
    """What a scenario is: site, period, truth and events in one short text."""
    text = f"{scenario.site.name} {scenario.start} {scenario.end} {scenario.seed} {scenario.soc_start} "
    text += f"{scenario.start_fail_ratio} "
    text += f"{scenario.mains} {scenario.notices} {scenario.faults}"
    digest = hashlib.sha256(text.encode())
    for name, series in sorted(scenario.series().items()):
        digest.update(f"{name} {series.start} {series.step_s}".encode())
        digest.update(series.values.tobytes())
    if scenario.inputs is not None:
        digest.update(repr(scenario.inputs).encode())
    return digest.hexdigest()[:16]


def save_run(run: "Run", path: Path) -> None:
    """Write everything that a run between two cycles consists of.

    A checkpoint holds pickled objects: reading one runs code, so read only what you wrote yourself.
    """
    turns = run.turns
    saved = {
        "format": FORMAT,
        "controller": str(run.name),
        "scenario": fingerprint(run.scenario),
        "world": run.world.checkpoint(),
        "clock_s": run.clock.monotonic_s(),
        "state": run.runtime.state,
        "last": run.runtime.last,
        "plan": run.plans.plan,
        "recorder": run.recorder,
        "edge": run.edge.state(),
        "turns": None if turns is None else (turns.last, turns.pending, turns.made, turns.look_s, turns.away),
        "outlook": None if turns is None else turns.outlooks.kept,
        "measured": (run.samples.rows, run.measured.grown),
        "run": (run.mode, run.cycles, run.wall_s),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(pickle.dumps(saved, protocol=pickle.HIGHEST_PROTOCOL))
    part.replace(path)


def restore_run(run: "Run", path: Path) -> None:
    """Bring a fresh run to where a checkpoint of the same run was.

    Raises
    ------
    DataError : it is of another controller, scenario or format.
    """
    saved = pickle.loads(path.read_bytes())  # noqa: S301  written by save_run, see there
    mine = {"format": FORMAT, "controller": str(run.name), "scenario": fingerprint(run.scenario)}
    theirs = {key: saved.get(key) for key in mine}
    if mine != theirs:
        raise DataError(f"{path} is a checkpoint of another run: it holds {theirs}, this is {mine}")
    run.world.take(saved["world"])
    run.clock.advance(saved["clock_s"] - run.clock.monotonic_s())
    run.runtime.state, run.runtime.last = saved["state"], saved["last"]
    run.plans.plan = saved["plan"]
    for name in ("kept", "lost", "requests", "refusals", "outcomes", "latest", "_asked"):
        setattr(run.recorder, name, getattr(saved["recorder"], name))
    run.edge.restore(saved["edge"])
    run.samples.rows, run.measured.grown = saved["measured"]
    if run.turns is not None and saved["turns"] is not None:
        turns = run.turns
        turns.last, turns.pending, turns.made, turns.look_s, turns.away = saved["turns"]
        turns.outlooks.kept = saved["outlook"]
    run.mode, run.cycles, run.wall_s = saved["run"]
