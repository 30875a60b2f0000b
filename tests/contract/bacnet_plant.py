"""BACnet/IP devices of two other makes, in processes of their own."""

import asyncio
import dataclasses
import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from connectors.bacnet.client import TAGS
from connectors.point_map import point_codecs
from ems.bacnet import DEVICE, PRIORITY_ARRAY, Bacnet, parse_place
from ems.site import Connection, PointMap
from ems.site import Protocol as Wire
from tests.contract.plants import START, WRITABLE, connection, free_port

HERE = Path(__file__).parent
NODE = HERE / "node_bacnet"
PYPES = HERE / "bacpypes"
PATIENCE_S = 60.0  # until it answers, on a busy machine
DEVICE_ID = 1201
PRESENT_VALUE, STATUS_FLAGS, OUT_OF_SERVICE, RELIABILITY = "85", "111", "81", "103"
NULL = {"type": 0, "value": None}
Values = list[dict[str, Any]]
# point -> (address, type)
PLACES = {
    "p_kw": ("analog-input,0", "real"),
    "soc": ("large-analog-value,1", "double"),
    "state": ("multi-state-input,2", "unsigned"),
    "p_set_kw": ("analog-output,5", "real"),
    "run_request": ("binary-output,3", "bit"),
    "p_limit_kw": ("analog-value,6", "real"),
}


def flags(*up: int) -> Values:
    """Status flags, those with these numbers up."""
    return [{"type": 8, "value": {"bitsUsed": 4, "value": [sum(1 << i for i in up)]}}]


class Peer:
    """A process that tells `> ` and JSON, and is told one JSON order a line."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    async def start(self) -> None:
        if self._process is not None:
            await self._process.wait()  # it was killed
        self._process = await asyncio.create_subprocess_exec(
            *self._command(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await self._answer() is True

    async def _answer(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("> "):
                    return json.loads(line[2:])
        raise AssertionError("the device has ended")

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        return await self._answer()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


class NodeDevice(Peer):
    """Made of @bacnet-js/client; `objects` by type and instance, each its properties by number."""

    def __init__(self, objects: dict[str, dict[str, Values]], apdu: int = 1476) -> None:
        super().__init__()
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "@bacnet-js").is_dir():
            pytest.skip(f"@bacnet-js/client is not installed (npm ci --prefix {NODE})")
        self._node = node
        services = [0, 0b11010000, 0, 0, 0]  # ReadProperty, ReadPropertyMultiple, WriteProperty: 12, 14, 15
        self.objects = objects | {
            f"{DEVICE},{DEVICE_ID}": {
                "62": [{"type": 2, "value": apdu}],
                "97": [{"type": 8, "value": {"bitsUsed": 40, "value": services}}],
                "112": [{"type": 9, "value": 0}],
                "121": [{"type": 7, "value": "Example Meters"}],
                "70": [{"type": 7, "value": "EM-4"}],
                "44": [{"type": 7, "value": "3.1.7"}],
                "372": [{"type": 7, "value": "0042"}],
            }
        }

    def _command(self) -> list[str]:
        modules = str(NODE / "node_modules")
        return [self._node, str(NODE / "server.js"), modules, str(self.port), json.dumps(self.objects)]

    async def put(self, address: str, prop: str, *values: dict[str, Any]) -> None:
        place = parse_place(address)
        await self.ask("put", object=f"{place.object_type},{place.instance}", property=prop, values=values)

    async def get(self, address: str, prop: str = PRESENT_VALUE) -> Values:
        place = parse_place(address)
        told: Values = await self.ask("get", object=f"{place.object_type},{place.instance}", property=prop)
        return told

    async def drop(self, address: str, prop: str) -> None:
        place = parse_place(address)
        await self.ask("drop", object=f"{place.object_type},{place.instance}", property=prop)

    async def command(self, address: str, priority: int, value: dict[str, Any]) -> None:
        """As another writer would."""
        place = parse_place(address)
        key = f"{place.object_type},{place.instance}"
        await self.ask("command", object=key, priority=priority, value=value)


class PypesDevice(Peer):
    """Made of bacpypes3, with objects and priority arrays of its own."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self._python = PYPES / ".venv" / "bin" / "python"
        self._inputs = inputs
        if not self._python.is_file():
            pytest.skip(f"bacpypes3 is not installed (see .ci/run: {PYPES / '.venv'})")

    def _command(self) -> list[str]:
        return [
            str(self._python),
            str(PYPES / "device.py"),
            str(self.port),
            str(DEVICE_ID),
            str(self._inputs),
        ]


def held(data_type: str, raw: bool | int | float, commandable: bool) -> dict[str, Values]:
    """Properties of an object with this value."""
    value = {"type": TAGS[data_type][0], "value": int(raw) if data_type == "bit" else raw}
    out: dict[str, Values] = {
        PRESENT_VALUE: [value],
        STATUS_FLAGS: flags(),
        RELIABILITY: [{"type": 9, "value": 0}],
        OUT_OF_SERVICE: [{"type": 1, "value": False}],
    }
    if commandable:
        out |= {str(PRIORITY_ARRAY): [NULL] * 16, "104": [value]}
    return out


def bacnet_connection(asset: str, port: int, timeout_s: float = 2.0) -> Connection:
    """The connection of the contract, its rows at `PLACES`."""
    plain = connection(asset, Wire.BACNET, port, timeout_s=timeout_s)
    points = tuple(_at(p, p.point.removeprefix(f"{asset}.")) for p in plain.points)
    return dataclasses.replace(plain, endpoint="", points=points, bacnet=Bacnet(device=DEVICE_ID))


def _at(row: PointMap, name: str) -> PointMap:
    address, data_type = PLACES[name]
    assert row.writable is (name in WRITABLE)
    scale = 1.0 if name == "soc" else row.scale
    return dataclasses.replace(row, address=address, table="object", data_type=data_type, scale=scale)


class BacnetPlant:
    """The plant of the contract behind @bacnet-js/client."""

    def __init__(self, asset: str = "dev") -> None:
        self.asset = asset
        self.connection = bacnet_connection(asset, 1)
        self.codecs = point_codecs(self.connection)
        objects = {}
        for name, (address, data_type) in PLACES.items():
            place = parse_place(address)
            raw = self.codecs[f"{asset}.{name}"].raw_reported(START[name])
            objects[f"{place.object_type},{place.instance}"] = held(data_type, raw, name in WRITABLE)
        self.server = NodeDevice(objects)
        self.connection = dataclasses.replace(self.connection, port=self.server.port)
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
        (told,) = await self.server.get(PLACES[name][0])
        value = self.codecs[f"{self.asset}.{name}"].from_raw(told["value"]).value
        assert value is not None
        return value

    async def put(self, name: str, value: float | None) -> None:
        address, data_type = PLACES[name]
        raw = self.codecs[f"{self.asset}.{name}"].raw_reported(START[name] if value is None else value)
        if isinstance(raw, float) and not math.isfinite(raw):
            raw = 0.0
        shown = {"type": TAGS[data_type][0], "value": int(raw) if data_type == "bit" else raw}
        if name in WRITABLE:
            kept = (
                [NULL] * 9 + [shown] + [NULL] * 6
            )  # at our priority, as an edge before this one has left it
            await self.server.put(address, str(PRIORITY_ARRAY), *kept)
        await self.server.put(address, PRESENT_VALUE, shown)
        await self.server.put(address, STATUS_FLAGS, *flags(*((1,) if value is None else ())))

    async def refuse_writes(self, refuse: bool) -> None:
        await self.server.ask("refuse", error=[2, 40] if refuse else None)
