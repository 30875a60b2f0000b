"""Our Modbus server, read and written by mbpoll, which shares no code with it."""

import asyncio
import math
import re
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.metadata import version

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse

from connectors.northbound.door import Code
from ems.northbound import ServedRow
from ems.requests import TellLimit
from tests.contract.northbound_peer import (
    DSO_AT,
    GRID_AT,
    PLAIN_WRITES,
    Raw,
    framed,
    read_pdu,
    refused,
    serving,
    words,
    write_pdu,
)

ROWS = (
    ServedRow(point="grid1.p_kw", table="input", address=5, data_type="s16", scale=0.1, quality_at=6),
    ServedRow(point="limit.dso", table="holding", address=40, data_type="u16", scale=0.1),
)


Poll = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def mbpoll(require_program) -> Poll:
    """(exit code, text) of one mbpoll that is given a port and arguments."""
    program = require_program("mbpoll")

    async def poll(port: int, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            program, "-0", "-m", "tcp", "-p", str(port), "-1", "-o", "10", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    return poll


@pytest.mark.needs_server
async def test_mbpoll_reads_both_tables_as_the_map_says(mbpoll, demo, tmp_path):
    async with serving(demo, tmp_path, rows=ROWS) as (port, _):
        code, text = await mbpoll(port, "-a", "1", "-r", "5", "-c", "2", "-t", "3", "127.0.0.1")
        assert code == 0, text
        assert re.search(r"\[5\]:\s+1235\b", text), text
        assert re.search(r"\[6\]:\s+0\b", text), text
        code, text = await mbpoll(port, "-a", "1", "-r", "40", "-c", "1", "-t", "4", "127.0.0.1")
        assert re.search(r"\[40\]:\s+3000\b", text), text
        code, text = await mbpoll(port, "-a", "1", "-r", "41", "-c", "1", "-t", "4", "127.0.0.1")
        assert "Illegal data address" in text, text
        code, text = await mbpoll(port, "-a", "2", "-r", "5", "-c", "1", "-t", "3", "127.0.0.1")
        assert code != 0 or "failed" in text, text


@pytest.mark.needs_server
async def test_mbpoll_reads_floats_of_the_automatic_map(mbpoll, demo, tmp_path):
    async with serving(demo, tmp_path) as (port, _):
        where = ["-a", "1", "-B", "-c", "1", "-t", "4:float", "127.0.0.1"]
        code, text = await mbpoll(port, "-r", str(GRID_AT), *where)
        assert (code, "123.5" in text) == (0, True), text


@pytest.mark.needs_server
async def test_mbpoll_writes_a_bound_and_the_edge_is_told(mbpoll, demo, tmp_path):
    async with serving(demo, tmp_path, writes=PLAIN_WRITES, rows=ROWS) as (port, plant):
        code, text = await mbpoll(port, "-a", "1", "-r", "40", "-t", "4", "127.0.0.1", "2005")
        assert code == 0, text
        (one,) = plant.desk.collect()
        assert one.request.ask == TellLimit(limit="dso", value_kw=200.5)
        assert one.request.session == "ppc: no certificate, at 127.0.0.1"
    async with serving(demo, tmp_path / "b", writes=PLAIN_WRITES) as (port, plant):
        where = ["-a", "1", "-B", "-r", str(DSO_AT), "-t", "4:float", "127.0.0.1"]
        code, text = await mbpoll(port, *where, "120.25")
        assert code == 0, text
        (one,) = plant.desk.collect()
        assert one.request.ask == TellLimit(limit="dso", value_kw=120.25)


@pytest.mark.needs_server
async def test_mbpoll_writes_nothing_to_a_server_that_is_read_only(mbpoll, demo, tmp_path):
    async with serving(demo, tmp_path, rows=ROWS) as (port, plant):
        _, text = await mbpoll(port, "-a", "1", "-r", "40", "-t", "4", "127.0.0.1", "2005")
        assert "Illegal data address" in text, text
        assert plant.desk.collect() == []
        assert plant.records.last.code == Code.NOT_WRITABLE


async def test_several_requests_in_one_piece_are_each_answered_in_order(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, _):
        client = await Raw.to(port)
        client.writer.write(b"".join(framed(read_pdu(i, 1), transaction=i) for i in range(4)))
        answers = [await client.answer() for _ in range(4)]
        assert [a[:2] for a in answers] == [b"\x03\x02"] * 4
        assert int.from_bytes(answers[1][2:], "big") == 1  # fresh
        await client.close()


async def test_edge_that_stands_still_is_seen_in_the_registers(demo, tmp_path, monkeypatch):
    async with serving(demo, tmp_path) as (port, plant):
        client = await Raw.to(port)
        beat, fresh = struct.unpack(">HH", (await client.ask(read_pdu(0, 2)))[2:])
        assert (beat, fresh) == (1, 1)
        plant.cycle(grid1__p_kw=124.0, fields={"cycle_s": 200.0})
        beat, fresh = struct.unpack(">HH", (await client.ask(read_pdu(0, 2)))[2:])
        assert (beat, fresh) == (2, 1)
        real = plant.clock.monotonic_s
        monkeypatch.setattr(plant.board, "_monotonic_s", lambda: real() + 6000.0)
        beat, fresh = struct.unpack(">HH", (await client.ask(read_pdu(0, 2, 4)))[2:])
        assert (beat, fresh) == (2, 0)
        value, quality, _ = struct.unpack(">fHH", (await client.ask(read_pdu(GRID_AT, 4)))[2:])
        assert (math.isnan(value), quality) == (True, 1)
        told = await client.ask(write_pdu(DSO_AT, *words(1.0)))
        assert told == refused(16, 2)
        await client.close()


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (write_pdu(DSO_AT, *words(math.nan)), 3),
        (write_pdu(DSO_AT, *words(-1.0)), 3),
        (write_pdu(DSO_AT, *words(1.0)[:1]), 2),  # half of it
        (write_pdu(DSO_AT, *words(1.0), 0), 2),  # and its quality
        (write_pdu(GRID_AT, *words(1.0)), 2),
        (struct.pack(">BHH", 6, DSO_AT, 5), 2),
        (struct.pack(">BHH", 5, 0, 0xFF00), 1),
        (write_pdu(DSO_AT, *words(5.0)), 0),
    ],
)
async def test_write_is_taken_or_refused_by_its_exception_and_recorded(demo, tmp_path, pdu, code):
    async with serving(demo, tmp_path, writes=PLAIN_WRITES) as (port, plant):
        client = await Raw.to(port)
        answer = await client.ask(pdu)
        assert answer == (refused(pdu[0], code) if code else pdu[:5])
        assert len(plant.desk.collect()) == (code == 0)
        assert plant.records.count == (code in (2, 3))
        await client.close()


