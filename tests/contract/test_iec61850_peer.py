"""IEC 61850 against libiec61850: quality, time, every control model, what is refused, and a frozen server."""

import asyncio
import dataclasses
import math
from argparse import Namespace
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from cli.read import run as ems_read
from connectors.field import FieldIO
from connectors.iec61850 import control
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.libiec_plant import LibIecServer
from tests.contract.plants import command, site_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]
MODELS = ("Direct", "Sbo", "DirectEnhanced", "SboEnhanced", "Timed")
KINDS = {"An": ("FLOAT32", -123.5), "Sp": ("BOOLEAN", 1.0), "Dp": ("BOOLEAN", 1.0), "In": ("INT32", 42.0)}
STATION, SILENT = 5, 0.4
SECOND = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=f"BESSDER/{address}", table="attribute", data_type=data_type,
        byte_order="big", word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e6, high=1e6,
        age_s_max=3.0, writable=writable,
    )  # fmt: skip


ROWS = (
    row("p", "MMXU1.TotW.mag.f [MX]", "FLOAT32"),
    row("va", "MMXU1.PhV.phsA.cVal.mag.f [MX]", "FLOAT32"),
    row("vb", "MMXU1.PhV.phsB.cVal.mag.f [MX]", "FLOAT32"),
    row("mode", "LLN0.Mod.stVal [ST]", "ENUMERATED"),
    row("switch", "GGIO1.Pos1.stVal [ST]", "Dbpos"),
    row("model", "GGIO1.SpSbo.ctlModel [CF]", "ENUMERATED"),
    row("set", "GGIO1.WSet.setMag.f [SP]", "FLOAT32", writable=True),
    row("gone", "GGIO1.Ind9.stVal [ST]", "BOOLEAN"),
    row("part", "GGIO1.Ind1.value [ST]", "BOOLEAN"),
    row("type", "GGIO1.Ind1.stVal [ST]", "INT32"),
    *(
        row(f"{kind}{model}", f"GGIO1.{kind}{model} [CO]", data_type, writable=True)
        for model in (*MODELS, "None")
        for kind, (data_type, _) in KINDS.items()
    ),
)


class Rig:
    def __init__(self, server: LibIecServer, connection: Connection) -> None:
        self.server, self.connection = server, connection
        self.clock = VirtualClock(T0)
        self.io = FieldIO(site_of(connection), clock=self.clock)

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point.removeprefix("dev."): r for r in await self.io.read_all()}

    async def read_until_good(self) -> dict[str, Reading]:
        for _ in range(400):
            if (readings := await self.read())["set"].is_good:
                return readings
            await wall_sleep(0.02)
        raise AssertionError("it never answered again")

    async def write(self, name: str, value: float) -> tuple[WriteOutcome, str]:
        (result,) = await self.io.write([command(f"dev.{name}", value)])
        return result.outcome, result.detail

    async def put(self, kind: str, reference: str, value: object) -> None:
        await self.server.ask("put", kind=kind, ref=f"BESSDER/{reference}", value=value)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[LibIecServer]:
    server = LibIecServer()
    await server.start()
    assert await server.ask("listen") is True
    yield server
    await server.stop()


def connection(port: int, timeout_s: float = 5.0) -> Connection:
    return Connection(
        id="dev", protocol=Protocol.IEC_61850, host="127.0.0.1", port=port, unit_id=1, endpoint="",
        poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS,
    )  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module")
async def rig(server) -> AsyncIterator[Rig]:
    for order in ({"do": "refuse", "cause": 0}, {"do": "fail", "value": False}, {"do": "seen"}):
        await server.ask(**order)
    rig = Rig(server, connection(server.port))
    await rig.read()
    yield rig
    await rig.io.close()


