"""A device made of libiec61850, in a process and an environment of its own."""

import asyncio
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from connectors.point_map import point_codecs
from ems.clock import wall_sleep
from ems.site import Protocol as Wire
from tests.contract.plants import START, WRITABLE, connection, free_port

HERE = Path(__file__).parent / "libiec61850"
PYTHON = HERE / ".venv" / "bin" / "python"
PATIENCE_S = 60.0  # until it answers, on a busy machine
SP, CO = "SP", "CO"
# point -> (data object, attribute, functional constraint, type of the map, how the server keeps it)
PLACES = {
    "p_kw": ("MMXU1.TotW", "mag.f", "MX", "FLOAT32", "float"),
    "soc": ("ZBAT1.Soc", "mag.i", "MX", "INT32", "int"),
    "state": ("GGIO1.IntIn1", "stVal", "ST", "INT32", "int"),
    "p_set_kw": ("GGIO1.AnDirect", "mxVal.f", CO, "FLOAT32", "float"),
    "run_request": ("GGIO1.SpDirect", "stVal", CO, "BOOLEAN", "bool"),
    "p_limit_kw": ("GGIO1.WSet", "setMag.f", SP, "FLOAT32", "float"),
}
GOOD, INVALID = 0, 1  # of libiec61850
INTERLOCKING = 10


class LibIecServer:
    """The process, and what is ordered of it."""

    def __init__(self) -> None:
        if not PYTHON.is_file():
            pytest.skip(f"pyiec61850-ng is not installed (see .ci/run: {HERE / '.venv'})")
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self._process is not None:
            await self._process.wait()  # it was killed
        self._process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "server.py"), str(self.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await self._answer() is True

    async def _answer(self) -> Any:
        """What it answers next; its other lines are what the library has to say."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("> "):
                    return json.loads(line[2:])
        raise AssertionError("the libiec61850 server has ended")

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        return await self._answer()

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
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()
            await wall_sleep(0.0)


class LibIecPlant:
    """The plant of the contract behind it: measurements, controls and a setpoint."""

    def __init__(self, asset: str = "dev") -> None:
        self.asset, self.server = asset, LibIecServer()
        plain = connection(asset, Wire.IEC_61850, self.server.port, timeout_s=2.0)
        points = tuple(_at(p, p.point.removeprefix(f"{asset}.")) for p in plain.points)
        self.connection = dataclasses.replace(plain, endpoint="", points=points)
        self.codecs = point_codecs(self.connection)
        self.values: dict[str, float] = dict(START)

    async def start(self) -> None:
        await self.server.start()
        for name, value in self.values.items():
            await self.put(name, value)
        assert await self.server.ask("listen") is True

    async def stop(self) -> None:
        for name in self.values:
            self.values[name] = await self.get(name)
        await self.server.stop()

    async def get(self, name: str) -> float:
        held, attribute, _, _, kind = PLACES[name]
        raw = await self.server.ask("get", ref=f"BESSDER/{held}.{attribute}", kind=kind)
        value = self.codecs[f"{self.asset}.{name}"].from_raw(raw).value
        assert value is not None
        return value

    async def put(self, name: str, value: float | None) -> None:
        held, attribute, fc, _, kind = PLACES[name]
        where = f"BESSDER/{held}"
        raw = self.codecs[f"{self.asset}.{name}"].raw_reported(START[name] if value is None else value)
        await self.server.ask("put", kind=kind, ref=f"{where}.{attribute}", value=raw)
        if fc != SP:
            quality = INVALID if value is None else GOOD
            await self.server.ask("put", kind="quality", ref=f"{where}.q", value=quality)

    async def refuse_writes(self, refuse: bool) -> None:
        await self.server.ask("refuse", cause=INTERLOCKING if refuse else 0)


def _at(row: Any, name: str) -> Any:
    held, attribute, fc, data_type, _ = PLACES[name]
    address = f"BESSDER/{held} [CO]" if fc == CO else f"BESSDER/{held}.{attribute} [{fc}]"
    assert row.writable is (name in WRITABLE)
    return dataclasses.replace(row, address=address, table="attribute", data_type=data_type)
