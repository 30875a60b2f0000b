"""MMS messages over TCP: TPKT (RFC 1006) and COTP class 0 (ISO 8073), in asyncio.

The package's own client blocks a thread for each device, and its time-outs begin anew with each byte that
drips in; here whoever waits sets one deadline around it all, and nothing is left behind when it has passed.
"""

import asyncio
import ssl
import struct
from typing import Self

from connectors.link import LinkError
from connectors.wire_log import QUIET, Tap

TPKT_VERSION = 3
CONNECT, CONFIRM, DISCONNECT, DATA = 0xE0, 0xD0, 0x80, 0xF0
END = 0x80  # of a message, in its last part
SIZE_CODES = range(7, 14)  # of a part: 2**code bytes
SIZE_CODE = 10
REQUEST = bytes([CONNECT, 0, 0, 0, 1, 0, 0xC0, 1, SIZE_CODE, 0xC2, 2, 0, 1, 0xC1, 2, 0, 1])
MESSAGE_BYTES_MAX = 70_000  # more than the largest message we agree on
PARTS_MAX = 4096


class Transport:
    """One connection that carries whole messages. Every method that waits needs a deadline around it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tap: Tap = QUIET) -> None:
        self._reader, self._writer, self._tap = reader, writer, tap
        self._room = (1 << SIZE_CODE) - 3  # bytes of a message in one part

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
        tap: Tap = QUIET,
    ) -> Self:
        """Connect, and settle how large parts may be; `tap` is told all. Raises OSError and LinkError."""
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=server_name)
        made = cls(reader, writer, tap)
        tap.noted("connected")
        try:
            await made._agree()
        except BaseException:
            made.abort()
            raise
        return made

    async def _agree(self) -> None:
        await self._send_part(bytes([len(REQUEST)]) + REQUEST)
        answer = await self._receive_part()
        if len(answer) < 7 or answer[0] != len(answer) - 1 or answer[1] & 0xF0 != CONFIRM:
            kind = "refuses" if len(answer) > 1 and answer[1] & 0xF0 == DISCONNECT else "does not confirm"
            raise LinkError(f"it {kind} the ISO transport connection")
        at = 7
        while at + 2 <= len(answer):
            code, length = answer[at], answer[at + 1]
            if code == 0xC0 and length == 1 and at + 2 < len(answer):
                if answer[at + 2] not in SIZE_CODES:
                    raise LinkError(f"it wants parts of 2**{answer[at + 2]} bytes")
                self._room = (1 << answer[at + 2]) - 3
            at += 2 + length

    @property
    def certificate(self) -> bytes | None:
        """The certificate that the other side has shown, DER; None without TLS."""
        shown = self._writer.get_extra_info("ssl_object")
        return None if shown is None else shown.getpeercert(binary_form=True)

    @property
    def is_over(self) -> bool:
        """Whether the other side has hung up."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def send(self, message: bytes) -> None:
        """Send a message whole. Raises OSError."""
        for start in range(0, len(message), self._room):
            part = message[start : start + self._room]
            last = END if start + self._room >= len(message) else 0
            await self._send_part(bytes([2, DATA, last]) + part)

    async def receive(self) -> bytes:
        """The next message. Raises OSError, and LinkError when it is none, or the other side hangs up."""
        parts: list[bytes] = []
        length = 0
        while True:
            part = await self._receive_part()
            if len(part) >= 2 and part[1] & 0xF0 == DISCONNECT:
                raise LinkError("it has ended the transport connection")
            if len(part) < 3 or part[0] != 2 or part[1] != DATA or part[2] not in (0, END):
                raise LinkError(f"a part that is none of a message: {part[:8].hex()}")
            parts.append(part[3:])
            length += len(part) - 3
            if length > MESSAGE_BYTES_MAX or len(parts) > PARTS_MAX:
                raise LinkError(f"a message of more than {MESSAGE_BYTES_MAX} bytes")
            if part[2] == END:
                return b"".join(parts)

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included."""
        self._writer.transport.abort()
        self._tap.noted("dropped")

    async def _send_part(self, part: bytes) -> None:
        data = struct.pack("!BBH", TPKT_VERSION, 0, 4 + len(part)) + part
        self._tap.sent(data)
        self._writer.write(data)
        await self._writer.drain()

    async def _receive_part(self) -> bytes:
        try:
            head = await self._reader.readexactly(4)
            version, _, length = struct.unpack("!BBH", head)
            if version != TPKT_VERSION or length < 6:
                raise LinkError(f"no TPKT header (RFC 1006), but {version:02x} and a length of {length}")
            part = await self._reader.readexactly(length - 4)
            self._tap.received(head + part)
            return part
        except asyncio.IncompleteReadError as error:
            self._tap.received(error.partial)
            where = "in the middle of a message" if error.partial else "between messages"
            raise LinkError(f"it has hung up {where}") from None
