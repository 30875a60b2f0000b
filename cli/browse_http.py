"""`ems browse HOST --http PATH`: what a device answers over HTTP, value by value."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from ems.errors import EmsError
from ems.http_json import PORT, PORT_TLS, HttpJson, path_fault


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--http", metavar="PATH", help="JSON over HTTP, and the path that is asked for")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="HTTP: who signed its certificate")
    parser.add_argument("--pinned", type=Path, metavar="FILE", help="HTTP: its certificate itself")
    parser.add_argument("--plain", action="store_true", help="HTTP: without TLS")
    parser.add_argument("--user", metavar="NAME", help="HTTP: a user of the device, with --password-file")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="HTTP: or a token, mode 0600")


def lines(host: str, port: str, args: argparse.Namespace) -> Sequence[str]:
    """Ask; what stands at which pointer. Raises EmsError and LinkError."""
    from connectors.http_json.browse import browse
    from ems.site_schema.checks_opcua import is_loopback

    if why := path_fault(args.http):
        raise EmsError(f"--http: found {args.http!r}; allowed: {why}")
    ways = [w for w in ("ca", "pinned", "plain") if getattr(args, w)]
    if len(ways) > 1:
        raise EmsError(f"--{ways[1]}: found with --{ways[0]}; allowed: one of --ca, --pinned and --plain")
    if (args.user is None) is not (args.password_file is None):
        raise EmsError("--user, --password-file: found one of them; allowed: both, or neither")
    secret = args.password_file or args.token_file
    if args.plain and secret is not None and not is_loopback(host):
        raise EmsError("--plain: found with a secret; allowed: TLS, or the secret would cross the network")
    protection = {"ca": "authority", "pinned": "pinned", "plain": "plain"}[ways[0]] if ways else "system"
    http = HttpJson(
        protection=protection,
        ca=str(args.ca or ""),
        certificate=str(args.pinned or ""),
        user=args.user,
        password_file=args.password_file,
        token_file=None if args.token_file is None else str(args.token_file),
        answer_bytes_max=1048576,
    )
    number = int(port) if port else PORT if args.plain else PORT_TLS
    found = asyncio.run(browse(host, number, args.timeout, http=http, path=args.http))
    wide = max((len(line.pointer) for line in found), default=0)
    return [f"{line.pointer:<{wide}} {line.type_name:<8} {line.about}" for line in found]
