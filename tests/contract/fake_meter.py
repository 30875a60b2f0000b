"""A meter written from the bytes of the standard: it answers rightly, wrongly, late, in drips, or not.

It shares no code with ours nor with dlms-cosem: what it sends is put together here, and AES-GCM is that of
the package cryptography.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ems.clock import wall_sleep
from tests.contract.plants import free_port

CLIENT, SERVER = 32, 1
EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
OURS, METERS = b"EMS\x00\x00\x00\x00\x01", b"MTR\x00\x00\x00\x10\x01"
PASSWORD = b"Rv-0815-x"
CONFORMANCE = 1 << 4 | 1 << 9 | 1 << 12 | 1 << 2  # get, lists, blocks, selective access
WH, W, V, A, HZ, VAR, NONE = 30, 27, 35, 33, 44, 29, 255


def obis(text: str) -> bytes:
    head, _, f = text.partition("*")
    return bytes([int(x) for x in head.replace("-", ".").replace(":", ".").split(".")] + [int(f or 255)])


def size(count: int) -> bytes:
    if count < 0x80:
        return bytes([count])
    body = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(body)]) + body


def u32(value: int) -> bytes:
    return b"\x06" + struct.pack(">I", value)


def i32(value: int) -> bytes:
    return b"\x05" + struct.pack(">i", value)


def u16(value: int) -> bytes:
    return b"\x12" + struct.pack(">H", value)


def u8(value: int) -> bytes:
    return bytes([0x11, value])


def i16(value: int) -> bytes:
    return b"\x10" + struct.pack(">h", value)


def u64(value: int) -> bytes:
    return b"\x15" + struct.pack(">Q", value)


def f32(value: float) -> bytes:
    return b"\x17" + struct.pack(">f", value)


def octets(data: bytes) -> bytes:
    return b"\x09" + size(len(data)) + data


def visible(text: str) -> bytes:
    return b"\x0a" + size(len(text)) + text.encode()


def structure(*parts: bytes) -> bytes:
    return b"\x02" + size(len(parts)) + b"".join(parts)


def array(*parts: bytes) -> bytes:
    return b"\x01" + size(len(parts)) + b"".join(parts)


def enum(value: int) -> bytes:
    return bytes([0x16, value])


def scaler(exponent: int, unit: int) -> bytes:
    return structure(b"\x0f" + struct.pack(">b", exponent), enum(unit))


def moment(at: datetime, deviation_min: int | None = 0, status: int = 0) -> bytes:
    """Twelve octets: local time, and what is added to it for UTC."""
    local = at.astimezone(UTC) - timedelta(minutes=deviation_min or 0)
    deviation = -0x8000 if deviation_min is None else deviation_min
    date = struct.pack(">HBBB", local.year, local.month, local.day, local.isoweekday())
    clock = bytes([local.hour, local.minute, local.second, local.microsecond // 10_000])
    return date + clock + struct.pack(">hB", deviation, status)


def time_of(data: bytes) -> datetime:
    """Of twelve octets that a client sends."""
    year, month, day, _, hour, minute, second, _, deviation, _ = struct.unpack(">HBBBBBBBhB", data)
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC) + timedelta(minutes=deviation)


Place = tuple[int, bytes, int]


class FakeMeter:
    """Holds `objects`: (class, OBIS, attribute) -> data, or a result that is not 0."""

    def __init__(self) -> None:
        self.port = free_port()
        self.objects: dict[Place, bytes | int] = {}
        self.authentication = "none"
        self.conformance, self.pdu = CONFORMANCE, 512
        self.block = 0  # bytes of a block; 0: answers are never cut
        self.mode = "ok"
        self.lists = "ok"  # | exception | error | silent
        self.late_s, self.drip_s = 0.4, 0.02
        self.spoil: Callable[[bytes], bytes] = bytes  # of an answer to a GET, in clear
        self.spoil_block: Callable[[bytes], bytes] = bytes
        self.spoil_aare: Callable[[bytes], bytes] = bytes
        self.spoil_action: Callable[[bytes], bytes] = bytes
        self.spoil_ciphered: Callable[[bytes], bytes] = bytes
        self.spoil_frame: Callable[[bytes], bytes] = bytes
        self.before = b""  # frames in front of the next answer
        self.result, self.diagnosis = 0, 0
        self.key, self.other = EK, AK
        self.heard = 0  # the client's invocation counter, kept over associations as a meter keeps it
        self.counter = 1
        self.asked: list[list[Place]] = []
        self.selections: list[bytes] = []
        self.counters: list[int] = []
        self.connections = self.associations = self.released = self.busy = 0
        self.frames = 0  # that were answered without a network between
        self.unknown: list[bytes] = []  # requests that are no GET: there must be none
        self.profile: Callable[[Place, bytes], bytes] | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def register(self, code: str, value: bytes, exponent: int = 0, unit: int = W, class_id: int = 3) -> None:
        at = obis(code)
        self.objects[class_id, at, 2] = value
        self.objects[class_id, at, 4 if class_id == 5 else 3] = scaler(exponent, unit)

    def data(self, code: str, value: bytes) -> None:
        self.objects[1, obis(code), 2] = value

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        client = _Client(self)
        try:
            while True:
                head = await reader.readexactly(8)
                version, source, target, length = struct.unpack(">HHHH", head)
                assert (version, source, target) == (1, CLIENT, SERVER), head.hex()
                answer = client.answer(await reader.readexactly(length))
                if answer is None or not await self._send(writer, answer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.busy -= client.is_associated
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _send(self, writer: asyncio.StreamWriter, apdu: bytes) -> bool:
        if not apdu or self.mode == "silent":
            return True
        if self.mode == "cut":
            return False
        frame = self.before + self.spoil_frame(struct.pack(">HHHH", 1, SERVER, CLIENT, len(apdu)) + apdu)
        self.before = b""
        if self.mode == "late":
            await wall_sleep(self.late_s)
        if self.mode == "drip":
            for byte in frame:
                writer.write(bytes([byte]))
                await writer.drain()
                await wall_sleep(self.drip_s)
            return True
        writer.write(frame * (2 if self.mode == "twice" else 1))
        await writer.drain()
        return True


class _Client:
    """One connection."""

    def __init__(self, meter: FakeMeter) -> None:
        self.meter, self.is_associated = meter, False
        self._blocks: list[bytes] = []
        self._challenges = b"", b""
        self._title = b""

    def answer(self, apdu: bytes) -> bytes | None:
        """The APDU that answers; empty: none; None: the connection goes."""
        if apdu[0] == 0x60:
            return self._associate(apdu)
        if apdu[0] == 0x62:
            self.meter.released += 1
            self.meter.busy -= self.is_associated
            self.is_associated = False
            return bytes.fromhex("6303800100")
        if not self.is_associated:
            return bytes.fromhex("d80101")
        if self.meter.authentication != "gmac":
            return self._service(apdu)
        plain = self._decrypt(apdu)
        if plain is None:
            return bytes.fromhex("d80105")
        told = self._service(plain)
        return self._encrypt(told, apdu[0]) if told else told

    def _associate(self, aarq: bytes) -> bytes | None:
        meter, parts = self.meter, dict(_tlv(aarq[2:]))
        assert aarq[1] == len(aarq) - 2, "one byte of length"
        if meter.busy:
            return None  # somebody else has the one association
        way = parts.get(0x8B, b"\x00")[-1]
        wanted = {"none": 0, "low": 1, "gmac": 5}[meter.authentication]
        result, diagnosis = meter.result, meter.diagnosis
        if not result and way != wanted:
            result, diagnosis = 1, 11
        if not result and meter.authentication == "low" and parts[0xAC][2:] != PASSWORD:
            result, diagnosis = 1, 13
        conformance = meter.conformance.to_bytes(3, "big")
        initiate = b"\x08\x00\x06\x5f\x1f\x04\x00" + conformance + struct.pack(">H", meter.pdu) + b"\x00\x07"
        body = _tl(0xA1, _tl(0x06, bytes.fromhex("608574050801") + bytes([3 if wanted == 5 else 1])))
        body += _tl(0xA2, _tl(0x02, bytes([result])))
        if meter.authentication == "gmac" and not result:
            self._title = parts[0xA6][2:]
            self._challenges = parts[0xAC][2:], bytes(range(0x40, 0x50))
            request = parts[0xBE][2:]
            assert self._decrypt(request) == bytes.fromhex("010000000 65f1f0400 401215ffff".replace(" ", ""))
            body += _tl(0xA3, _tl(0xA1, _tl(0x02, b"\x0e")))
            body += _tl(0xA4, _tl(0x04, METERS)) + _tl(0x88, b"\x07\x80")
            body += _tl(0x89, bytes.fromhex("60857405080205")) + _tl(0xAA, _tl(0x80, self._challenges[1]))
            initiate = self._encrypt(initiate, 0x21)
        else:
            body += _tl(0xA3, _tl(0xA1, _tl(0x02, bytes([diagnosis]))))
        body += _tl(0xBE, _tl(0x04, initiate))
        if not result:
            self.is_associated = True
            meter.associations += 1
            meter.busy += 1
        return meter.spoil_aare(_tl(0x61, body))

    def _service(self, apdu: bytes) -> bytes:
        meter = self.meter
        if apdu[0] == 0xC3 and apdu[1] == 1:
            return self._prove(apdu)
        if apdu[0] != 0xC0:
            meter.unknown.append(apdu)
            return bytes.fromhex("d80202")
        invoke = apdu[2:3]
        if apdu[1] == 2:
            return self._next(invoke, int.from_bytes(apdu[3:7], "big"))
        places = list(_places(apdu))
        meter.asked.append([place for place, _ in places])
        if apdu[1] == 3 and meter.lists != "ok":
            refusals = {"exception": "d80202", "error": f"c401{invoke.hex()}01fa", "silent": ""}
            return bytes.fromhex(refusals[meter.lists])
        told = [self._value(place, selection) for place, selection in places]
        results = [b"\x00" + t if isinstance(t, bytes) else bytes([1, t]) for t in told]
        whole = size(len(results)) + b"".join(results) if apdu[1] == 3 else results[0]
        if meter.block and len(whole) + 3 > meter.block and (apdu[1] == 3 or isinstance(told[0], bytes)):
            raw = whole if apdu[1] == 3 else whole[1:]
            self._blocks = [raw[i : i + meter.block] for i in range(0, len(raw), meter.block)]
            return self._next(invoke, 0)
        return meter.spoil(b"\xc4" + apdu[1:2] + invoke + whole)

    def _value(self, place: Place, selection: bytes) -> bytes | int:
        if selection:
            self.meter.selections.append(selection)
        if self.meter.profile is not None and place[0] == 7 and place[2] == 2:
            return self.meter.profile(place, selection)
        return self.meter.objects.get(place, 4)

    def _next(self, invoke: bytes, before: int) -> bytes:
        if before >= len(self._blocks):
            return b"\xc4\x01" + invoke + b"\x01\x13"
        part, number = self._blocks[before], before + 1
        last = bytes([number == len(self._blocks)])
        block = b"\xc4\x02" + invoke + last + struct.pack(">I", number) + b"\x00" + size(len(part)) + part
        return self.meter.spoil_block(block)

    def _prove(self, apdu: bytes) -> bytes:
        ours, theirs = self._challenges
        assert apdu[3:12] == b"\x00\x0f" + obis("0-0:40.0.0") + b"\x01"
        proof = apdu[15:]
        number = int.from_bytes(proof[1:5], "big")
        good = proof == self._proof(self._title, number, theirs)
        if not good:
            self.is_associated = False
            self.meter.busy -= 1
            return b"\xc7\x01" + apdu[2:3] + b"\x03\x00"
        told = self._proof(METERS, self.meter.counter, ours)
        self.meter.counter += 1
        return self.meter.spoil_action(b"\xc7\x01" + apdu[2:3] + b"\x00\x01\x00" + octets(told))

    def _proof(self, title: bytes, number: int, challenge: bytes) -> bytes:
        iv = title + struct.pack(">I", number)
        tag = AESGCM(self.meter.key).encrypt(iv, b"", b"\x10" + self.meter.other + challenge)[:12]
        return b"\x10" + struct.pack(">I", number) + tag

    def _encrypt(self, plain: bytes, request: int) -> bytes:
        meter = self.meter
        number, meter.counter = meter.counter, meter.counter + 1
        iv = METERS + struct.pack(">I", number)
        sealed = AESGCM(meter.key).encrypt(iv, plain, b"\x30" + meter.other)
        content = b"\x30" + struct.pack(">I", number) + sealed[: len(plain) + 12]
        head = {0x21: b"\x28", 0xC8: b"\xcc", 0xCB: b"\xcf", 0xDB: b"\xdb\x08" + METERS}[request]
        whole = head + size(len(content)) + content
        return whole if request == 0x21 else meter.spoil_ciphered(whole)

    def _decrypt(self, apdu: bytes) -> bytes | None:
        """The counter must be higher than every one before; the tag is that of GCM, cut to 12 bytes."""
        at = 1
        if apdu[0] == 0xDB:
            assert apdu[1:10] == b"\x08" + OURS
            at = 10
        length = (
            apdu[at] if apdu[at] < 0x80 else int.from_bytes(apdu[at + 1 : at + 1 + (apdu[at] & 0x7F)], "big")
        )
        content = apdu[len(apdu) - length :]
        number = int.from_bytes(content[1:5], "big")
        self.meter.counters.append(number)
        if content[0] != 0x30 or number <= self.meter.heard:
            return None
        self.meter.heard = number
        iv, text = OURS + struct.pack(">I", number), content[5:-12]
        # GCM is a stream: decrypt by encrypting, then compare the tag of the text that was found.
        plain = AESGCM(self.meter.key).encrypt(iv, text, b"")[: len(text)]
        sealed = AESGCM(self.meter.key).encrypt(iv, plain, b"\x30" + self.meter.other)
        return plain if sealed[: len(plain) + 12] == content[5:] else None


def _tl(tag: int, data: bytes) -> bytes:
    return bytes([tag]) + size(len(data)) + data


def _tlv(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        tag, length = data[0], data[1]
        yield tag, data[2 : 2 + length]
        data = data[2 + length :]


def _places(apdu: bytes) -> Iterator[tuple[Place, bytes]]:
    count, at, selection = (apdu[3], 4, b"") if apdu[1] == 3 else (1, 3, b"")
    for _ in range(count):
        row = apdu[at : at + 9]
        selection = apdu[at + 10 :] if apdu[at + 9] else b""
        yield (int.from_bytes(row[:2], "big"), row[2:8], row[8]), selection
        at += 10
    assert at == len(apdu) or selection
