"""A hand-written BACnet/IP device: bytes of its own making, and a hand that spoils them."""

import asyncio
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

DEVICE_ID = 1201
DEVICE = (8, DEVICE_ID)
Key = tuple[int, int]
WRITE = 15


def real(value: float) -> bytes:
    return b"\x44" + struct.pack(">f", value)


def enumerated(value: int) -> bytes:
    return bytes([0x91, value])


def unsigned(value: int) -> bytes:
    return b"\x22" + struct.pack(">H", value)


def flags(bits: int = 0) -> bytes:
    return bytes([0x82, 4, bits << 4])


def measured(value: bytes) -> dict[int, bytes]:
    return {85: value, 111: flags(), 103: enumerated(0)}


def commandable(value: bytes) -> dict[int, bytes]:
    return measured(value) | {87: b"\x00" * 9 + value + b"\x00" * 6}


SERVICES = bytes([0x85, 6, 0, 0, 0b00001011, 0, 0, 0])  # ReadProperty, ReadPropertyMultiple, WriteProperty
OBJECTS: dict[Key, dict[int, bytes]] = {
    (0, 0): measured(real(11.5)),
    (0, 1): measured(real(-22.25)),
    (13, 4): measured(unsigned(300)),
    (3, 0): measured(enumerated(0)),
    (3, 1): measured(enumerated(1)),
    (1, 5): commandable(real(44.0)),
    DEVICE: {62: unsigned(1476), 97: SERVICES, 112: enumerated(0)},
}


