"""What `ems run` keeps over its processes, whatever happens to itself."""

import asyncio
import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from cli import run, supervisor
from cli.process_config import ProcessConfig
from cli.supervisor import ChildSpec, Supervisor
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.sqlite_file import StoreError

SLEEPER = "tests.unit.cli.sleeper"


def unreadable(reader: SqliteHistoryReader) -> None:
    raise StoreError("history.sqlite: unable to open database file")


def spawned(monkeypatch: pytest.MonkeyPatch) -> "list[subprocess.Popen[bytes]]":
    """Every process that a supervisor starts from now on."""
    started: list[subprocess.Popen[bytes]] = []
    spawn = supervisor._spawn

    def noted(spec: ChildSpec) -> "subprocess.Popen[bytes]":
        if spec.module == "nothing":
            raise OSError(12, "Cannot allocate memory")
        started.append(spawn(spec))
        return started[-1]

    monkeypatch.setattr(supervisor, "_spawn", noted)
    return started


@pytest.mark.parametrize("also", [{}, {"planner": "nothing"}], ids=["reports fail", "a start fails"])
def test_run_that_ends_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also: dict[str, str]
):
    """An edge that goes on commands a plant with nobody over it."""
    started = spawned(monkeypatch)
    monkeypatch.setattr(run, "MODULES", {"edge": SLEEPER, **also})
    monkeypatch.setattr(SqliteHistoryReader, "statuses", unreadable)
    told = io.StringIO()
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path, shadow=True)
    try:
        asyncio.run(run._run(config, Console(file=told), 1.2))
    except OSError:
        assert also
    else:
        assert "unable to open database file" in told.getvalue()
    assert [p.poll() is not None for p in started] == [True]


def test_process_that_cannot_be_started_again_is_tried_again_and_the_others_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No memory for a new process: the watch itself ended, for all of them."""
    monkeypatch.setattr(supervisor, "_BACK_OFF_S", (0.01,))
    own, short, spawn = Supervisor(), {"planner"}, supervisor._spawn
    for name in ("edge", "planner"):
        own.start(ChildSpec(name=name, module=SLEEPER, config=tmp_path, log=tmp_path / f"{name}.log"))

    def no_memory(spec: ChildSpec) -> "subprocess.Popen[bytes]":
        if spec.name in short:
            raise OSError(12, "Cannot allocate memory")
        return spawn(spec)

    monkeypatch.setattr(supervisor, "_spawn", no_memory)

    async def scene() -> None:
        watching = asyncio.create_task(own.watch())
        own.kill("planner")
        own.kill("edge")
        async with asyncio.timeout(20.0):
            while not (own.restarts["edge"] and own.unstarted):
                await asyncio.sleep(0.02)
            assert own.unstarted.keys() == {"planner"}
            short.clear()
            while not own.restarts["planner"]:
                await asyncio.sleep(0.02)
        assert own.unstarted == {}
        watching.cancel()
        await own.stop(())

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (True, ()),
        (False, ("chronyc tracking", "--utc trusted")),
        (None, ("drop-in of docs/modes.md", "--utc trusted")),
    ],
)
def test_run_says_why_nothing_is_done_by_the_clock_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, told: bool | None, words: tuple[str, ...]
):
    monkeypatch.setattr(run, "synchronised", lambda: told)
    said = run.unsynchronised()
    assert bool(said) is (told is not True)
    assert all(word in said for word in words)
