"""Rows of an OPC UA server's history: read once, kept in a file while they are checked and stored."""

import asyncio
import hashlib
import math
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import IO

from asyncua import ua

from connectors.imports.rows import Line, refused
from connectors.link import LinkError
from connectors.opcua.client import OpcUaLink
from connectors.opcua.history import NotKept, find, raw_history
from connectors.opcua.security import url_of
from connectors.sqlite_file import to_ms
from ems.imports import UA_COLUMNS, ImportMapping
from ems.site import Connection

_ROW = struct.Struct("<HqdB")  # number of the tag, milliseconds, value (NaN: none), good
AT_ONCE = 10_000
KEPT = "a node whose history of numbers the server keeps and lets this user read"


class UaHistoryRows:
    """Of the nodes that a mapping names, in [start, end).

    Parameters
    ----------
    server : where it is; files of its security as whole paths.
    folder : takes the file of what was read, which goes when this object does.
    now : aware time, to compare the validity of certificates with.
    """

    def __init__(
        self,
        server: Connection,
        mapping: ImportMapping,
        start: datetime,
        end: datetime,
        *,
        folder: Path,
        now: Callable[[], datetime],
    ) -> None:
        self._server, self._mapping, self._folder, self._now = server, mapping, folder, now
        self._start, self._end = start, end
        self.name = url_of(server.endpoint, server.host, server.port)
        self._tags = list(mapping.points)
        self._spool: IO[bytes] | None = None

    def identity(self) -> str:
        """Of the question: what it finds is known afterwards."""
        asked = f"{self.name}\0{self._start.isoformat()}\0{self._end.isoformat()}"
        return hashlib.sha256(asked.encode()).hexdigest()

    def lines(self) -> Iterator[Line]:
        """Each value. The server is asked the first time only. Raises ConfigError."""
        if self._spool is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            spool = tempfile.TemporaryFile(dir=self._folder, prefix="import-")  # noqa: SIM115
            try:
                asyncio.run(self._fetch(spool))
            except LinkError as error:
                spool.close()
                raise refused(self.name, None, "server", str(error), "a server that answers") from None
            except BaseException:
                spool.close()
                raise
            self._spool = spool
        return self._kept(self._spool)

    def close(self) -> None:
        """Forget what was read."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    async def _fetch(self, spool: IO[bytes]) -> None:
        server = self._server
        link = OpcUaLink(
            server, (), host=server.host, port=server.port, timeout_s=server.timeout_s, now=self._now
        )
        try:
            await link.connect()
            nodes = await find(link, self._tags, server.timeout_s)
            for number, tag in enumerate(self._tags):
                if tag not in nodes:
                    raise refused(self.name, None, tag, "no node there", KEPT)
                try:
                    await self._one(link, number, nodes[tag], spool)
                except NotKept as error:
                    raise refused(self.name, None, tag, str(error), KEPT) from None
        finally:
            await link.disconnect()

    async def _one(self, link: OpcUaLink, number: int, node: ua.NodeId, spool: IO[bytes]) -> None:
        """Every value of one node; of several within a millisecond the first."""
        last_ms: int | None = None
        history = raw_history(link, node, self._start, self._end, timeout_s=self._server.timeout_s)
        async with aclosing(history) as values:
            async for past in values:
                at_ms = to_ms(past.at)
                if at_ms != last_ms:
                    value = math.nan if past.value is None else past.value
                    spool.write(_ROW.pack(number, at_ms, value, past.good))
                last_ms = at_ms

    def _kept(self, spool: IO[bytes]) -> Iterator[Line]:
        spool.seek(0)
        count = 0
        while block := spool.read(AT_ONCE * _ROW.size):
            for number, at_ms, value, good in _ROW.iter_unpack(block):
                count += 1
                told = None if not math.isfinite(value) else value
                cells = (at_ms, self._tags[number], told, "good" if good else "bad")
                yield Line(count, dict(zip(UA_COLUMNS, cells, strict=True)))
