"""A device made of node-opcua in a process of its own, protected as a plant's server should be."""

import asyncio
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from connectors.point_map import point_codecs
from ems.clock import wall_sleep
from ems.site import Protocol as Wire
from tests.contract.pki import LONG, NOW, ClientPki, pair
from tests.contract.plants import START, URI, WRITABLE, connection, free_port

HERE = Path(__file__).parent / "node_opcua"
PATIENCE_S = 100.0  # until it listens, on a busy machine
SERVER_URI = "urn:test:node:server"


class NodeUaPlant:
    """The server lives while this object is started; its certificates, and ours, as long as the object."""

    def __init__(self, asset: str = "dev") -> None:
        node = shutil.which("node")
        if node is None or not (HERE / "node_modules" / "node-opcua").is_dir():
            pytest.skip(f"node-opcua is not installed (npm ci --prefix {HERE})")
        self.asset, self._node = asset, node
        self.folder = Path(tempfile.mkdtemp(prefix="node_opcua_"))
        server = pair(SERVER_URI, "127.0.0.1", ends=NOW + 0.5 * LONG)
        self.own = server.certificate
        (self.folder / "server.pem").write_bytes(server.pem)
        (self.folder / "server.key").write_bytes(server.key_pem)
        self.pki = ClientPki.made(self.folder / "client", server)
        accepted = self.folder / "peer" / "trusted" / "certs"
        accepted.mkdir(parents=True)
        shutil.copy(self.folder / "client" / "own.der", accepted / "ems.der")
        plain = connection(asset, Wire.OPC_UA, free_port(), timeout_s=2.0)
        self.connection = dataclasses.replace(plain, security=self.pki.security())
        self.codecs = point_codecs(self.connection)
        self.values: dict[str, Any] = {
            name: {"type": c.raw.name, "value": c.raw_reported(START[name])}
            for name, c in ((p.removeprefix(f"{asset}."), c) for p, c in self.codecs.items())
        }
        self.namespaces_before = 0
        self.user = pair("urn:test:user", "edge")  # believed by its list of users
        believed = self.folder / "users" / "trusted" / "certs"
        believed.mkdir(parents=True)
        (believed / "user.der").write_bytes(self.user.der)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self._process is not None:
            await self._process.wait()  # it was killed
        arguments = (
            str(HERE / "server.js"), str(HERE / "node_modules"), str(self.folder),
            str(self.connection.port), json.dumps(self.values), URI, str(self.namespaces_before),
        )  # fmt: skip
        self._process = await asyncio.create_subprocess_exec(
            self._node, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_S):
            assert await self._answer() is True

    async def _answer(self) -> Any:
        """What it answers next; its other lines are what node-opcua has to say."""
        assert self._process is not None
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode():
            if line.startswith("> "):
                return json.loads(line[2:])
        raise AssertionError("the node-opcua server has ended")

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer()

    def send(self, signal: int) -> None:
        """To its process."""
        assert self._process is not None
        self._process.send_signal(signal)

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for name in self.values:
                self._process = process
                self.values[name]["value"] = await self.ask("get", name=name)
            self._process = None
            process.kill()
            await process.communicate()
            await wall_sleep(0.0)

    async def get(self, name: str) -> float | None:
        return self.codecs[f"{self.asset}.{name}"].from_raw(await self.ask("get", name=name)).value

    async def put(self, name: str, value: float | None) -> None:
        raw = self.codecs[f"{self.asset}.{name}"].raw_reported(START[name] if value is None else value)
        await self.ask("put", name=name, value=raw, bad=value is None)

    async def refuse_writes(self, refuse: bool) -> None:
        for name in WRITABLE:
            await self.ask("writable", name=name, value=not refuse)
