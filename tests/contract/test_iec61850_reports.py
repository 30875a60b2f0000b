"""Points that an IEC 61850 device reports: whole objects, single parts, what is lost, what falls silent."""

import dataclasses
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from open61850 import ber
from open61850 import data as iec
from open61850.mms import pdu
from open61850.mms.errors import DataAccessError
from open61850.mms.pdu import InformationReport, ObjectName
from open61850.mms.report import bitstring_of
from open61850.server import protocol as served

from connectors.iec61850.mms import FAULTS, unconfirmed
from connectors.iec61850.reports import Book, heard
from connectors.iec61850.values import AccessFault, raw_of
from connectors.link import LinkError
from ems.clock import wall_sleep
from ems.site import MmsReports
from ems.telemetry import Quality, Reading
from tests.contract.fake_ied import spoiled
from tests.contract.libiec_plant import LibIecServer
from tests.contract.test_iec61850_peer import ROWS, Rig, connection, row

OBJECTS, PARTS = "BESSDER/LLN0.urcbObjects [RP]", "BESSDER/LLN0.urcbParts [RP]"
MORE = (row("state", "GGIO1.IntIn1.stVal [ST]", "INT32"), row("ind", "GGIO1.Ind1.stVal [ST]", "BOOLEAN"))
INTEGRITY_S = 0.5


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[LibIecServer]:
    server = LibIecServer()
    await server.start()
    assert await server.ask("listen") is True
    yield server
    await server.stop()


def reported(server: LibIecServer, *blocks: str, timeout_s: float = 2.0) -> Rig:
    plain = connection(server.port, timeout_s)
    asked = MmsReports(blocks=blocks, integrity_s=INTEGRITY_S)
    return Rig(server, dataclasses.replace(plain, points=(*ROWS, *MORE), reports=asked))


async def until(rig: Rig, name: str, value: float) -> dict[str, Reading]:
    for _ in range(300):
        readings = await rig.read()
        if readings[name].value == value:
            return readings
        await wall_sleep(0.01)
    raise AssertionError(f"{name} was never {value}")


@pytest.mark.needs_server
@pytest.mark.asyncio(loop_scope="module")
async def test_points_of_two_blocks_are_told_and_the_rest_is_read(server):
    rig = reported(server, OBJECTS, PARTS)
    await rig.put("float", "MMXU1.TotW.mag.f", 1.5)
    await rig.put("int", "GGIO1.IntIn1.stVal", 2)
    readings = await until(rig, "p", 1.5)
    figures = rig.io.links()["dev"]
    # p, va and vb with their objects, state by its parts; ind has no quality there, the setpoint is read
    assert (figures["points_told"], figures["blocks_refused"]) == (4, 0)
    assert readings["state"].value == 2.0
    assert readings["ind"].is_good
    for name, kind, reference, value in (
        ("p", "float", "MMXU1.TotW.mag.f", -77.25),
        ("va", "float", "MMXU1.PhV.phsA.cVal.mag.f", 233.0),
        ("state", "int", "GGIO1.IntIn1.stVal", 5),
    ):
        await rig.put(kind, reference, value)
        assert (await until(rig, name, value))[name].is_good
    await rig.put("quality", "MMXU1.TotW.q", 1)
    assert (await until(rig, "p", None))["p"].quality is Quality.DEVICE_BAD  # type: ignore[arg-type]
    await rig.put("quality", "MMXU1.TotW.q", 0)
    await until(rig, "p", -77.25)
    await rig.io.close()


@pytest.mark.needs_server
@pytest.mark.asyncio(loop_scope="module")
async def test_values_that_do_not_change_stay_fresh_by_the_integrity_reports(server):
    rig = reported(server, OBJECTS)
    await rig.read()
    before = int(str(rig.io.links()["dev"]["reports"]))
    await wall_sleep(2.5 * INTEGRITY_S)
    readings = await rig.read()
    assert int(str(rig.io.links()["dev"]["reports"])) >= before + 2
    assert rig.clock.monotonic_s() - readings["p"].arrived_s < 2.0 * INTEGRITY_S
    await rig.io.close()


@pytest.mark.needs_server
@pytest.mark.asyncio(loop_scope="module")
async def test_block_that_another_client_has_or_that_is_not_there_is_read_instead(server):
    first = reported(server, OBJECTS)
    await first.read()
    second = reported(server, OBJECTS, "BESSDER/LLN0.nothing [RP]")
    await rig_reads(second)
    figures = second.io.links()["dev"]
    assert (figures["points_told"], figures["blocks_refused"]) == (0, 2)
    await second.io.close()
    await first.io.close()


async def rig_reads(rig: Rig) -> None:
    await rig.put("float", "MMXU1.TotW.mag.f", 31.0)
    assert (await until(rig, "p", 31.0))["p"].is_good


