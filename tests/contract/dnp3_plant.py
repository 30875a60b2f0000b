"""Outstations of two other makes, in processes and an environment of their own."""

import asyncio
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from connectors.point_map import point_codecs
from ems.clock import wall_sleep
from ems.dnp3 import Dnp3
from ems.site import Connection, PointMap
from ems.site import Protocol as Wire
from tests.contract.plants import START, WRITABLE, connection, free_port

HERE = Path(__file__).parent / "yadnp3"
PYTHON = HERE / ".venv" / "bin" / "python"
PATIENCE_S = 60.0  # until it answers, on a busy machine
OUTSTATION = 10
ONLINE = 0x01
# point -> (address, type, how the outstation calls its kind, index)
PLACES = {
    "p_kw": ("g30/0", "f32", "analog", 0),
    "soc": ("g30/1", "s16", "analog", 1),
    "state": ("g30/2", "s32", "analog", 2),
    "p_set_kw": ("g41v1/5", "s32", "ao", 5),
    "run_request": ("g12v1/3", "bit", "bo", 3),
    "p_limit_kw": ("g41v3/6", "f32", "ao", 6),
}


def missing() -> None:
    """Skip where the peers are not installed."""
    if not PYTHON.is_file():
        pytest.skip(f"yadnp3 is not installed (see .ci/run: {HERE / '.venv'})")


class OpenDnp3:
    """The process of an outstation made of opendnp3, and what is ordered of it."""

    def __init__(self, events: int = 64, unsolicited: bool = False) -> None:
        missing()
        self.port = free_port()
        self._arguments = str(events), "yes" if unsolicited else "no"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self._process is not None:
            await self._process.wait()  # it was killed
        self._process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "outstation.py"), str(self.port), *self._arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await self._answer() is True

    async def _answer(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("> "):
                    return json.loads(line[2:])
        raise AssertionError("the outstation has ended")

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        return await self._answer()

    async def put(self, *rows: tuple[str, int, Any, int, int]) -> None:
        """(kind, index, value, flags, time in ms) of each."""
        await self.ask("put", rows=rows)

    async def freeze(self) -> None:
        """Stop its process, and wait until each of its threads stands still."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        while any((t / "stat").read_text().rpartition(")")[2].split()[0] != "T" for t in tasks.iterdir()):
            await wall_sleep(0.002)

    def thaw(self) -> None:
        """Let its process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


class DnpPlant:
    """The plant of the contract behind it: measurements, and outputs that show their status."""

    def __init__(self, asset: str = "dev") -> None:
        self.asset, self.server = asset, OpenDnp3()
        plain = connection(asset, Wire.DNP3, self.server.port, timeout_s=2.0)
        points = tuple(_at(p, p.point.removeprefix(f"{asset}.")) for p in plain.points)
        self.connection: Connection = dataclasses.replace(
            plain, endpoint="", points=points, dnp3=Dnp3(outstation=OUTSTATION)
        )
        self.codecs = point_codecs(self.connection)
        self.values: dict[str, float] = dict(START)

    async def start(self) -> None:
        await self.server.start()
        for name, value in self.values.items():
            await self.put(name, value)

    async def stop(self) -> None:
        for name in PLACES:
            self.values[name] = await self.get(name)
        await self.server.stop()

    async def get(self, name: str) -> float:
        _, _, kind, index = PLACES[name]
        value = (
            self.codecs[f"{self.asset}.{name}"]
            .from_raw(await self.server.ask("get", point=f"{kind} {index}"))
            .value
        )
        assert value is not None
        return value

    async def put(self, name: str, value: float | None) -> None:
        _, _, kind, index = PLACES[name]
        raw = self.codecs[f"{self.asset}.{name}"].raw_reported(START[name] if value is None else value)
        await self.server.put((kind, index, raw, 0 if value is None else ONLINE, 0))

    async def refuse_writes(self, refuse: bool) -> None:
        await self.server.ask("refuse", status="NOT_AUTHORIZED" if refuse else "SUCCESS")


def _at(row: PointMap, name: str) -> PointMap:
    address, data_type, _, _ = PLACES[name]
    assert row.writable is (name in WRITABLE)
    return dataclasses.replace(row, address=address, table="object", data_type=data_type)


class MesaOutstation:
    """The process of dnp3py's outstation, which has every point of IEEE 1815.2."""

    def __init__(self) -> None:
        missing()
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(PYTHON), "-m", "dnp3.mesa", "--profile-name", "full", "--host", "127.0.0.1",
            "--port", str(self.port), "--address", str(OUTSTATION), "--master-address", "1",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await wall_sleep(0.05)
                    continue
                writer.close()
                return

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()
