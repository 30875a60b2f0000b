"""A session of ours over a fake edge, against a VTN of another make on loopback (tests/contract/toadr3)."""

import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.openadr3.session import VtnSession
from connectors.utility import session as session_module
from ems.clock import SystemClock
from ems.http_json import HttpJson
from ems.records import Bucket
from ems.telemetry import Quality
from ems.utility import Share, Telling, UtilityProtocol, VtnServer
from tests.contract.tls_pki import Authority, Party
from tests.contract.utility_peer import BEAT_S, Live, bounded_site
from tests.unit.connectors.northbound_fake import Plant

HERE = Path(__file__).parent / "toadr3"
SECRET = "s3cret&=%"
EXPORT, IMPORT = "EXPORT_CAPACITY_LIMIT", "IMPORT_CAPACITY_LIMIT"
TELLINGS = (
    Telling(word=EXPORT, shares=(Share("out", 1.0),)),
    Telling(word=IMPORT, shares=(Share("into", 1.0),), otherwise_kw=500.0),
)
PROGRAM = {
    "id": "p1",
    "programName": "capacity",
    "payloadDescriptors": [
        {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": EXPORT, "units": "KW"},
        {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": IMPORT, "units": "KW"},
    ],
}


def at(seconds: float = 0.0) -> str:
    """A time from now, as a VTN tells it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(
    name: str, start: str, duration: str, *values: float, word: str = EXPORT, **more: Any
) -> dict[str, Any]:
    """An event as a VTN tells it: an interval for each value."""
    rows = [{"id": i, "payloads": [{"type": word, "values": [v]}]} for i, v in enumerate(values)]
    period = {"start": start, "duration": duration}
    return {
        "id": name,
        "programID": "p1",
        "eventName": name,
        "intervalPeriod": period,
        "intervals": rows,
    } | more


class Vtn:
    """The VTN, a process of its own."""

    def __init__(self, party: Party) -> None:
        python = HERE / ".venv" / "bin" / "python"
        if not python.exists():
            if os.environ.get("EMS_REQUIRE_PEERS"):
                pytest.fail(f"toadr3 is not installed (see .ci/run: {python})")
            pytest.skip(f"toadr3 is not installed (see .ci/run: {python})")
        command = [python, HERE / "vtn.py", party.certificate, party.key, SECRET]
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])

    def change(self, **told: Any) -> list[str]:
        """Make it another; what it was asked since the change before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, list), answer
        return answer

    def reset(self) -> None:
        token = {"access_token": "first", "token_type": "Bearer", "expires_in": 3600}
        self.change(programs=[PROGRAM], events=[], instead={}, token=token, dated=0.0, page=50)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def vtn_on(folder: Path) -> Iterator[tuple[Vtn, Authority, Party]]:
    authority = Authority(folder, "VTN CA")
    party = authority.signs("vtn", hosts=("127.0.0.1",))
    vtn = Vtn(party)
    try:
        yield vtn, authority, party
    finally:
        vtn.stop()


def params(port: int, ca: Path | str, secret_file: Path | str, **changes: Any) -> VtnServer:
    values: dict[str, Any] = {
        "id": "dso", "protocol": UtilityProtocol.OPENADR3, "host": "127.0.0.1", "port": port, "path": "/vtn",
        "http": HttpJson(ca=str(ca)), "token_host": "127.0.0.1", "token_port": port,
        "token_path": "/vtn/auth/token", "client_id": "plant", "secret_file": str(secret_file),
        "secret_env": None, "scope": "", "every_s": 60.0, "ven_name": "plant", "targets": (),
        "ask_targets": False, "programs": (), "tellings": TELLINGS, "age_s_max": 900.0, "clock_s_max": 30.0,
        "timeout_s": 5.0,
    }  # fmt: skip
    return VtnServer(**(values | changes))


class Jumps(SystemClock):
    """Our own clock, which somebody sets."""

    by_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.by_s)


class LiveVen(Live):
    """A session that runs, and the fake edge that it tells."""

    bad: frozenset[int] = frozenset()  # minutes of the hour that were not read well
    read_kw = 40.0

    def means(self, start: datetime, end: datetime) -> list[Bucket]:
        """Power at the POI by the minute, as the historian has it: 1 kW more in each minute of an hour."""
        out = []
        while start < end:
            good = 0 if start.minute in self.bad else 60
            mean = self.read_kw + start.minute if good else None
            out.append(
                Bucket(start=start, low=mean, mean=mean, high=mean, count=60, good=good, quality=Quality.GOOD)
            )
            start += timedelta(minutes=1)
        return out

    def __init__(self, directory: Path, server: VtnServer) -> None:
        self.jumps = Jumps()
        self.plant = Plant(directory, self.jumps)
        self.obeys = True
        self.told: list[tuple[str, float]] = []
        self.site = bounded_site()
        self.cycle()
        around = session_module.Around(
            site=self.site, board=self.plant.board, door=self.plant.door, records=self.plant.records,
            directory=directory, folder=directory, clock=self.plant.clock, means=self.means,
        )  # fmt: skip
        self.session = VtnSession(server, around)
        self.directory = directory


@asynccontextmanager
async def living_ven(directory: Path, server: VtnServer) -> AsyncIterator[LiveVen]:
    """A session that has been started; it asks only when it is told to (`rounds`)."""
    live = LiveVen(directory, server)
    before = session_module.BEAT_S
    session_module.BEAT_S = BEAT_S
    try:
        await live.session.start()
        yield live
        live.session.status()  # raises what is a bug
    finally:
        session_module.BEAT_S = before
        with contextlib.suppress(Exception):
            await live.close()
