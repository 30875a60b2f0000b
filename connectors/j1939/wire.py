"""Frames of a CAN bus: a SocketCAN interface (kernel: Documentation/networking/can.rst), or a serial adapter.

Adapters speak the line protocol of Lawicel (CAN232), `slcan`: `T`, eight digits of the identifier, one of
the length, the data, a carriage return. They are opened to listen alone; nothing is ever sent to the bus.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import tty
from collections.abc import Iterator
from typing import NamedTuple

from connectors.link import LinkError
from connectors.listening import SO_TIMESTAMPNS, waited_s
from ems.j1939 import BITRATES, Can

Frame = tuple[int, bytes]  # 29-bit identifier, data
SO_RXQ_OVFL = 40
BUFFER_BYTES, BATCH = 262144, 64
EXTENDED, REMOTE, ERROR, NUMBER = 0x80000000, 0x40000000, 0x20000000, 0x1FFFFFFF
LINE_MAX, READ_BYTES = 64, 4096  # bytes of a line; of one read
DIGITS = frozenset(b"0123456789ABCDEFabcdef")


class Parsed(NamedTuple):
    """Lines of an adapter: frames, how many lines were none, and what is left for the next read."""

    frames: list[Frame]
    malformed: int
    rest: bytes


def parsed(data: bytes) -> Parsed:
    """Whole lines of an adapter. Answers and frames that are not of J1939 are left out."""
    *lines, rest = data.replace(b"\a", b"\r").split(b"\r")
    frames: list[Frame] = []
    malformed = 0
    for line in lines:
        if not line or line[:1] in b"trRzZCSOLVNF":
            continue
        frame = _frame(line)
        malformed += frame is None
        if frame is not None:
            frames.append(frame)
    if len(rest) > LINE_MAX:
        return Parsed(frames, malformed + 1, b"")
    return Parsed(frames, malformed, rest)


def _frame(line: bytes) -> Frame | None:
    """A line with a frame; four digits of a time may stand behind it."""
    if len(line) < 10 or line[:1] != b"T" or not DIGITS.issuperset(line[1:]):
        return None
    number, length = int(line[1:9], 16), int(line[9:10], 16)
    if number > NUMBER or length > 8 or len(line) not in (10 + 2 * length, 14 + 2 * length):
        return None
    return number, bytes.fromhex(line[10 : 10 + 2 * length].decode())


def captured(frame: Frame) -> bytes:
    """A frame as captures of link type 227 (CAN_SOCKETCAN) have it: identifier and flags, length, data."""
    number, data = frame
    return struct.pack(">IB3x", EXTENDED | number, len(data)) + data


class Slcan:
    """A serial adapter, for this process alone."""

    def __init__(self, device: str, bitrate: int) -> None:
        self._device, self._bitrate = device, bitrate
        self._descriptor = -1
        self._rest = b""
        self.malformed = 0
        self.dropped = 0

    def open(self) -> None:
        """Begin to listen. Raises LinkError."""
        try:
            descriptor = os.open(self._device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise LinkError(f"cannot open {self._device}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tty.setraw(descriptor)
            settings = termios.tcgetattr(descriptor)
            settings[4] = settings[5] = termios.B115200
            termios.tcsetattr(descriptor, termios.TCSANOW, settings)
            termios.tcflush(descriptor, termios.TCIFLUSH)
            os.write(descriptor, f"C\rS{BITRATES[self._bitrate]}\rL\r".encode())
        except BlockingIOError:
            os.close(descriptor)
            raise LinkError(f"{self._device} is held by another process") from None
        except (OSError, termios.error) as error:
            os.close(descriptor)
            raise LinkError(f"{self._device} is no serial port: {error}") from None
        self._descriptor, self._rest = descriptor, b""

    def frames(self, wait_s: float) -> Iterator[tuple[Frame, float]]:
        """What has come, each with how long ago [s]; waits so long for the first. Raises LinkError."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if not poller.poll(1000.0 * wait_s):
            return
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise LinkError(f"{self._device}: {error.strerror}") from None
        if not data:
            raise LinkError(f"{self._device} hung up: was the adapter pulled?")
        told = parsed(self._rest + data)
        self._rest = told.rest
        self.malformed += told.malformed
        for frame in told.frames:
            yield frame, 0.0

    def close(self) -> None:
        """End to listen."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(descriptor, b"C\r")
            os.close(descriptor)


class SocketCan:
    """A CAN interface of the system; None as source: everybody."""

    def __init__(self, interface: str, source: int | None) -> None:
        self._interface, self._source = interface, source
        self._socket: socket.socket | None = None
        self.malformed = 0
        self.dropped = 0

    def open(self) -> None:
        """Begin to listen. Raises LinkError."""
        try:
            made = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        except OSError as error:
            why = error.strerror
            if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM):
                why = "this system has no CAN, or we may not use it: modprobe can_raw, AF_CAN (docs/j1939.md)"
            raise LinkError(f"cannot listen to {self._interface}: {why}") from None
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES // 2)  # the kernel doubles it
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            known, mask = (0, 0) if self._source is None else (self._source, 0xFF)
            wanted = struct.pack("=II", EXTENDED | known, EXTENDED | REMOTE | mask)
            made.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, wanted)
            made.bind((self._interface,))
            made.setblocking(False)
        except OSError as error:
            made.close()
            raise LinkError(f"cannot listen to {self._interface}: {error.strerror}") from None
        self._socket = made

    def frames(self, wait_s: float) -> Iterator[tuple[Frame, float]]:
        """What has come, each with how long ago [s]; waits so long for the first. Raises LinkError."""
        made = self._socket
        if made is None:
            raise LinkError("not listening")
        poller = select.poll()
        poller.register(made, select.POLLIN)
        if not poller.poll(1000.0 * wait_s):
            return
        for _ in range(BATCH):
            try:
                data, more, _, _ = made.recvmsg(16, 128)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkError(f"{self._interface}: {error.strerror}; is it up?") from None
            if len(data) != 16:
                self.malformed += 1
                continue
            number, length, payload = struct.unpack("=IB3x8s", data)
            if number & EXTENDED and not number & (REMOTE | ERROR) and length <= 8:
                yield (number & NUMBER, payload[:length]), self._age_s(more)

    def _age_s(self, more: list[tuple[int, int, bytes]]) -> float:
        age_s = 0.0
        for _, kind, data in more:
            if kind == SO_TIMESTAMPNS:
                age_s = waited_s(data)
            elif kind == SO_RXQ_OVFL and len(data) >= 4:
                self.dropped = int(struct.unpack("I", data[:4])[0])  # since it was opened
        return age_s

    def close(self) -> None:
        """End to listen."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()


def wire_of(can: Can) -> Slcan | SocketCan:
    """The way to a bus."""
    return SocketCan(can.interface, can.source) if can.interface else Slcan(can.serial, can.bitrate)