# Bits of libiec61850: validity 1 invalid, 2 reserved, 3 questionable; then as in IEC 61850-7-3.
@pytest.mark.parametrize(
    ("bits", "quality", "has_value"),
    [
        (0, Quality.GOOD, True),
        (1, Quality.DEVICE_BAD, False),
        (2, Quality.DEVICE_BAD, False),
        (3, Quality.DEVICE_BAD, False),
        (3 | 8, Quality.OUT_OF_RANGE, True),
        (3 | 8 | 512, Quality.DEVICE_BAD, False),  # inaccurate besides
        (3 | 128, Quality.STALE, True),  # old data
        (1 | 64, Quality.DEVICE_BAD, False),  # failure
        (1024, Quality.GOOD, True),  # substituted
        (2048, Quality.DEVICE_BAD, False),  # test
        (4096, Quality.STALE, True),  # blocked by an operator
    ],
)
async def test_quality_of_the_device_is_quality_here(rig, bits, quality, has_value):
    await rig.put("float", "MMXU1.TotW.mag.f", 17.25)
    await rig.put("quality", "MMXU1.TotW.q", bits)
    reading = (await rig.read())["p"]
    assert (reading.quality, reading.value) == (quality, 17.25 if has_value else None)
    assert bool(rig.io.why_unread("dev.p")) is (quality is not Quality.GOOD)
    assert rig.io.links()["dev"]["substituted_values"] == (1 if bits == 1024 else 0)
    await rig.put("quality", "MMXU1.TotW.q", 0)


@pytest.mark.parametrize(
    ("flags", "believed"),
    [({}, True), ({"unsynchronised": True}, False), ({"failed": True}, False), ({"ms": 0}, False)],
)
async def test_time_of_the_device_counts_while_its_clock_does(rig, flags, believed):
    stamp = {"ms": round(SECOND.timestamp() * 1000), "unsynchronised": False, "failed": False} | flags
    await rig.server.ask("time", ref="BESSDER/MMXU1.TotW.t", **stamp)
    reading = (await rig.read())["p"]
    assert reading.is_good
    assert reading.source_time == (SECOND if believed else rig.clock.now())


async def test_parts_of_one_object_enumerations_and_double_points(rig):
    await rig.put("float", "MMXU1.PhV.phsA.cVal.mag.f", 231.5)
    await rig.put("float", "MMXU1.PhV.phsB.cVal.mag.f", 229.0)
    await rig.put("quality", "MMXU1.PhV.phsB.q", 1)
    await rig.put("int", "LLN0.Mod.stVal", 3)
    await rig.put("dbpos", "GGIO1.Pos1.stVal", 2)
    readings = await rig.read()
    assert readings["va"].value == 231.5
    assert readings["vb"].quality is Quality.DEVICE_BAD  # each phase has its own quality
    assert [readings[n].value for n in ("mode", "switch", "model")] == [3.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone", "no such object"),
        ("part", "it has stVal, q, t"),
        ("type", "boolean there, INT32 in the map"),
        ("SpNone", "status only"),
    ],
)
async def test_point_the_device_does_not_hold_so_is_bad_and_says_why(rig, name, why):
    readings = await rig.read()
    assert (readings[name].value, readings[name].quality) == (None, Quality.DEVICE_BAD)
    assert why in rig.io.why_unread(f"dev.{name}")
    assert readings["p"].is_good


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
async def test_command_is_carried_out_by_its_model_and_read_back(rig, kind, model):
    name, value = f"{kind}{model}", KINDS[kind][1]
    assert await rig.write(name, value) == (WriteOutcome.CONFIRMED, "")
    await rig.server.ask("get", kind="int", ref="BESSDER/LLN0.Mod.stVal")  # when all commands are carried out
    assert (await rig.read())[name].value == value
    seen = [s for s in await rig.server.ask("seen") if s != [0, 0]]
    assert {origin for origin, _ in seen} == {STATION}
    assert len({number for _, number in seen}) == 1  # the selection and the command are one
    assert len(seen) == (2 if model == "SboEnhanced" else 1)


async def test_originator_of_the_site_file_is_told(server):
    rig = Rig(server, dataclasses.replace(connection(server.port), originator="remote"))
    await rig.read()
    assert (await rig.write("SpDirect", 0.0))[0] is WriteOutcome.CONFIRMED
    assert (await server.ask("seen"))[-1][0] == 3
    await rig.io.close()


@pytest.mark.parametrize("model", MODELS)
async def test_refusal_of_a_command_is_told_in_words_and_the_link_stays(rig, model):
    before = (await rig.read())[f"An{model}"].value
    await rig.server.ask("refuse", cause=10)
    outcome, why = await rig.write(f"An{model}", 1.0)
    assert outcome is WriteOutcome.REJECTED
    wanted = "not selected: the device refuses" if model == "Sbo" else "blocked by interlocking (AddCause 10)"
    assert why.removeprefix("not selected: " if model == "SboEnhanced" else "") == wanted
    await rig.server.ask("refuse", cause=0)
    assert (await rig.read())[f"An{model}"].value == before
    assert rig.io.links()["dev"]["connects"] == 1


