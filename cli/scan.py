"""`ems scan`: what is on the wire, by reads alone, and the lines of a site file that would connect it."""

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ems.errors import EmsError

if TYPE_CHECKING:
    from connectors.scan.survey import Finding, Match
    from ems.family import Family
    from ems.site import SerialLine

HELP = """Ask Modbus devices who they are, and propose the lines of a site file. It reads (functions 3, 4 and
43/14) and never writes; one request is in flight, and at most five a second are sent. Hosts are named one by
one. A serial bus is listened to first, and refused where anybody else talks on it. Stopped with Ctrl-C it
prints what it knows by then. Exit code 0: a unit answered; 1: none did; 2: refused."""
UNITS_MAX = 247


@dataclass(slots=True)
class Tally:
    """What a scan has found so far."""

    findings: list["Finding"] = field(default_factory=list)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("host", nargs="*", help="HOST or HOST:PORT, each by name; no ranges of hosts")
    parser.add_argument("--serial", metavar="DEVICE", help="a serial port instead, such as /dev/ttyUSB0")
    parser.add_argument("--baud", type=int, default=19200, help="of the serial port (19200)")
    parser.add_argument("--parity", choices=("even", "odd", "none"), default="even", help="(even)")
    parser.add_argument("--stop-bits", type=int, choices=(1, 2), default=1, help="(1)")
    parser.add_argument(
        "--listen", type=float, default=10.0, metavar="S", help="to a serial bus first [s] (10)"
    )
    parser.add_argument("--units", default="1", help="unit ids, such as 1,3,10-20 (1)")
    parser.add_argument("--timeout", type=float, default=1.0, metavar="S", help="of an answer [s] (1)")
    parser.add_argument("--site", help="use the families of this site too: its file or folder")


def run(args: argparse.Namespace) -> int:
    """Scan, and print what was found."""
    from ems.site_schema import load_families

    units = units_of(args.units)
    if bool(args.host) is (args.serial is not None):
        raise EmsError("HOST: found none, or a host and a serial port; allowed: hosts, or --serial DEVICE")
    if not 0.05 <= args.timeout <= 60.0 or not 0.0 < args.listen <= 3600.0:
        raise EmsError("--timeout, --listen: allowed: 0.05 to 60 s, and more than 0 up to 3600 s")
    hosts = [host_of(h) for h in args.host]
    families = list(load_families(_site_folder(args.site)).values())
    tally = Tally()
    try:
        if args.serial is not None:
            line = _line(args)
            asyncio.run(_serial(line, units, args, families, tally))
        else:
            asyncio.run(_tcp(hosts, units, args.timeout, families, tally))
    except KeyboardInterrupt:
        print("stopped; what is known by now:", file=sys.stderr)
        print("\n".join(report(tally.findings, families, args)))
        raise
    print("\n".join(report(tally.findings, families, args)))
    return 0 if any(f.is_there for f in tally.findings) else 1


def units_of(text: str) -> list[int]:
    """`1,3,10-12` -> [1, 3, 10, 11, 12]. Raises EmsError."""
    out: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        first = int(match[1]) if match else -1
        last = int(match[2]) if match and match[2] else first
        if not 0 <= first <= last <= UNITS_MAX:
            raise EmsError(
                f"--units: found {part!r}; allowed: numbers 0 to {UNITS_MAX}, and ranges such as 10-20"
            )
        out += [n for n in range(first, last + 1) if n not in out]
    return out


