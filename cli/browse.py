"""`ems browse`: what an IEC 61850 device holds, as a point map names it."""

import argparse
import asyncio

from ems.errors import EmsError

HELP = """List what an IEC 61850 device holds: attributes of status, measurands, setpoints and descriptions,
controls with their model, and report control blocks, each as a point map, an identity block or `reports`
names it. Nothing is written. An enumeration is shown as the integer that it is in MMS: ENUMERATED fits it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("host", help="HOST or HOST:PORT (port 102)")
    parser.add_argument("--only", default="", metavar="TEXT", help="references that hold this text, as MMXU1")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="of each answer [s] (5)")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    from connectors.iec61850.package import package_fault
    from connectors.link import LinkError
    from ems.iec61850_reference import PORT

    if fault := package_fault():
        raise EmsError(f"IEC 61850 {fault}")
    if not 0.0 < args.timeout <= 3600.0:
        raise EmsError(f"--timeout: found {args.timeout:g}; allowed: more than 0, up to 3600 s")
    host, _, port = args.host.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise EmsError(f"{args.host}: found no HOST or HOST:PORT; allowed: such as 192.0.2.31:102")
    try:
        return asyncio.run(_print(host, int(port) if port else PORT, args))
    except LinkError as error:
        raise EmsError(f"{args.host}: {error}") from None


async def _print(host: str, port: int, args: argparse.Namespace) -> int:
    from connectors.iec61850.browse import browse

    found = 0
    async for held in browse(host, port, args.timeout):
        if args.only in held.reference:
            found += 1
            print(f"{held.reference:<60} {held.type_name:<10} {held.about}".rstrip(), flush=True)
    return 0 if found else 1