@pytest.mark.parametrize("model", ["DirectEnhanced", "SboEnhanced"])
async def test_command_that_ends_badly_is_rejected(rig, model):
    await rig.server.ask("fail", value=True)
    outcome, why = await rig.write(f"Sp{model}", 0.0)
    assert (outcome, "AddCause" in why) == (WriteOutcome.REJECTED, True)


async def test_selection_is_given_back_where_the_cycle_is_over_before_the_command(rig, monkeypatch):
    before = (await rig.read())["AnSboEnhanced"].value
    monkeypatch.setattr(control, "wall_s", lambda: math.inf)
    outcome, why = await rig.write("AnSboEnhanced", 99.0)
    assert (outcome, "was over" in why) == (WriteOutcome.NOT_SENT, True)
    monkeypatch.undo()
    assert (await rig.read())["AnSboEnhanced"].value == before
    assert (await rig.write("AnSboEnhanced", 98.0))[0] is WriteOutcome.CONFIRMED


async def test_object_that_may_not_be_written_is_rejected_with_its_reason(rig):
    await rig.server.ask("refuse", cause=1)
    assert await rig.write("set", 3.0) == (WriteOutcome.REJECTED, "object access denied")


async def test_object_that_cannot_be_operated_is_never_sent(rig):
    outcome, why = await rig.write("AnNone", 1.0)
    assert (outcome, "status only" in why) == (WriteOutcome.NOT_SENT, True)


async def test_frozen_server_write_is_unknown_until_read_back_and_not_sent_again(server):
    """A server that is stopped and goes on carries out what it was sent before:"""
    rig = Rig(server, connection(server.port, timeout_s=SILENT))
    await rig.read()
    assert (await rig.write("set", 1.0))[0] is WriteOutcome.CONFIRMED
    await server.freeze()
    assert (await rig.write("set", 77.0))[0] is WriteOutcome.UNKNOWN
    assert (await rig.write("set", 78.0))[0] is WriteOutcome.NOT_SENT
    assert {r.quality for r in (await rig.read()).values()} == {Quality.COMM_FAILED}
    server.thaw()
    assert (await rig.read_until_good())["set"].value in (1.0, 77.0)
    await rig.io.close()


async def test_device_says_what_it_is(server):
    await server.ask("put", kind="text", ref="BESSDER/LPHD1.PhyNam.vendor", value="Example Power")
    await server.ask("put", kind="text", ref="BESSDER/LPHD1.PhyNam.serNum", value="4711")
    places = {"manufacturer": "vendor", "serial": "serNum", "model": "nothing"}
    identity = tuple(
        IdentityField(
            name=name, address=f"BESSDER/LPHD1.PhyNam.{place} [DC]", table="attribute", data_type="string",
            length=0, byte_order="big", word_order="big", expected="4711" if name == "serial" else None,
        )
        for name, place in places.items()
    )  # fmt: skip
    rig = Rig(server, dataclasses.replace(connection(server.port), identity=identity))
    await rig.read()
    told = {"manufacturer": "Example Power", "serial": "4711", "model": None}
    assert rig.io.identities()["dev"] == told
    await rig.io.close()


SITE = """
grid: {id: grid1}
connections:
  meter: {protocol: iec61850, host: 127.0.0.1, port: PORT, map: ied.yaml, asset: grid1, poll_s: 1,
          timeout_s: 2}
"""
MAP = """
device: an IED
protocol: iec61850
points:
  p_kw: {address: "BESSDER/MMXU1.TotW.mag.f [MX]", type: FLOAT32, unit: W, range: [-500, 500], age_s_max: 5}
  q_kvar: {address: "BESSDER/MMXU1.TotVAr.mag.f [MX]", type: FLOAT32, range: [-500, 500], age_s_max: 5}
"""


async def test_ems_read_shows_a_device_with_reasons(server, tmp_path, capsys):
    await server.ask("put", kind="float", ref="BESSDER/MMXU1.TotW.mag.f", value=12345.0)
    (tmp_path / "ied.yaml").write_text(MAP)
    (tmp_path / "site.yaml").write_text(SITE.replace("PORT", str(server.port)))
    options = Namespace(site=str(tmp_path / "site.yaml"), device=["meter"], every=None, wait=1.0, listen=1.0)
    assert await asyncio.to_thread(ems_read, options) == 1
    out = capsys.readouterr().out
    assert "meter: iec61850 127.0.0.1" in out
    assert "12.345 kW" in out
    assert "no such object" in out