async def test_client_that_may_not_write_is_told_that_the_function_is_not_his(demo, tmp_path):
    async with serving(demo, tmp_path, writes=replace(PLAIN_WRITES, plain_from=("10.0.0.5",))) as (port, p):
        client = await Raw.to(port)
        assert await client.ask(write_pdu(DSO_AT, *words(5.0))) == refused(16, 1)
        assert p.desk.collect() == []
        await client.close()


async def test_pymodbus_reads_who_we_are(demo, tmp_path):
    """Function 43 as a client of another make asks it: the basic objects, the regular ones, and one alone."""
    async with serving(demo, tmp_path) as (port, _):
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5.0)
        assert await client.connect()
        told = []
        for code, first in ((1, 0), (2, 0), (3, 0), (2, 4), (4, 6)):
            answer = await client.read_device_information(read_code=code, object_id=first)
            assert isinstance(answer, ReadDeviceInformationResponse)
            told.append(answer.information)
        client.close()
    ours = version("hybrid-ems").encode()
    basic = {0: b"hybrid-ems", 1: b"hybrid-ems", 2: ours}
    assert told[0] == basic
    assert told[1] == told[2]
    assert told[1].keys() == set(range(7))
    assert {k: told[1][k] for k in basic} == basic
    assert re.fullmatch(rb"map [0-9a-f]{4}", told[1][5])
    assert told[3] == {k: told[1][k] for k in (4, 5, 6)}
    assert told[4] == {6: demo.name.encode()}


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (b"\x2b\x0e\x00\x00", 3),
        (b"\x2b\x0e\x05\x00", 3),
        (b"\x2b\x0e\x01", 3),
        (b"\x2b\x0e\x01\x00\x00", 3),
        (b"\x2b\x0e\x04\x07", 2),  # no such object
        (b"\x2b\x0d\x01\x00", 1),  # CANopen
        (b"\x2b", 1),
    ],
)
async def test_identification_that_is_asked_for_wrongly_is_refused(demo, tmp_path, pdu, code):
    async with serving(demo, tmp_path) as (port, _):
        client = await Raw.to(port)
        assert await client.ask(pdu) == refused(0x2B, code)
        stream = await client.ask(b"\x2b\x0e\x01\x09")  # from an object that is none: from the first on
        assert stream[:7] == bytes((0x2B, 0x0E, 1, 0x82, 0, 0, 3))
        assert len(stream) < 254
        await client.close()


async def test_other_unit_is_answered_by_nobody_of_ours(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, _):
        client = await Raw.to(port)
        assert await client.ask(read_pdu(0, 1), unit=9) == refused(3, 11)
        assert (await client.ask(read_pdu(0, 1)))[0] == 3
        await client.close()