class Parts:
    """A message that is being made, and which of its bytes are values: of those nobody can tell."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.values = bytearray(data), set[int]()
        self.heads = set[int]()  # of values: a tag put before one makes it another value

    def add(self, data: bytes) -> None:
        self.data += data

    def add_value(self, data: bytes) -> None:
        """Application values; their tags are no values."""
        at = 0
        while at < len(data):
            length = data[at] & 7
            head = 1 if length < 5 else 2
            length = length if length < 5 else data[at + 1]
            begin = len(self.data) + at + head
            self.heads.add(begin - head)
            self.values |= set(range(begin, begin + length))
            at += head + length
        self.data += data


def context(number: int, value: int) -> bytes:
    data = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return bytes([number << 4 | 8 | len(data)]) + data


def parsed(data: bytes) -> tuple[int, int, bytes]:
    """Invoke id, service and body of a request, its BVLC and NPDU behind us."""
    at = 6
    if data[5] & 0x20:
        at += 3 + data[8] + 1
    apdu = data[at:]
    assert apdu[:2] == b"\x00\x05", "a request, and an answer of up to 1476 bytes in one piece"
    return apdu[2], apdu[3], apdu[4:]


def wanted(service: int, body: bytes) -> Iterator[tuple[Key, list[int]]]:
    """Objects and their properties of a read request."""
    at = 0
    while at < len(body):
        assert body[at] == 0x0C
        number = int.from_bytes(body[at + 1 : at + 5], "big")
        at += 5
        props = []
        if service == 12:
            length = body[at] & 7
            props.append(int.from_bytes(body[at + 1 : at + 1 + length], "big"))
            at = len(body)
        else:
            assert body[at] == 0x1E
            at += 1
            while body[at] != 0x1F:
                length = body[at] & 7
                props.append(int.from_bytes(body[at + 1 : at + 1 + length], "big"))
                at += 1 + length
            at += 1
        yield (number >> 22, number & 0x3FFFFF), props


class FakeDevice:
    """Answers as it should; `spoil` makes of a right answer what is sent instead."""

    def __init__(self, npdu: bytes = b"\x01\x00") -> None:
        self.objects = {key: dict(props) for key, props in OBJECTS.items()}
        self.npdu = npdu
        self.asked: list[tuple[int, int, bytes]] = []
        self.write_answer = b""  # instead of an acknowledgement: type, behind its invoke id
        self.spoil: Callable[[Parts, int], list[bytes]] | None = None  # answer, service
        self.port = 0
        self._transport: Any = None

    async def start(self, port: int = 0) -> None:
        device = self

        class Door(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                for answer in device.answers(data):
                    device.send(answer, addr)

        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(Door, local_addr=("127.0.0.1", port))
        self.port = self._transport.get_extra_info("sockname")[1]

    def send(self, data: bytes, to: Any) -> None:
        self._transport.sendto(data, to)

    def stop(self) -> None:
        self._transport.close()

    def answers(self, data: bytes) -> list[bytes]:
        """Datagrams that a request is answered with."""
        self.asked.append(parsed(data))
        invoke, service, body = self.asked[-1]
        right = self.answer(invoke, service, body)
        if self.spoil is None:
            return [whole(right.data)]
        return self.spoil(right, service)

    def answer(self, invoke: int, service: int, body: bytes) -> Parts:
        """NPDU and APDU of the right answer."""
        out = Parts(self.npdu)
        if service == WRITE:
            out.add(self.write_answer[:1] + bytes([invoke]) + self.write_answer[1:]
                    if self.write_answer else bytes([0x20, invoke, WRITE]))  # fmt: skip
            return out
        found = list(wanted(service, body))
        if service == 12:
            ((key, (prop,)),) = found
            if prop not in self.objects.get(key, {}):
                out.add(bytes([0x50, invoke, service]))
                out.add_value(enumerated(1 if key not in self.objects else 2))
                out.add_value(enumerated(31 if key not in self.objects else 32))
                return out
            out.add(bytes([0x30, invoke, service]))
            out.add(b"\x0c" + (key[0] << 22 | key[1]).to_bytes(4, "big") + context(1, prop) + b"\x3e")
            out.add_value(self.objects[key][prop])
            out.add(b"\x3f")
            return out
        out.add(bytes([0x30, invoke, service]))
        for key, props in found:
            out.add(b"\x0c" + (key[0] << 22 | key[1]).to_bytes(4, "big") + b"\x1e")
            for prop in props:
                out.add(context(2, prop))
                value = self.objects.get(key, {}).get(prop)
                out.add(b"\x5e" if value is None else b"\x4e")
                out.add_value(enumerated(2) + enumerated(32) if value is None else value)
                out.add(b"\x5f" if value is None else b"\x4f")
            out.add(b"\x1f")
        return out


def whole(message: bytes | bytearray) -> bytes:
    """With its BVLC."""
    return b"\x81\x0a" + struct.pack(">H", len(message) + 4) + bytes(message)


class Hand:
    """Spoils answers by a seed; whatever it makes of one differs in more than in values."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._before: list[bytes] = []

    def spoilt(self, right: Parts) -> bytes:
        """One datagram that is not the right answer."""
        good = whole(right.data)
        while (bad := self._made(right)) == good:
            pass
        self._before = [*self._before[-20:], good]
        return bad

    def _made(self, right: Parts) -> bytes:
        rng, data = self.rng, bytearray(right.data)
        way = rng.randrange(8)
        if way == 0:
            return rng.randbytes(rng.randrange(80))
        if way == 1:
            return whole(rng.randbytes(rng.randrange(80)))
        if way == 2:
            return whole(bytes(right.data[:5]) + rng.randbytes(rng.randrange(60)))  # a head that is right
        if way == 3 and self._before:
            return rng.choice(self._before)  # an answer of before
        if way == 4:
            return whole(data[: rng.randrange(len(data))])
        if way == 5:
            at = rng.choice([i for i in range(len(data) + 1) if i not in right.heads])
            return whole(data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at:])
        if way == 6:
            at = rng.randrange(len(data))
            return whole(data[:at] + data[at + rng.randint(1, 4) :])
        spots = [i for i in range(len(data)) if i not in right.values]
        for at in rng.sample(spots, min(len(spots), rng.randint(1, 3))):
            data[at] ^= rng.randrange(1, 256)
        bad = whole(data)
        if rng.random() < 0.1:
            bad = bytes([*bad[:2], *rng.randbytes(2), *bad[4:]])
        return bad
