"""Questions over Modbus TCP: one connection to a host, made anew after whatever was not an answer."""

import asyncio
import contextlib
import struct

from connectors.scan.asking import FRAME_BYTES_MAX, Answer, Kind, only_reads

_HEAD = struct.Struct(">HHHB")  # transaction id, protocol id 0, length, unit id


class TcpAsker:
    """Asks one host.

    Parameters
    ----------
    host, port : where it listens.
    timeout_s : for the connection, and for each whole answer, wall time [s].
    """

    can_identify = True

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._transaction = 0

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self._host}:{self._port}"

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        """One question; the connection is made where there is none, and dropped after a wrong answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._exchange(unit, only_reads(pdu))
        except TimeoutError:
            answer = Answer(kind=Kind.SILENT, text="no answer in time")
        except asyncio.IncompleteReadError:
            answer = Answer(kind=Kind.SILENT, text="the connection was closed")
        except OSError as error:
            answer = Answer(kind=Kind.SILENT, text=f"cannot be reached: {error.strerror or error}")
        if answer.kind in (Kind.SILENT, Kind.GARBLED):
            self.close()  # what comes later is no answer to the next question
        return answer

    def close(self) -> None:
        """Drop the connection now."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def _exchange(self, unit: int, pdu: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=FRAME_BYTES_MAX)
        reader, writer = self._streams
        self._transaction = self._transaction % 0xFFFF + 1
        writer.write(_HEAD.pack(self._transaction, 0, len(pdu) + 1, unit) + pdu)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        transaction, protocol, length, told = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if (transaction, protocol, told) != (self._transaction, 0, unit) or not 3 <= length <= 254:
            return Answer(kind=Kind.GARBLED, text="what comes back is no Modbus TCP")
        body = await reader.readexactly(length - 1)
        if body[0] == pdu[0] | 0x80 and len(body) == 2:
            return Answer(kind=Kind.EXCEPTION, code=body[1], text=f"exception {body[1]}")
        if body[0] != pdu[0]:
            return Answer(kind=Kind.GARBLED, text=f"function {body[0]} answers {pdu[0]}")
        return Answer(kind=Kind.DATA, data=body[1:])
