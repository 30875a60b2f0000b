"""`ems browse`: what a device of IEC 61850, OPC UA, DNP3, BACnet, DLMS or HTTP holds, as a map names it."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ems.errors import EmsError

if TYPE_CHECKING:
    from ems.site import Connection

HELP = """List what a device holds. IEC 61850: attributes of status, measurands, setpoints and descriptions,
controls with their model, and report control blocks, each as a point map, an identity block or `reports`
names it; an enumeration is shown as the integer that it is in MMS: ENUMERATED fits it. OPC UA (--opc-ua):
every variable below Objects with its node id, type, value, browse path and whether we may write it; with
--device as the connection of a site file says who is who, else without protection. DNP3 (--dnp3): all of
class 0 with its values now, outputs, and what the outstation says it is. BACnet (--bacnet): every object with
its type, value, unit, state, name and description, at which priorities it is commanded now, and what the
device says it is. DLMS (--dlms): every object that a meter shows this client, with value, unit, name and
class. HTTP (--http): every value of the JSON that a path answers, with its pointer; without --ca, --pinned or
--plain authorities of the operating system are believed. Nothing is written, and no event is taken. An
outstation that takes one master only drops the running EMS for it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from cli.browse_http import configure as configure_http

    ports = "port 102, with --opc-ua 4840, --dnp3 20000, --bacnet 47808, --dlms 4059, --http 443"
    parser.add_argument("host", help=f"HOST or HOST:PORT ({ports}); with --device a site")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="lines that hold this text, as MMXU1, g30/ or analog-"
    )
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="of each answer [s] (5)")
    parser.add_argument(
        "--opc-ua", nargs="?", const="", metavar="PATH", help="OPC UA, and the path of its endpoint, if any"
    )
    parser.add_argument(
        "--device", metavar="ID", help="OPC UA: a connection of the site file in place of HOST"
    )
    parser.add_argument(
        "--dnp3", type=int, metavar="ADDRESS", help="DNP3, and the link address of the outstation"
    )
    parser.add_argument("--master", type=int, default=1, metavar="ADDRESS", help="DNP3: our link address (1)")
    parser.add_argument(
        "--bacnet", type=int, metavar="DEVICE", help="BACnet/IP, and the instance of the device"
    )
    parser.add_argument(
        "--dlms", type=int, metavar="CLIENT", help="DLMS, and our address; 16 is the public client"
    )
    parser.add_argument("--server", type=int, default=1, help="DLMS: logical device of the meter (1)")
    parser.add_argument("--password-file", metavar="FILE", help="DLMS, HTTP: our password there, mode 0600")
    parser.add_argument("--network", type=int, help="BACnet: network of a device behind the router HOST")
    parser.add_argument("--mac", default="", metavar="HEX", help="BACnet: its address on that network")
    configure_http(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    from cli.browse_http import lines as over_http
    from connectors.iec61850.package import package_fault
    from connectors.link import LinkError
    from ems.bacnet import PORT as BACNET_PORT
    from ems.dlms import PORT as DLMS_PORT
    from ems.dnp3 import ADDRESS_MAX
    from ems.dnp3 import PORT as DNP3_PORT
    from ems.iec61850_reference import PORT

    ways = ("opc_ua", "device", "dnp3", "bacnet", "dlms", "http")
    others = [o for o in ways if getattr(args, o, None) is not None]
    if not others and (fault := package_fault()):
        raise EmsError(f"IEC 61850 {fault}")
    if not 0.0 < args.timeout <= 3600.0:
        raise EmsError(f"--timeout: found {args.timeout:g}; allowed: more than 0, up to 3600 s")
    for option, found in (("--dnp3", args.dnp3), ("--master", args.master)):
        if found is not None and not 0 <= found <= ADDRESS_MAX:
            raise EmsError(f"{option}: found {found}; allowed: 0 to {ADDRESS_MAX}")
    if len(others) > 1:
        a, b = (o.replace("_", "-") for o in others[:2])
        raise EmsError(f"--{b}: found with --{a}; allowed: one of them")
    if "device" in others:
        return _of_device(args)
    host, _, port = args.host.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise EmsError(f"{args.host}: found no HOST or HOST:PORT; allowed: such as 192.0.2.31:102")
    try:
        if args.dnp3 is not None:
            return asyncio.run(_outstation(host, int(port) if port else DNP3_PORT, args))
        if "opc_ua" in others:
            return asyncio.run(_variables(_server(host, int(port) if port else 4840, args), args))
        if "http" in others:
            return _shown(over_http(host, port, args), args)
        if args.bacnet is not None:
            return asyncio.run(_objects(host, int(port) if port else BACNET_PORT, args))
        if args.dlms is not None:
            return asyncio.run(_meter(host, int(port) if port else DLMS_PORT, args))
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


def _server(host: str, port: int, args: argparse.Namespace) -> "Connection":
    """A connection to a server that is asked without protection."""
    from ems.site import Connection, Protocol

    return Connection(
        id="browsed", protocol=Protocol.OPC_UA, host=host, port=port, unit_id=0, endpoint=args.opc_ua,
        poll_s=1.0, timeout_s=args.timeout, watchdog_point=None, points=(),
    )  # fmt: skip


def _of_device(args: argparse.Namespace) -> int:
    """The same of a connection of a site file, with its protection."""
    from cli._sites import find_site
    from connectors.link import LinkError
    from connectors.opcua.security import located
    from ems.site import Protocol
    from ems.site_schema import load_devices

    path = find_site(args.host)
    (connection,) = load_devices(path, [args.device]).connections
    if connection.protocol is not Protocol.OPC_UA:
        raise EmsError(f"--device: found {args.device}, which speaks {connection.protocol}; allowed: opc_ua")
    security = None if connection.security is None else located(connection.security, path.parent)
    connection = replace(connection, security=security, timeout_s=args.timeout)
    try:
        return asyncio.run(_variables(connection, args))
    except LinkError as error:
        raise EmsError(f"{args.device}: {error}") from None


async def _variables(connection: "Connection", args: argparse.Namespace) -> int:
    from connectors.opcua.browse import browse

    found = 0
    async for line in browse(connection, connection.host, connection.port):
        text = f"{line.place:<48} {line.type_name:<10} {line.about}".rstrip()
        if args.only in text:
            found += 1
            print(text, flush=True)
    return 0 if found else 1


async def _meter(host: str, port: int, args: argparse.Namespace) -> int:
    from connectors.dlms.package import package_fault
    from ems.dlms import ADDRESS_MAX, Dlms

    if fault := package_fault():
        raise EmsError(f"DLMS {fault}")
    for option, found in (("--dlms", args.dlms), ("--server", args.server)):
        if not 1 <= found <= ADDRESS_MAX:
            raise EmsError(f"{option}: found {found}; allowed: 1 to {ADDRESS_MAX}")
    from connectors.dlms.browse import browse

    file = args.password_file
    way = "none" if file is None else "low"
    settings = Dlms(client=args.dlms, server=args.server, authentication=way, password_file=file)
    lines = await browse(host, port, args.timeout, settings)
    shown = [f"{line.place:<28} {line.type_name:<7} {line.about}".rstrip() for line in lines]
    shown = [text for text in shown if args.only in text]
    for text in shown:
        print(text)
    return 0 if shown else 1


async def _objects(host: str, port: int, args: argparse.Namespace) -> int:
    from connectors.bacnet.apdu import Route
    from connectors.bacnet.browse import browse
    from ems.bacnet import INSTANCE_MAX, NETWORK_MAX

    if not 0 <= args.bacnet <= INSTANCE_MAX:
        raise EmsError(f"--bacnet: found {args.bacnet}; allowed: 0 to {INSTANCE_MAX}")
    if args.network is not None and not 1 <= args.network <= NETWORK_MAX:
        raise EmsError(f"--network: found {args.network}; allowed: 1 to {NETWORK_MAX}")
    try:
        mac = bytes.fromhex(args.mac)
    except ValueError:
        raise EmsError(f"--mac: found {args.mac!r}; allowed: bytes in hexadecimal, such as 0c") from None
    if (args.network is None) is not (not mac) or len(mac) > 7:
        raise EmsError("--network, --mac: found one of them; allowed: both for a device behind a router")
    route = None if args.network is None else Route(args.network, mac)
    lines = await browse(host, port, args.timeout, device=args.bacnet, route=route)
    return _shown([f"{line.place:<24} {line.type_name:<10} {line.about}".strip() for line in lines], args)


async def _outstation(host: str, port: int, args: argparse.Namespace) -> int:
    from connectors.dnp3.browse import browse

    lines = await browse(host, port, args.timeout, outstation=args.dnp3, master=args.master)
    return _shown([f"{line.place:<10} {line.type_name:<7} {line.about}".strip() for line in lines], args)


def _shown(lines: Sequence[str], args: argparse.Namespace) -> int:
    shown = [text for text in lines if args.only in text]
    for text in shown:
        print(text)
    return 0 if shown else 1
