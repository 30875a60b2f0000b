"""A hand-driven IEC 61850 device that answers rightly, wrongly, late, in drips, or not at all."""

import asyncio
import contextlib
import random
import ssl
import struct
from collections.abc import Callable
from datetime import UTC, datetime

from open61850 import ber
from open61850 import data as iec
from open61850.mms import pdu
from open61850.mms.types import MmsType, PrimitiveType, StructureType
from open61850.server import protocol as served

from ems.clock import wall_sleep
from tests.contract.plants import free_port

CONFIRM = bytes([0xD0, 0, 1, 0, 1, 0, 0xC0, 1, 10])
F32, TIME, QUALITY = PrimitiveType("float", 32), PrimitiveType("utc-time"), PrimitiveType("bit-string", -13)
FLAG, COUNT = PrimitiveType("boolean"), PrimitiveType("integer", 32)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = iec.BitStringData(b"\0\0", 3)
TEXT = PrimitiveType("octet-string", -64)
ORIGIN = StructureType([("orCat", PrimitiveType("integer", 8)), ("orIdent", TEXT)])
OPER = StructureType(
    [
        ("ctlVal", FLAG), ("origin", ORIGIN), ("ctlNum", PrimitiveType("unsigned", 8)),
        ("T", TIME), ("Test", FLAG), ("Check", PrimitiveType("bit-string", -2)),
    ]
)  # fmt: skip
TYPES: dict[str, MmsType] = {
    "MMXU1$MX$TotW": StructureType([("mag", StructureType([("f", F32)])), ("q", QUALITY), ("t", TIME)]),
    "MMXU1$MX$TotVAr": StructureType([("mag", StructureType([("f", F32)])), ("q", QUALITY), ("t", TIME)]),
    "GGIO1$ST$IntIn1": StructureType([("stVal", COUNT), ("q", QUALITY), ("t", TIME)]),
    "GGIO1$SP$WSet": StructureType([("setMag", StructureType([("f", F32)]))]),
    "GGIO1$CO$SPCSO1": StructureType([("Oper", OPER)]),
    "GGIO1$ST$SPCSO1": StructureType([("stVal", FLAG), ("q", QUALITY), ("t", TIME)]),
}
ENHANCED = 3
Message = bytes


def told(value: iec.IECData) -> iec.StructureData:
    """With its quality and time."""
    return iec.StructureData([value, GOOD, iec.TimestampData(NOW)])


def magnitude(value: float) -> iec.StructureData:
    return told(iec.StructureData([iec.FloatData(value)]))