def host_of(text: str) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`, and 502 where no port is told. Raises EmsError."""
    match = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?", text)
    port = int(match[2]) if match and match[2] else 502
    if match is None or not 1 <= port <= 65535:
        raise EmsError(f"HOST: found {text!r}; allowed: one host each, HOST or HOST:PORT; no ranges of hosts")
    return match[1].strip("[]"), port


def _site_folder(name: str | None) -> Path | None:
    from cli._sites import find_site

    return None if name is None else find_site(name).parent


def _line(args: argparse.Namespace) -> "SerialLine":
    from ems.site import SerialLine

    bauds = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
    if args.baud not in bauds:
        raise EmsError(f"--baud: found {args.baud}; allowed: {', '.join(map(str, bauds))}")
    return SerialLine(device=args.serial, baud=args.baud, parity=args.parity, stop_bits=args.stop_bits)


async def _serial(
    line: "SerialLine", units: list[int], args: argparse.Namespace, families: Sequence["Family"], tally: Tally
) -> None:
    from connectors.scan.over_serial import SerialAsker
    from connectors.scan.survey import Pace, survey

    asker = SerialAsker(line, args.timeout)
    print(f"listening to {line.device} for {args.listen:g} s", file=sys.stderr)
    try:
        await asker.listen(args.listen)
        async for finding in survey([(asker, units)], families, Pace(), Progress(len(units))):
            tally.findings.append(finding)
    finally:
        asker.close()


async def _tcp(
    hosts: list[tuple[str, int]],
    units: list[int],
    timeout_s: float,
    families: Sequence["Family"],
    tally: Tally,
) -> None:
    from connectors.scan.over_tcp import TcpAsker
    from connectors.scan.survey import Pace, survey

    pace, progress = Pace(), Progress(len(hosts) * len(units))
    for host, port in hosts:
        asker = TcpAsker(host, port, timeout_s)
        try:
            async for finding in survey([(asker, units)], families, pace, progress):
                tally.findings.append(finding)
        finally:
            asker.close()


class Progress:
    """One line for each unit, on the error output."""

    def __init__(self, total: int) -> None:
        self._count, self._total = 0, total

    def __call__(self, where: str, unit: int) -> None:
        self._count += 1
        print(f"{self._count} of {self._total}: {where} unit {unit}", file=sys.stderr)


def report(
    findings: Sequence["Finding"], families: Sequence["Family"], args: argparse.Namespace
) -> Iterator[str]:
    """What was found, the lines of a site file, and what could not be told."""
    there = [f for f in findings if f.is_there]
    for f in findings:
        yield from _said(f)
    proposals = [line for f in there for m in f.matches for line in _proposal(f, m, args)]
    if proposals:
        yield from ("", "For the site file, where every ??? is for you to fill in:", "", "connections:")
        yield from proposals
    questions = sum(f.questions for f in findings)
    yield from ("", f"{questions} questions, no write. What this cannot tell:")
    yield "- which asset a device is of, which way round a meter is wired, what a terminal is wired to;"
    yield "- whether a family's registers are right for this firmware: `ems commission` shows each point;"
    mute = [f.name for f in families if f.protocol.is_modbus and not f.is_told]
    if mute:
        yield f"- devices that tell nothing of themselves that we know of: {', '.join(mute)};"
    yield "- devices of OPC UA, MQTT and HTTP, units that were not named, and what sleeps."


def _said(f: "Finding") -> Iterator[str]:
    if not f.is_there:
        why = f.doubts[-1] if f.doubts else "no answer"
        yield f"{f.where} unit {f.unit}: nobody there ({why})"
        return
    yield f"{f.where} unit {f.unit}: answers"
    if f.told:
        yield f"  says         {', '.join(f'{k} {v!r}' for k, v in f.told.items())}"
    if f.sunspec_at is not None:
        yield f"  SunSpec      marker at {f.sunspec_at}: `protocol: sunspec` reads it (docs/sunspec.md)"
    for m in f.matches:
        told = ", ".join(f"{k} {v!r}" for k, v in m.told.items() if v is not None)
        yield f"  family       {m.family.name}: {m.family.device} ({told})"
    if len(f.matches) > 1:
        yield "  doubt        more than one family fits: compare the models each is for"
    if not f.matches and f.sunspec_at is None:
        yield "  doubt        no family knows it: docs/families.md says how to write one"
    for doubt in f.doubts:
        yield f"  doubt        it was not asked on: {doubt}"


def _proposal(f: "Finding", m: "Match", args: argparse.Namespace) -> Iterator[str]:
    family = m.family
    yield f"  {family.name}_{f.unit}:"
    if args.serial is not None:
        yield "    protocol: modbus_rtu"
        line = f"device: {args.serial}, baud: {args.baud}, parity: {args.parity}, stop_bits: {args.stop_bits}"
        yield f"    serial: {{{line}}}"
    else:
        host, _, port = f.where.rpartition(":")
        yield from ("    protocol: modbus_tcp", f"    host: {host}", f"    port: {port}")
    yield from (f"    unit_id: {f.unit}", "    poll_s: 1", f"    timeout_s: {args.timeout:g}")
    yield f"    family: {family.name}"
    if family.assets:
        yield f"    asset: ???  # of kind {', '.join(family.assets)}"
    if family.asks:
        yield "    settings:"
        yield from (f"      {name}: ???  # {about}" for name, about in family.asks)
    if family.channels:
        yield f"    points:  # <asset>.<point>: {{from: {family.channels[0]}}}"
    if (serial := m.told.get("serial")) is not None:
        yield f"    serial_number: {_quoted(serial)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
