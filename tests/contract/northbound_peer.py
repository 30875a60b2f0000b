"""Our Modbus server over a fake edge, on a free port; and a client that sends whatever bytes it likes."""

import asyncio
import contextlib
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.northbound.modbus_server import ModbusServing
from ems.clock import SystemClock
from ems.control_site import LimitKind, UtilityLimit
from ems.northbound import Door, ModbusServer, WriteRights
from ems.site import Site
from tests.unit.connectors.northbound_fake import Plant

LIMIT = UtilityLimit(id="dso", kind=LimitKind.IMPORT, watchdog_s=60.0, on_loss_kw=0.0)
PLAIN_WRITES = WriteRights(limits=("dso",), plain_from=("127.0.0.1",), per_s=10.0)
DSO_AT, GRID_AT = 200, 1000  # registers of the automatic map


def with_limit(site: Site) -> Site:
    return replace(site, control=replace(site.control, limits=(LIMIT,)))


@asynccontextmanager
async def serving(
    site: Site, directory: Path, *, writes: WriteRights | None = None, rows: tuple = (), **door: Any
):
    """(port, plant) of a server that is up."""
    clock = SystemClock()
    plant = Plant(directory, clock)
    server = ModbusServer(
        id="ppc", door=Door(host="127.0.0.1", port=0, **door), unit_id=1, writes=writes, rows=rows
    )
    made = ModbusServing(
        with_limit(site), server, plant.board, plant.door, plant.records, folder=directory, clock=clock
    )
    plant.cycle(
        grid1__p_kw=123.5, pv1__p_kw=None, fields={"limits_told_kw": {"dso": 300.0}, "cycle_s": 200.0}
    )
    await made.start()
    try:
        yield made.port, plant
        made.status()  # raises what is a bug
    finally:
        await made.close()
        plant.close()


def framed(pdu: bytes, *, unit: int = 1, transaction: int = 7) -> bytes:
    return struct.pack(">HHHB", transaction, 0, 1 + len(pdu), unit) + pdu


def read_pdu(address: int, count: int, function: int = 3) -> bytes:
    return struct.pack(">BHH", function, address, count)


def write_pdu(address: int, *words: int) -> bytes:
    return struct.pack(f">BHHB{len(words)}H", 16, address, len(words), 2 * len(words), *words)


def words(value: float) -> tuple[int, ...]:
    return struct.unpack(">HH", struct.pack(">f", value))


class Raw:
    """One connection of a client that keeps to no rule."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int, **tls: Any) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port, **tls))

    async def ask(self, pdu: bytes, **options: Any) -> bytes:
        """The PDU of the answer."""
        self.writer.write(framed(pdu, **options))
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(20.0):
            head = await self.reader.readexactly(7)
            return await self.reader.readexactly(int.from_bytes(head[4:6], "big") - 1)

    async def ended(self) -> bool:
        """Whether the server has ended it, by now or within some seconds."""
        async with asyncio.timeout(20.0):
            try:
                while await self.reader.read(4096):
                    pass
            except OSError:
                pass
            return True

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def refused(function: int, code: int) -> bytes:
    return bytes((function | 0x80, code))
