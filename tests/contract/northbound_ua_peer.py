"""Our OPC UA server over a fake edge, on a free port; and a client made of node-opcua."""

import asyncio
import base64
import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.northbound.ua_server import UaServing
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.northbound import Door, WriteRights
from ems.northbound_ua import OpcUaServer, UaServerFiles, UaUser
from ems.site import Site
from tests.contract.node_plant import HERE
from tests.contract.northbound_peer import with_limit
from tests.contract.pki import Pair, pair
from tests.unit.connectors.northbound_fake import Plant

SERVER_URI = "urn:test:ems:server"
WRITES = WriteRights(limits=("dso",), roles=("utility",), per_s=10.0)
PATIENCE_S = 60.0


def laid_out(folder: Path, programs: dict[str, Pair], users: dict[str, Pair]) -> UaServerFiles:
    """Files of a server that believes these programs, and of these programs and users."""
    own = pair(SERVER_URI, "127.0.0.1")
    (folder / "trusted").mkdir(parents=True)
    (folder / "server.der").write_bytes(own.der)
    for name, one in {"server": own, **programs, **users}.items():
        (folder / f"{name}.pem").write_bytes(one.pem)
        (folder / f"{name}.key").write_bytes(one.key_pem)
        (folder / f"{name}.key").chmod(0o600)
    for name, password in (("dso", "tell"), ("scada", "look")):
        (folder / f"{name}.password").write_text(f"{password}\n")
        (folder / f"{name}.password").chmod(0o600)
    return UaServerFiles(certificate="server.der", key="server.key", trusted="trusted")


USERS = (
    UaUser(name="dso", role="utility", password_file="dso.password"),
    UaUser(name="scada", password_file="scada.password"),
    UaUser(name="eve", role="utility", certificate="eve.pem"),
)


@asynccontextmanager
async def serving(site: Site, folder: Path, directory: Path, files: UaServerFiles | None, **options: Any):
    """(serving, plant) of a server that is up."""
    clock = SystemClock()
    plant = Plant(directory, clock)
    server = OpcUaServer(
        id="scada", door=Door(host="127.0.0.1", port=0, requests_per_s=500.0, **options.pop("door", {})),
        **{"files": files, "users": USERS, "writes": WRITES, **options},
    )  # fmt: skip
    made = UaServing(
        with_limit(site), server, plant.board, plant.door, plant.records, folder=folder, clock=clock
    )
    plant.cycle(grid1__p_kw=123.5, pv1__p_kw=None, fields={"limits_told_kw": {"dso": 300.0}})
    try:
        await made.start()
        yield made, plant
        made.status()  # raises what is a bug
    finally:
        await made.close()
        plant.close()


class NodeClient:
    """node-opcua as a client."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process, self._folder = process, folder

    @classmethod
    async def made(cls, folder: Path) -> "NodeClient":
        node = shutil.which("node")
        if node is None or not (HERE / "node_modules" / "node-opcua").is_dir():
            pytest.skip(f"node-opcua is not installed (npm ci --prefix {HERE})")
        process = await asyncio.create_subprocess_exec(
            node, str(HERE / "client.js"), str(HERE / "node_modules"), str(folder),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        client = cls(process, folder)
        async with asyncio.timeout(PATIENCE_S):
            assert await client._answer() is True
        return client

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode():
            if line.startswith("> "):
                return json.loads(line[2:])
        raise AssertionError("the node-opcua client has ended")

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer()

    async def connect(
        self, port: int, name: str = "client", user: str | None = "dso:tell", **more: Any
    ) -> Any:
        who: dict[str, Any] = {}
        if user is not None and ":" in user:
            who = {"user": dict(zip(("name", "password"), user.split(":"), strict=True))}
        elif user is not None:
            der = base64.b64encode(self._der(user)).decode()
            who = {"user": {"certificate": der, "key": str(self._folder / f"{user}.key")}}
        asked = {
            "policy": "Basic256Sha256",
            "mode": "SignAndEncrypt",
            "uri": f"urn:test:{name}",
            **who,
            **more,
        }
        return await self.ask("connect", url=f"opc.tcp://127.0.0.1:{port}/ems", name=name, **asked)

    def _der(self, name: str) -> bytes:
        lines = (self._folder / f"{name}.pem").read_text().splitlines()[1:-1]
        return base64.b64decode("".join(lines))

    async def until_told(self, name: str, value: float | None, status: str = "Good") -> Any:
        began_s = wall_s()
        while not (found := await self.ask("told", id=name)) or (
            (found[-1]["value"], found[-1]["status"]) != (value, status)
        ):
            assert wall_s() - began_s < PATIENCE_S, found
            await wall_sleep(0.05)
        return found[-1]

    async def end(self) -> None:
        self._process.kill()
        await self._process.communicate()
        await wall_sleep(0.0)
