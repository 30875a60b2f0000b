"""`ems certificate`: make ours for OPC UA servers, show one, ask a server for its own and trust it."""

import argparse
import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cli._sites import find_site
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.site import Connection, Protocol, Site, UaSecurity
from ems.site_schema import load_site

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

HELP = """Certificates of OPC UA connections. make: a key and a self-signed certificate for this machine,
where the site file wants them; its fingerprint is for each server's list of trusted clients. show: what a
certificate says. fetch: ask a server for its certificate; with --trust and the fingerprint that the device
itself shows, it is put into the folder of trusted servers."""
YEARS_5 = 1826


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="a key and a certificate for this machine")
    make.add_argument("site", help="name of a shipped site, or the path of a site file")
    make.add_argument("--days", type=int, default=YEARS_5, help=f"how long it is valid ({YEARS_5})")
    make.add_argument("--host", default=socket.gethostname(), help="name of this machine (its host name)")
    make.add_argument("--into", type=Path, help="another folder: a successor of the pair that is in use")
    make.add_argument("--server", metavar="NAME", help="of one of our own OPC UA servers instead")
    make.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="IP",
        help="of a server, as clients call it",
    )
    show = actions.add_parser("show", help="what a certificate says, and its fingerprints")
    show.add_argument("file", nargs="+", type=Path, help="file of a certificate, DER or PEM")
    fetch = actions.add_parser("fetch", help="ask a server for its certificate")
    fetch.add_argument("site", help="name of a shipped site, or the path of a site file")
    fetch.add_argument("connection", help="its name in the site file, or a mapping file of ems import")
    fetch.add_argument(
        "--trust", metavar="FINGERPRINT", help="as the device shows it, SHA-256 or SHA-1: trust it"
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked for; 1 when a certificate is not as it must be."""
    match args.action:
        case "make":
            return _make(args)
        case "show":
            return _show(args.file)
        case _:
            return _fetch(args)


def _protected(path: Path) -> dict[str, tuple[Connection, UaSecurity]]:
    """OPC UA connections of a site that have certificates. Raises EmsError where there are none."""
    from connectors.opcua.security import located

    found = {
        c.id: (c, located(c.security, path.parent))
        for c in load_site(path).connections
        if c.protocol is Protocol.OPC_UA and c.security is not None and c.security.is_on
    }
    if not found:
        raise EmsError(f"{path}: found no OPC UA connection with a `security` whose policy is not None")
    return found


def _historian(site: Path, mapping: Path) -> tuple[str, Connection, UaSecurity]:
    """The server of a mapping file of `ems import`. Raises EmsError where it has no certificates."""
    from connectors.opcua.security import located
    from ems.site_schema.import_mapping import load_import_mapping

    server = load_import_mapping(mapping, load_site(site)).server
    if server is None or server.security is None or not server.security.is_on:
        raise EmsError(f"{mapping}: found no `server` with a `security` whose policy is not None")
    return server.id, server, located(server.security, mapping.parent)


def _make(args: argparse.Namespace) -> int:
    from connectors.opcua import certificates

    path = find_site(args.site)
    if args.days < 1:
        raise EmsError(f"--days: found {args.days}; allowed: 1 or more")
    site = load_site(path)
    if args.server is None:
        pairs = {(s.certificate, s.key) for _, s in _protected(path).values()}
        addresses, what = list[str](), "hybrid-ems"
    else:
        pairs, addresses = _of_server(site, path, args)
        what = f"hybrid-ems:server:{args.server}"
    for certificate_name, key_name in pairs:
        certificate_file, key_file = Path(certificate_name), Path(key_name)
        if args.into is not None:
            certificate_file, key_file = args.into / certificate_file.name, args.into / key_file.name
        for there in (certificate_file, key_file):
            if there.exists():
                raise EmsError(f"{there} is there already; --into FOLDER makes its successor beside it")
        uri, now = f"urn:{args.host}:{what}:{site.name}", SystemClock().now()
        der, key = certificates.make(
            uri, args.host, now=now, days=args.days, addresses=addresses, server=args.server is not None
        )
        certificates.store(key_file, key, mode=0o600)
        certificates.store(certificate_file, der, mode=0o644)
        print(f"key          {key_file} (mode 0600: never leaves this machine)")
        print(f"certificate  {certificate_file}")
        print("\n".join(certificates.shown(certificates.parse(der))))
        whose = (
            "server's list of trusted clients" if args.server is None else "client's list of trusted servers"
        )
        print(f"Put the certificate into each {whose}, and compare it there.")
    return 0


def _of_server(site: Site, path: Path, args: argparse.Namespace) -> tuple[set[tuple[str, str]], list[str]]:
    """Where the certificate of one of our own servers goes, and under which addresses it is called."""
    servers = {s.id: s for s in site.opcua_servers if s.files is not None}
    if args.server not in servers:
        known = ", ".join(servers) or "there is none with a certificate under northbound.opc_ua"
        raise EmsError(f"--server: found {args.server!r}; allowed: {known}")
    server = servers[args.server]
    addresses = [*args.address, *([] if ip_address(server.door.host).is_unspecified else [server.door.host])]
    for address in addresses:
        try:
            ip_address(address)
        except ValueError:
            raise EmsError(f"--address: found {address!r}; allowed: an address such as 10.0.0.5") from None
    assert server.files is not None
    files = (str(path.parent / server.files.certificate), str(path.parent / server.files.key))
    return {files}, list(dict.fromkeys(addresses))


def _show(files: list[Path]) -> int:
    from connectors.opcua import certificates

    late = False
    for path in files:
        certificate = certificates.read_certificate(path)
        print("\n".join([str(path), *certificates.shown(certificate)]))
        if why := certificates.out_of_date(certificate, SystemClock().now()):
            late = True
            print(f"It {why}.")
    return 1 if late else 0


def _fetch(args: argparse.Namespace) -> int:
    from connectors.link import LinkError
    from connectors.opcua import certificates
    from connectors.opcua.security import ask

    name = args.connection
    if name.endswith((".yaml", ".yml")):
        name, connection, security = _historian(find_site(args.site), Path(name))
    else:
        protected = _protected(find_site(args.site))
        if name not in protected:
            raise EmsError(f"connection: found {name!r}; allowed: {', '.join(protected)}")
        connection, security = protected[name]
    try:
        certificate, uri = asyncio.run(ask(connection, security))
    except LinkError as error:
        raise EmsError(f"{name}: {error}") from None
    print("\n".join(certificates.shown(certificate)))
    host = security.server_name if security.server_name is not None else connection.host
    if why := certificates.unfit(certificate, now=SystemClock().now(), uri=uri, host=host):
        print(f"It would be refused: it {why}.")
        return 1
    if args.trust is None:
        print("Nobody has vouched for it: read the fingerprint at the device, then add --trust FINGERPRINT.")
        return 0
    return _trust(certificate, args.trust, Path(security.trusted), name)


def _trust(certificate: "Certificate", told: str, folder: Path, connection: str) -> int:
    from connectors.opcua import certificates

    wanted = _digits(told)
    shown = (certificates.fingerprint(certificate), certificates.thumbprint(certificate))
    prints = {_digits(p) for p in shown}
    if wanted not in prints:
        raise EmsError(f"--trust: found {told}; the server showed the fingerprints above: it is not trusted")
    short = certificates.thumbprint(certificate).replace(":", "")[:8].lower()
    path = folder / f"{connection}-{short}.der"
    if path.exists():
        print(f"It is trusted already: {path}")
        return 0
    certificates.store(path, certificates.der(certificate), mode=0o644)
    print(f"Trusted from the next attempt to connect on: {path}")
    if others := [p.name for p in sorted(folder.glob(f"{connection}-*.der")) if p != path]:
        print(f"Still trusted from before: {', '.join(others)}; take away what is not used any more.")
    return 0


def _digits(text: str) -> str:
    return "".join(c for c in text.lower() if c in "0123456789abcdef")