@pytest.mark.needs_server
@pytest.mark.asyncio(loop_scope="module")
async def test_device_that_falls_silent_is_lost_though_the_connection_stands(server):
    rig = reported(server, OBJECTS, timeout_s=0.4)
    rig = Rig(server, dataclasses.replace(rig.connection, points=rig.connection.points[:2]))  # all are told
    assert (await rig.read())["p"].is_good
    await server.freeze()
    for _ in range(300):
        if (await rig.read())["p"].quality is Quality.COMM_FAILED:
            break
        await wall_sleep(0.02)
    assert (await rig.read())["p"].quality is Quality.COMM_FAILED
    server.thaw()
    for _ in range(300):
        if (await rig.read())["p"].is_good:
            break
        await wall_sleep(0.02)
    assert (await rig.read())["p"].is_good
    await rig.io.close()


# ---- the book alone -------------------------------------------------------------------------------

MEMBERS = (ObjectName("MMXU1$MX$TotW", "LD0"), ObjectName("MMXU1$MX$Hz", "LD0"))


def report(
    number: int | None,
    values: dict[int, float],
    *,
    of: int = 2,
    part: tuple[int, bool] | None = None,
    revision: int = 7,
) -> InformationReport:
    fields = [number is not None, False, False, False, False, False, False, True, part is not None]
    out: list[iec.IECData] = [iec.VisibleStringData("meas"), bitstring_of([False, *fields])]
    if number is not None:
        out.append(iec.UIntData(number))
    out.append(iec.UIntData(revision))
    if part is not None:
        out += [iec.UIntData(part[0]), iec.BoolData(part[1])]
    out.append(bitstring_of([i in values for i in range(of)]))
    out += [iec.FloatData(values[i]) for i in sorted(values)]
    return InformationReport(ObjectName("RPT"), [], list(out))


@pytest.fixture
def book() -> Book:
    return Book(["meas"], MEMBERS, revision=7, silence_s=1e9, at_s=0.0)


def numbers(book: Book, *reports: InformationReport) -> list[float]:
    for one in reports:
        heard(one, [book])
    book.check(0.0)
    return [v.value for v in book.values.values() if isinstance(v, iec.FloatData)]


async def test_changes_are_laid_over_what_was_told(book):
    assert numbers(book, report(0, {0: 1.0, 1: 2.0}), report(1, {1: 3.0})) == [1.0, 3.0]
    assert book.is_whole


@pytest.mark.parametrize("last", [255, 65535])
async def test_numbers_begin_again_behind_the_last(book, last):
    assert numbers(book, report(last, {0: 1.0, 1: 2.0}), report(0, {1: 3.0})) == [1.0, 3.0]


async def test_report_in_parts_is_whole_with_its_last_one(book):
    heard(report(4, {0: 1.0}, part=(0, True)), [book])
    assert not book.is_whole
    assert numbers(book, report(4, {1: 2.0}, part=(1, False)), report(5, {0: 3.0})) == [3.0, 2.0]
    assert book.is_whole


ALL = {0: 1.0, 1: 2.0}


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ([report(0, ALL), report(2, ALL)], "a report was lost: 0, then 2"),
        ([report(1, ALL), report(1, ALL)], "a report was lost"),
        ([report(1, ALL), report(0, ALL)], "a report was lost"),
        ([report(0, ALL, of=3)], "a report of 3 members"),
        ([report(None, ALL)], "without a number"),
        ([report(0, ALL, revision=8)], "configured anew: revision 8, it was 7"),
        ([report(0, {0: 1.0}, part=(0, True)), report(0, {1: 1.0}, part=(2, False))], "a part of a report"),
        ([report(0, {0: 1.0}, part=(1, False))], "the beginning of a report was lost"),
        ([InformationReport(ObjectName("RPT"), [], [iec.IntData(1)])], "cannot be read"),
        ([InformationReport(ObjectName("RPT"), [], report(0, ALL).results[:-1])], "cannot be read"),
    ],
)
async def test_report_that_is_not_the_next_one_ends_the_belief_in_all(book, reports, why):
    for one in reports:
        heard(one, [book])
    with pytest.raises(LinkError, match=why):
        book.check(0.0)


async def test_silence_is_told():
    quiet = Book(["meas"], MEMBERS, revision=7, silence_s=1.5, at_s=10.0)
    quiet.check(11.5)
    with pytest.raises(LinkError, match=r"none for 1\.6 s"):
        quiet.check(11.6)


@pytest.mark.parametrize("count", [500, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_torn_reports_end_the_belief_or_change_nothing_they_do_not_tell(book, count):
    """Whatever is lost of a report, or added: it is refused, or all that it tells has its form."""
    rng = random.Random(61850)
    results = [r for r in report(0, ALL).results if not isinstance(r, DataAccessError)]
    whole = pdu.wrap(served.information_report([*results], list_name="RPT"))
    refused = 0
    for _ in range(count):
        mine = Book(["meas"], MEMBERS, revision=7, silence_s=1e9, at_s=0.0)
        try:
            outer = ber.decode_tlv(pdu.unwrap(spoiled(rng, whole)))
            told = unconfirmed(outer.value)
        except FAULTS:
            refused += 1
            continue
        heard(told, [mine])
        told_now = [v for v in mine.values.values() if not isinstance(v, AccessFault)]
        assert {type(raw_of(v, "FLOAT32")) for v in told_now} <= {float, type(None)}
    assert count // 5 < refused < count
