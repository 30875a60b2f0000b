"""An engine made of can-j1939 and python-can at the other end of a serial line, as an slcan adapter."""

import asyncio
import json
import os
import tty
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "can_j1939"
PYTHON = HERE / ".venv" / "bin" / "python"
PATIENCE_S = 60.0


class SerialCable:
    """Two serial ports of this machine, with a copying process between them that can also say anything."""

    def __init__(self) -> None:
        self._ends = [os.openpty(), os.openpty()]
        for master, slave in self._ends:
            tty.setraw(slave)
            os.set_blocking(master, False)
        self.ours, self.theirs = (os.ttyname(slave) for _, slave in self._ends)
        self.sent_by_us = b""

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = (master for master, _ in self._ends)
        loop.add_reader(theirs, lambda: self.say(os.read(theirs, 4096)))
        loop.add_reader(ours, self._heard)

    def say(self, data: bytes) -> None:
        """Bytes that come from the adapter."""
        os.write(self._ends[0][0], data)

    def _heard(self) -> None:
        self.sent_by_us += os.read(self._ends[0][0], 4096)

    def stop(self) -> None:
        loop = asyncio.get_running_loop()
        for pair in self._ends:
            loop.remove_reader(pair[0])
            for descriptor in pair:
                os.close(descriptor)


class CanPeer:
    """The process, and what is ordered of it."""

    def __init__(self, port: str) -> None:
        if not PYTHON.is_file():
            pytest.skip(f"can-j1939 is not installed (see .ci/run: {HERE / '.venv'})")
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "peer.py"), self._port,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("> "):
                    return json.loads(line[2:])
        raise AssertionError("the engine has ended")

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()
