"""A unit of a bus over answers made by hand: what is repeated, and what is in doubt."""

import asyncio
import math
from dataclasses import replace
from typing import Any, cast

import pytest

from connectors.link import Late, LinkError
from connectors.modbus.bus import Bus, Damaged
from connectors.modbus.rtu_link import RtuLink
from connectors.point_map import PointCodec, point_codecs
from ems.clock import wall_sleep
from ems.commands import WriteOutcome
from ems.site import Connection
from ems.site import Protocol as Wire
from tests.contract.plants import connection

HEAD = b"\0\1\0\0\0\0\1"


def bits(*states: int) -> bytes:
    """Of coils and discrete inputs, up to eight."""
    return HEAD + bytes([2, 1, sum(s << i for i, s in enumerate(states))])


def words(*values: int) -> bytes:
    return HEAD + bytes([3, 2 * len(values)]) + b"".join(v.to_bytes(2, "big") for v in values)


class Line:
    """A bus on which each request has the next of some answers."""

    name, is_open, epoch = "line", True, 1

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def connect(self, unit: int, timeout_s: float) -> None: ...

    def leave(self, unit: int) -> None: ...

    async def exchange(
        self, body: bytes, timeout_s: float, until_s: float = math.inf, late: Late | None = None
    ) -> bytes:
        body = body if late is None else late()
        self.asked.append(body[1])
        await wall_sleep(0.0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def contact(name: str, address: int) -> dict[str, Any]:
    return {
        "point": name,
        "address": str(address),
        "table": "discrete",
        "data_type": "bit",
        "writable": False,
    }


async def link_on(line: Line, *rows: dict[str, Any]) -> tuple[RtuLink, dict[str, PointCodec]]:
    plain: Connection = connection("dev", Wire.MODBUS_RTU, 0)
    like = plain.points[0]
    points = tuple(
        replace(like, scale=1.0, offset=0.0, sign=1, low=0.0, high=1e4, **({"writable": True} | row))
        for row in rows
    )
    codecs = dict(point_codecs(replace(plain, points=points)))
    made = RtuLink(plain, list(codecs.values()), bus=cast(Bus, line), timeout_s=1.0)
    await made.connect()
    return made, codecs


async def test_damaged_answer_to_a_read_of_contacts_is_asked_once_more_and_no_write_is_in_doubt():
    line = Line(Damaged("wrong checksum"), bits(1, 0), bits(1, 1))
    link, _ = await link_on(line, contact("bus.emergency_stop", 0), contact("bus.contact_1", 1))
    first, second = await link.read(), await link.read()
    assert (first["bus.emergency_stop"].value, first["bus.contact_1"].value) == (1.0, 0.0)
    assert (second["bus.emergency_stop"].value, second["bus.contact_1"].value) == (1.0, 1.0)
    assert line.asked == [2, 2, 2]
    assert link.connected


async def test_damaged_answers_to_reads_of_contacts_twice_are_a_loss_that_ends():
    line = Line(Damaged("wrong checksum"), Damaged("wrong checksum"), bits(1))
    link, _ = await link_on(line, contact("bus.emergency_stop", 0))
    with pytest.raises(LinkError):
        await link.read()
    assert not link.connected
    await link.connect()
    assert (await link.read())["bus.emergency_stop"].value == 1.0


SETPOINT = {"point": "dev.p_set_kw", "address": "10", "table": "holding", "data_type": "u16"}


async def test_write_in_doubt_is_read_back_by_a_read_that_began_after_it():
    """Two blocks; the write comes between them, and what was read before it is no read-back."""
    far = {"point": "dev.p_kw", "address": "500", "table": "holding", "data_type": "u16"}
    line = Line(words(1), Damaged("noise"), words(2), words(1), words(2), HEAD + b"\x06\0\x0a\0\x07")
    link, codecs = await link_on(line, SETPOINT, far)
    reading = asyncio.create_task(link.read())
    while len(line.asked) < 1:
        await asyncio.sleep(0)
    (doubted,) = await link.write([(codecs["dev.p_set_kw"], 7.0)], math.inf)
    assert doubted.outcome is WriteOutcome.UNKNOWN
    await reading
    (held,) = await link.write([(codecs["dev.p_set_kw"], 7.0)], math.inf)
    assert held.outcome is WriteOutcome.NOT_SENT
    await link.read()
    (sent,) = await link.write([(codecs["dev.p_set_kw"], 7.0)], math.inf)
    assert sent.outcome is WriteOutcome.CONFIRMED


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(code, "unknown" if code in (5, 11) else "rejected") for code in (1, 2, 4, 5, 6, 10, 11)],
)
async def test_exception_after_which_a_write_may_be_carried_out_is_no_refusal(code: int, outcome: str):
    line = Line(HEAD + bytes([0x86, code]))
    link, codecs = await link_on(line, SETPOINT)
    (reply,) = await link.write([(codecs["dev.p_set_kw"], 7.0)], math.inf)
    assert reply.outcome.value == outcome


async def test_exception_in_doubt_is_read_back_before_anything_else_is_written():
    line = Line(HEAD + b"\x86\x0b", words(1), HEAD + b"\x06\0\x0a\0\x08")
    link, codecs = await link_on(line, SETPOINT)
    outcomes = []
    for look in (False, False, True):
        if look:
            await link.read()
        (reply,) = await link.write([(codecs["dev.p_set_kw"], 8.0)], math.inf)
        outcomes.append(reply.outcome.value)
    assert outcomes == ["unknown", "not_sent", "confirmed"]


async def test_exception_in_doubt_stays_while_the_gateway_answers_and_ends_when_the_device_does():
    """A block that the device always refuses is heard of it, and keeps no write back for ever."""
    far = {"point": "dev.p_kw", "address": "500", "table": "holding", "data_type": "u16"}
    gateway, broken = HEAD + b"\x83\x0b", HEAD + b"\x83\x04"
    line = Line(HEAD + b"\x86\x0b", words(1), gateway, words(1), broken, HEAD + b"\x06\0\x0a\0\x08")
    link, codecs = await link_on(line, SETPOINT, far)
    outcomes = []
    for _ in range(3):
        (reply,) = await link.write([(codecs["dev.p_set_kw"], 8.0)], math.inf)
        outcomes.append(reply.outcome.value)
        if outcomes[-1] != "confirmed":
            await link.read()
    assert outcomes == ["unknown", "not_sent", "confirmed"]