class FakeIed:
    """Holds `objects`; what it answers goes through `spoil`, and how it is sent through `mode`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mode = "ok"
        self.objects: dict[str, iec.IECData | int] = {
            "MMXU1$MX$TotW": magnitude(11.5),
            "MMXU1$MX$TotVAr": magnitude(-22.25),
            "GGIO1$ST$IntIn1": told(iec.IntData(3)),
            "GGIO1$SP$WSet": iec.StructureData([iec.StructureData([iec.FloatData(44.0)])]),
            "GGIO1$ST$SPCSO1": told(iec.BoolData(False)),
            "GGIO1$CF$SPCSO1$ctlModel": iec.IntData(ENHANCED),
        }
        self.spoil: Callable[[bytes], bytes] = bytes
        self.spoils: tuple[str, ...] = ("read",)  # services whose answers go through it
        self.reports: list[bytes] = []  # sent before the next answer
        self.after: Callable[[iec.StructureData], list[bytes]] = lambda oper: []  # sent after an Operate
        self.late_s, self.drip_s = 0.3, 0.02
        self.names = sorted(TYPES)  # told three at a time
        self.written: list[tuple[str, iec.IECData]] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            await _part(reader)
            writer.write(_tpkt(bytes([len(CONFIRM)]) + CONFIRM))
            asked = served.decode_association_request(await _message(reader))
            accept, _ = served.association_accept(
                asked, max_pdu_size=65000, max_outstanding=1, nesting_level=10
            )
            writer.write(_data(self.spoil(accept) if "associate" in self.spoils else accept))
            while True:
                await self._answer(reader, writer)
        self._tasks.discard(task)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = served.decode_request(pdu.unwrap(await _message(reader)))
        assert isinstance(request, served.ConfirmedRequest)
        service, right = self._right(request)
        if service in self.spoils and self.mode == "hang up in the middle":
            writer.write(_data(pdu.wrap(right))[:20])
            await writer.drain()
            raise OSError
        for report in self.reports:
            writer.write(_data(pdu.wrap(report)))
        self.reports = []
        answer = pdu.wrap(right)
        if service in self.spoils:
            answer = self.spoil(answer)
            if self.mode == "silent":
                return
            if self.mode == "late":
                await wall_sleep(self.late_s)
            if self.mode == "drip":
                for byte in _data(answer):
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await wall_sleep(self.drip_s)
                return
        writer.write(answer if self.mode == "bare" and service in self.spoils else _data(answer))
        if service == "write" and self.written and self.written[-1][0].endswith("$Oper"):
            oper = self.written[-1][1]
            assert isinstance(oper, iec.StructureData)
            for report in self.after(oper):
                writer.write(_data(pdu.wrap(report)))

    def _right(self, request: served.ConfirmedRequest) -> tuple[str, bytes]:
        number = request.invoke_id
        if request.service == pdu.SERVICE_READ:
            names, _ = served.read_request(request.content)
            assert isinstance(names, list)
            results = [self.objects.get(n.item, 10) for n in names]
            return "read", served.confirmed_response(number, request.service, served.read_response(results))
        if request.service == pdu.SERVICE_WRITE:
            names, values = served.write_request(request.content)
            assert isinstance(names, list)
            self.written += [(n.item, v) for n, v in zip(names, values, strict=True)]
            response = served.write_response([None] * len(names))
            return "write", served.confirmed_response(number, request.service, response)
        if request.service == pdu.SERVICE_GET_NAME_LIST:
            kind, _, after = served.get_name_list_request(request.content)
            listed = ["LD0"] if kind == pdu.OBJECT_CLASS_DOMAIN else self.names
            rest = listed[listed.index(after) + 1 :] if after in listed else listed
            response = served.get_name_list_response(rest[:3], len(rest) > 3)
            return "names", served.confirmed_response(number, request.service, response)
        name = served.object_name_request(request.content)
        if name.item not in TYPES:
            return "type", served.confirmed_error(number, 7, 2)
        response = served.get_variable_access_attributes_response(TYPES[name.item])
        return "type", served.confirmed_response(number, request.service, response)


def ended(oper: iec.StructureData, number: int | None = None, cause: int | None = None) -> bytes:
    """A CommandTermination, positive unless there is an AddCause; `number` is another ctlNum."""
    members = list(oper.members)
    if number is not None:
        members[2] = iec.UIntData(number)
    name = pdu.ObjectName("GGIO1$CO$SPCSO1$Oper", "LD0")
    variables = [name]
    values: list[iec.IECData | int] = [iec.StructureData(members)]
    if cause is not None:
        error = iec.StructureData(
            [
                iec.VisibleStringData("LD0/GGIO1$CO$SPCSO1$Oper"), iec.IntData(0), members[1], members[2],
                iec.IntData(cause),
            ]
        )  # fmt: skip
        variables, values = [pdu.ObjectName("LastApplError"), name], [error, iec.StructureData(members)]
    return served.information_report(values, variables=variables)


def spoiled(rng: random.Random, message: bytes) -> bytes:
    """What a broken device might send: bytes lost or added, inside of an envelope that is right or not.

    Never as many bytes of the same length in the place of others: a wrong number in the right form cannot be
    told from a right one by anybody, MMS having no check of its own.
    """
    inner, whole = message, True
    if message.startswith(pdu.SESSION_DATA) and rng.random() < 0.7:
        inner, whole = pdu.unwrap(message), False
        if rng.random() < 0.6:  # the outermost length is made right again
            outer = ber.decode_tlv(inner)
            return pdu.wrap(ber.encode_tlv(outer.tag, _torn(rng, outer.value)))
    torn = _torn(rng, inner)
    return torn if whole else pdu.wrap(torn)


def _torn(rng: random.Random, data: bytes) -> bytes:
    at, length = rng.randrange(len(data)), rng.randint(1, 12)
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + rng.randbytes(length) + data[at:]
    return rng.randbytes(rng.randint(1, 200))


def _tpkt(part: bytes) -> bytes:
    return struct.pack("!BBH", 3, 0, 4 + len(part)) + part


def _data(message: bytes) -> bytes:
    return b"".join(
        _tpkt(bytes([2, 0xF0, 0x80 if i + 1000 >= len(message) else 0]) + message[i : i + 1000])
        for i in range(0, max(1, len(message)), 1000)
    )


async def _part(reader: asyncio.StreamReader) -> bytes:
    _, _, length = struct.unpack("!BBH", await reader.readexactly(4))
    return await reader.readexactly(length - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    parts = b""
    while True:
        part = await _part(reader)
        parts += part[3:]
        if part[2] & 0x80:
            return parts
