"""`ems read`: what devices of a site file answer, register by register; the file need not be finished."""

import argparse
import asyncio
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ems.errors import EmsError

if TYPE_CHECKING:
    from connectors.field import FieldIO
    from ems.site import Connection, Devices, PointMap
    from ems.telemetry import Reading

HELP = """Read devices once, or again and again, and print each point: its value, quality, where it is on the
wire, and the registers as they came. Nothing is written. The site file need not be finished: `connections`
and the names of the assets are enough. A serial bus is listened to first, and refused where anybody else
talks on it. A device that serves one client only may drop the running EMS for it. Exit code 0: every point is
good; 1: one is not; 2: refused."""
LOOK_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("site", help="a site file, its folder, or the name of a shipped site")
    parser.add_argument("device", nargs="*", help="names of connections (all)")
    parser.add_argument("--every", type=float, metavar="S", help="again every so many seconds, until Ctrl-C")
    parser.add_argument(
        "--wait", type=float, default=5.0, metavar="S", help="for the first value of each point [s] (5)"
    )
    parser.add_argument(
        "--listen", type=float, default=10.0, metavar="S", help="to a serial bus first [s] (10)"
    )


def run(args: argparse.Namespace) -> int:
    """Read and print."""
    from cli._sites import find_site
    from ems.site_schema import load_devices

    for option, found in (("--every", args.every), ("--wait", args.wait), ("--listen", args.listen)):
        if found is not None and not 0.0 < found <= 3600.0:
            raise EmsError(f"{option}: found {found:g}; allowed: more than 0, up to 3600 s")
    path = find_site(args.site)
    devices = load_devices(path, args.device)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the table stands alone
    try:
        return asyncio.run(_read(devices, path.parent, args))
    finally:
        structlog.reset_defaults()


async def _read(devices: "Devices", folder: Path, args: argparse.Namespace) -> int:
    from connectors.field import FieldIO
    from ems.clock import SystemClock, wall_s, wall_sleep
    from ems.site import Devices

    await _listened(devices, args.listen)
    devices = Devices(connections=tuple(map(_as_a_guest, devices.connections)))
    io = FieldIO(devices, clock=SystemClock(), folder=folder)
    try:
        until_s = wall_s() + args.wait
        while True:
            readings = {r.point: r for r in await io.read_all()}
            if all(r.is_good for r in readings.values()) or wall_s() >= until_s:
                break
            await wall_sleep(LOOK_S)
        while True:
            for connection in devices.connections:
                print("\n".join(_shown(connection, readings, io)), flush=True)
            if args.every is None:
                return 0 if all(r.is_good for r in readings.values()) else 1
            await wall_sleep(args.every)
            readings = {r.point: r for r in await io.read_all()}
    finally:
        await io.close()


def _as_a_guest(connection: "Connection") -> "Connection":
    """At a broker under a name of its own: under the one of the EMS it would end that connection.

    Of a DNP3 outstation without its events, which the EMS would miss.
    """
    if connection.dnp3 is not None:
        return replace(connection, dnp3=replace(connection.dnp3, is_guest=True))
    if connection.mqtt is None:
        return connection
    broker = replace(
        connection.mqtt,
        client_id=f"ems-read-{uuid.uuid4().hex[:12]}",
        status_topic=None,
        session_expiry_s=0,
    )
    return replace(connection, mqtt=broker)


async def _listened(devices: "Devices", listen_s: float) -> None:
    """Refuse a serial bus that somebody else asks questions on."""
    from connectors.scan.over_serial import SerialAsker

    lines = {c.serial.device: c.serial for c in devices.connections if c.serial is not None}
    for line in lines.values():
        print(f"listening to {line.device} for {listen_s:g} s", file=sys.stderr)
        asker = SerialAsker(line, 1.0)
        try:
            await asker.listen(listen_s)
        finally:
            asker.close()


def _shown(connection: "Connection", readings: Mapping[str, "Reading"], io: "FieldIO") -> Iterator[str]:
    where = connection.serial.device if connection.serial else f"{connection.host}:{connection.port}"
    where = where if connection.goose is None else connection.goose.interface
    if connection.can is not None:
        where = f"{connection.can.where} source {connection.can.source}"
    if connection.dnp3 is not None:
        where = f"{where} outstation {connection.dnp3.outstation}"
    if connection.iec104 is not None:
        where = f"{where} common address {connection.iec104.station}"
    if connection.bacnet is not None:
        where = f"{where} device {connection.bacnet.device}"
    if connection.dlms is not None:
        where = f"{where} client {connection.dlms.client} server {connection.dlms.server}"
    unit = f" unit {connection.unit_id}" if connection.protocol.family in ("modbus", "sunspec") else ""
    reason = io.links()[connection.id]["reason"]
    yield f"{connection.id}: {connection.protocol} {where}{unit}{f', {reason}' if reason else ''}"
    for name, told in (io.identities().get(connection.id) or {}).items():
        yield f"  identity {name}: {told if told is not None else 'not told'}"
    if connection.id in io.strangers():
        yield f"  not the device of its map: {io.strangers()[connection.id]}"
    faults = io.links()[connection.id].get("faults")
    if isinstance(faults, list):
        yield from (f"  active fault: {fault}" for fault in faults)
    wide = max(len(m.point) for m in connection.points)
    for m in connection.points:
        why = "" if reason else io.why_unread(m.point)
        yield f"  {m.point:<{wide}}  {_value(m, readings[m.point], io.words(m.point), why)}"


def _value(m: "PointMap", reading: "Reading", words: Sequence[int], why: str) -> str:
    text = "-" if reading.value is None else f"{reading.value:g} {m.unit}".strip()
    if reading.value is not None and not m.low <= reading.value <= m.high:
        why = f"allowed: {m.low:g} to {m.high:g} {m.unit}".rstrip()
    came = f"[{' '.join(f'{w:04X}' for w in words)}]" if words else ""
    parts = (f"{text:>14}", f"{reading.quality:<11}", _place(m), came, "" if reading.is_good else why)
    return "  ".join(part for part in parts if part)


def _place(m: "PointMap") -> str:
    if m.table == "path" and m.payload is not None:
        return f"{m.table} {m.address} at {m.payload.value}"
    if m.table not in ("holding", "input", "coil", "discrete"):
        return f"{m.table} {m.address}"
    order = ", low word first" if m.word_order == "little" and m.data_type[1:] in ("32", "64") else ""
    sign = "-" if m.sign < 0 else ""
    factor = f", x {sign}{m.scale:g}" if m.scale != 1.0 or sign else ""
    bit = f", bit {m.bit}" if m.bit is not None else ""
    return f"{m.table} {m.address} {m.data_type}{order}{bit}{factor}"
