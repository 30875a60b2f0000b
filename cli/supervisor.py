"""Starts the processes of a plant, brings back those that die, and stops them in order."""

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ems.clock import wall_s, wall_sleep

# Before a process that died is started again: longer than a cycle of the edge, which so shows a dead planner.
_BACK_OFF_S = (1.2, 1.2, 2.0, 5.0)
_STEADY_S = 30.0  # a process that lived so long starts again at the shortest back-off


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process: a module run with the path of its configuration.

    One that gives signs of life touches the file `sign`; left untouched for `silent_s_max` [s], the process
    hangs or was stopped, is killed and started again.
    """

    name: str
    module: str
    config: Path
    log: Path
    sign: Path | None = None
    silent_s_max: float = math.inf


@dataclass(slots=True, kw_only=True)
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes]
    started_s: float
    deaths: int = 0
    restart_at_s: float | None = None
    sign_ns: int = 0
    signed_s: float = 0.0  # when its sign was seen to move last


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Keeps a set of child processes alive.

    `restarts` counts per name how often one came back, `silenced` how often one was killed because it hung;
    `unstarted` says why one cannot be started now (no memory, no disk): it is tried again and again.
    """

    children: dict[str, _Child] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    silenced: dict[str, int] = field(default_factory=dict)
    unstarted: dict[str, str] = field(default_factory=dict)
    _stopping: bool = False

    def start(self, spec: ChildSpec) -> None:
        """Start one process in a group of its own, so that a Ctrl-C reaches only us."""
        self.children[spec.name] = _Child(spec=spec, process=_spawn(spec), started_s=wall_s())
        self.restarts.setdefault(spec.name, 0)
        self.silenced.setdefault(spec.name, 0)

    def pid(self, name: str) -> int:
        """Process id of a child."""
        return self.children[name].process.pid

    def kill(self, name: str) -> None:
        """`kill -9`, as a fault: the child gets no chance to tidy up, and will be brought back.

        Returns when it is gone, so that whoever looks next finds its locks released.
        """
        process = self.children[name].process
        process.kill()
        process.wait()

    async def watch(self) -> None:
        """Bring back whatever dies, until cancelled."""
        while not self._stopping:
            for child in list(self.children.values()):
                self._look_after(child)
            await wall_sleep(0.05)

    def _look_after(self, child: _Child) -> None:
        if child.process.poll() is None:
            if _is_silent(child):
                self.silenced[child.spec.name] += 1
                child.process.kill()  # not waited for: one that waits for a dead disk dies when that answers
                child.signed_s = wall_s()
            return
        if child.restart_at_s is None:
            steady = wall_s() - child.started_s > _STEADY_S
            child.deaths = 1 if steady else child.deaths + 1
            child.restart_at_s = wall_s() + _back_off_s(child)
        elif wall_s() >= child.restart_at_s:
            self._start_again(child)

    def _start_again(self, child: _Child) -> None:
        name = child.spec.name
        try:
            child.process = _spawn(child.spec)
        except OSError as error:  # the others are watched on
            self.unstarted[name] = str(error)
            child.deaths += 1
            child.restart_at_s = wall_s() + _back_off_s(child)
            return
        self.unstarted.pop(name, None)
        child.started_s, child.restart_at_s = wall_s(), None
        child.signed_s = child.started_s
        self.restarts[name] += 1

    async def stop(self, order: Sequence[str], grace_s: float = 15.0) -> None:
        """SIGTERM each process, the named ones first and in turn; SIGKILL after `grace_s` [s]."""
        self._stopping = True
        rest = [n for n in self.children if n not in order]
        with _deaf_to_ctrl_c():
            for name in [*[n for n in order if n in self.children], *rest]:
                await _end(self.children[name].process, grace_s)
        self.children.clear()


def _back_off_s(child: _Child) -> float:
    return _BACK_OFF_S[min(child.deaths, len(_BACK_OFF_S)) - 1]


def _is_silent(child: _Child) -> bool:
    """Whether its sign has not moved for too long; a file that is not there says nothing."""
    if child.spec.sign is None:
        return False
    try:
        sign_ns = child.spec.sign.stat().st_mtime_ns
    except OSError:
        return False
    now_s = wall_s()
    if sign_ns != child.sign_ns:
        child.sign_ns, child.signed_s = sign_ns, now_s
    return now_s - max(child.signed_s, child.started_s) > child.spec.silent_s_max


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A second, impatient Ctrl-C must not leave processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _spawn(spec: ChildSpec) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    with contextlib.ExitStack() as stack:
        try:
            log: BinaryIO | None = stack.enter_context(spec.log.open("ab"))
        except OSError:  # the disk takes no file: its lines go where ours go, and the process runs
            log = None
        return subprocess.Popen(
            [sys.executable, "-m", spec.module, str(spec.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


async def _end(process: "subprocess.Popen[bytes]", grace_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.to_thread(process.wait), timeout=grace_s)
    except TimeoutError:
        process.kill()
        await asyncio.to_thread(process.wait)
