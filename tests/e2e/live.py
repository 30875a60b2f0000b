"""The real command as a subprocess, and how to look at it from outside while it runs."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
EMS = Path(sys.executable).with_name("ems")
WAIT_S = 180.0  # a start takes a few seconds; a crowded machine may need many times as long
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between us and loopback


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = WAIT_S) -> T:
    """Ask until there is an answer; an AssertionError names what did not come."""
    until = time.monotonic() + seconds
    while (answer := probe()) is None:
        assert time.monotonic() < until, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)
    return answer


def get(url: str) -> tuple[int, str]:
    """(status, body) of a GET; status 0 when nobody answers."""
    try:
        with _DIRECT.open(url, timeout=10.0) as reply:
            return int(reply.status), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def processes_with(text: str) -> list[int]:
    """Process ids whose command line holds a text (the folder of a run: nobody else has it)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it ended meanwhile
            if text in line and state != "Z":
                found.append(int(entry.name))
    return found


def hear_ctrl_c() -> None:
    """Undo an ignored SIGINT, which a child inherits where the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(slots=True, kw_only=True)
class LiveDemo:
    """`ems demo` in a process group of its own."""

    out: Path
    process: "subprocess.Popen[bytes]"
    log: Path
    left_behind: list[int] = field(default_factory=list)  # processes still there after the end

    @classmethod
    @contextmanager
    def started(cls, out: Path, *arguments: str) -> "Iterator[LiveDemo]":
        """Start it; what is left of it at the end is killed."""
        out.parent.mkdir(parents=True, exist_ok=True)
        log = out.with_name(f"{out.name}.txt")
        environment = {**os.environ, "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [EMS, "demo", *arguments, "--free-ports", "--out", out],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=hear_ctrl_c,
            )
        live = cls(out=out, process=process, log=log)
        try:
            yield live
        finally:
            for pid in {process.pid, *processes_with(str(out))}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float = 1500.0) -> int:
        """Wait for its end; gives the exit code."""
        return self.process.wait(seconds)

    def config(self) -> dict[str, Any]:
        """What the processes were told: ports, files."""
        path = self.out / "run" / "process.json"

        def read() -> dict[str, Any] | None:
            assert self.running, self.text
            try:
                found: dict[str, Any] = json.loads(path.read_text())
            except (OSError, ValueError):
                return None
            return found

        return wait_for(f"{path.name}", read)

    def port(self, connection: str) -> int:
        return int(self.config()["ports"][connection])

    def answer(self, path: str, status: int = 200) -> str:
        """The body of a route of the service, once it gives this status."""
        url = f"http://127.0.0.1:{self.config()['api_port']}{path}"
        seen: list[tuple[int, str]] = []

        def ask() -> str | None:
            assert self.running, f"the demo ended before {path} gave {status}: {seen[-1:]}"
            seen.append(get(url))
            return seen[-1][1] if seen[-1][0] == status else None

        return wait_for(f"{path} with status {status}", ask)
