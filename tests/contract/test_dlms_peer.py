"""A meter of another make: what gurux_dlms encodes is read, in an environment of its own (GPLv2)."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.dlms.browse import browse
from connectors.dlms.client import DlmsLink
from connectors.field import FieldIO
from connectors.link import Refused
from connectors.point_map import point_codecs
from ems.clock import SystemClock
from ems.dlms import Dlms
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.fake_meter import CLIENT, PASSWORD, FakeMeter
from tests.contract.plants import free_port, site_of
from tests.contract.test_dlms_adversary import SERIAL, Rig, row

HERE = Path(__file__).parent / "gurux"
PYTHON = HERE / ".venv" / "bin" / "python"
PATIENCE_S = 60.0
CAPTURED = datetime(2026, 3, 1, 11, 45, tzinfo=UTC)
pytestmark = pytest.mark.needs_server
ROWS = (
    row("p", "1-0:16.7.0*255"),
    row("e", "1-0:1.8.0*255", unit="kWh"),
    row("v", "1-0:32.7.0*255", unit="pu"),
    row("f", "1-0:14.7.0*255", unit="Hz"),
    row("peak", "1-0:1.6.0*255 [class 4, bad 0x03]"),
    row("state", "0-0:96.10.1*255 [class 1]", "integer", ""),
)
RIGHT = {"p": -1.2345, "e": 123456.789, "v": 230.1, "f": 50.02, "peak": 88.25, "state": 3.0}


class GuruxMeter:
    """Its process."""

    def __init__(self, way: str) -> None:
        if not PYTHON.is_file():
            pytest.skip(f"gurux_dlms is not installed (see .ci/run: {HERE / '.venv'})")
        self.port, self._way = free_port(), way
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "meter.py"), str(self.port), self._way,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await self._process.stdout.readline() == b"ready\n"

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()


@pytest.fixture
async def plain() -> AsyncIterator[GuruxMeter]:
    meter = GuruxMeter("none")
    await meter.start()
    yield meter
    await meter.stop()


@pytest.fixture
async def with_password() -> AsyncIterator[GuruxMeter]:
    meter = GuruxMeter("low")
    await meter.start()
    yield meter
    await meter.stop()


def rig_of(meter: GuruxMeter, folder: Path, **settings: str) -> Rig:
    stand_in = FakeMeter()
    stand_in.port = meter.port
    rig = Rig(stand_in, folder, timeout_s=2.0, **settings)
    rig.link = rig.made(*ROWS)
    return rig


async def values_of(link: DlmsLink) -> dict[str, float | None]:
    return {point.removeprefix("dev."): v.value for point, v in (await link.read()).items()}


async def test_registers_with_scaler_unit_and_capture_time(plain, tmp_path):
    rig = rig_of(plain, tmp_path)
    await rig.link.connect()
    assert await rig.link.identify() == {"serial": "4711"}
    assert await values_of(rig.link) == pytest.approx(RIGHT)
    values = await rig.link.read()
    assert {v.quality for v in values.values()} == {Quality.GOOD}
    assert values["dev.peak"].source_time == CAPTURED
    assert rig.link.counts["one_by_one"] == 0, "read with lists"
    ahead_s = (SystemClock().now() - T0).total_seconds()  # the rig believes that it is T0
    assert rig.link.counts["clock_ahead_s"] == pytest.approx(ahead_s, abs=60)
    await rig.link.connect()  # released, and associated again
    assert await values_of(rig.link) == pytest.approx(RIGHT)
    await rig.link.disconnect()


async def test_password_is_told_and_a_wrong_one_is_refused(with_password, tmp_path):
    (tmp_path / "p").write_bytes(PASSWORD)
    (tmp_path / "p").chmod(0o600)
    rig = rig_of(with_password, tmp_path, authentication="low", password_file="p")
    await rig.link.connect()
    assert await values_of(rig.link) == pytest.approx(RIGHT)
    await rig.link.disconnect()
    (tmp_path / "p").write_text("another")
    with pytest.raises(Refused, match="authentication failed"):
        await rig.link.connect()
    other = rig_of(with_password, tmp_path)
    with pytest.raises(Refused, match="not recognised"):
        await other.link.connect()


async def test_objects_of_its_association_are_listed(plain):
    lines = await browse("127.0.0.1", plain.port, 2.0, Dlms(client=CLIENT))
    shown = {line.place: line.about for line in lines}
    assert len(shown) == 10
    assert shown["1-0:16.7.0*255"] == "-1234.5 W; active power import less export, now; register"
    assert shown["1-0:1.6.0*255 [class 4]"].startswith("88250 W; active power import, maximum")
    assert shown["0-0:42.0.0*255 [class 1]"].startswith("GRX0000001234567GRX")


async def test_edge_reads_it(plain, tmp_path):
    rig = rig_of(plain, tmp_path)
    connection = dataclasses.replace(rig.connection, points=ROWS, identity=(SERIAL,))
    assert set(point_codecs(connection)) == {f"dev.{n}" for n in RIGHT}
    io = FieldIO(site_of(connection), clock=SystemClock(), folder=tmp_path)
    try:
        readings = {r.point.removeprefix("dev."): r for r in await io.read_all()}
        assert {n: r.value for n, r in readings.items()} == pytest.approx(RIGHT)
        assert io.identities()["dev"] == {"serial": "4711"}
    finally:
        await io.close()
