"""`ems sign`: vouch for a site file with its maps, or for a record of commissioning."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli._sites import find_site
from ems.clock import SystemClock
from ems.errors import EmsError

if TYPE_CHECKING:
    from connectors.stores.signatures import Use

HELP = """Signatures that `ems run --write` asks for. key: a key pair for a person. site: sign a site file and
the maps it names. record: sign a record of commissioning. check: who signed, and whether they are trusted."""
TRUST = Path("/etc/hybrid-ems/trust")
PASSPHRASE = "EMS_KEY_PASSPHRASE"  # noqa: S105  the name of a variable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    key = actions.add_parser("key", help="a key pair for a person")
    key.add_argument("name", help="who signs with it; names the files")
    key.add_argument("--into", type=Path, default=Path(), help="folder of both files (this one)")
    site = actions.add_parser("site", help="sign a site file and its maps")
    site.add_argument("site", help="the path of a site file, or its folder")
    record = actions.add_parser("record", help="sign a record of commissioning")
    record.add_argument("record", type=Path, help="commissioning.json in --dir of `ems commission`")
    for action in (site, record):
        action.add_argument("--key", type=Path, required=True, help="private key of whoever signs")
    check = actions.add_parser("check", help="who signed")
    check.add_argument("site", help="the path of a site file, or its folder")
    check.add_argument("--record", type=Path, help="a record of commissioning too")
    check.add_argument("--trust", type=Path, default=TRUST, help=f"folder of public keys ({TRUST})")


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    from connectors.stores.signatures import Use

    match args.action:
        case "key":
            return _key(args.name, args.into)
        case "site":
            path, names = _site(args.site)
            return _sign(path, names, Use.SITE, args.key)
        case "record":
            return _sign(args.record, _record(args.record), Use.COMMISSIONING, args.key)
        case _:
            return _check(args)


def _site(name: str) -> tuple[Path, tuple[str, ...]]:
    """A good site file and the files of its set. Raises ConfigError."""
    from ems.site_schema import files_of, load_site

    path = find_site(name)
    load_site(path)
    return path, files_of(path)


def _record(path: Path) -> tuple[str, ...]:
    """A whole, unchanged record is a set of one file. Raises ConfigError."""
    from connectors.stores.commissioning import read_record

    read_record(path)
    return (path.name,)


def _key(name: str, folder: Path) -> int:
    from connectors.opcua.certificates import store
    from connectors.stores.signatures import new_pair

    if not name.isidentifier():
        raise EmsError(f"NAME: found {name!r}; allowed: letters, digits and _ (it names files)")
    private, public = folder / f"{name}.key", folder / f"{name}.pem"
    for there in (private, public):
        if there.exists():
            raise EmsError(f"{there} is there already")
    passphrase = _passphrase(f"passphrase for {private} (empty: none): ")
    if passphrase and sys.stdin.isatty() and passphrase != _passphrase("once more: "):
        raise EmsError("the two passphrases differ")
    private_pem, public_pem = new_pair(passphrase)
    store(private, private_pem, mode=0o600)
    store(public, public_pem, mode=0o644)
    kept = "encrypted" if passphrase else "NOT encrypted"
    print(f"private key  {private} (mode 0600, {kept}): never leaves whoever signs")
    print(
        f"public key   {public}: into TRUST/site or TRUST/commissioning of each plant that shall believe it"
    )
    return 0


def _sign(file: Path, names: tuple[str, ...], use: "Use", key_file: Path) -> int:
    from connectors.stores.kept_file import put_whole
    from connectors.stores.signatures import key_id, read_private, sign, signature_file

    key = read_private(key_file, lambda: _passphrase(f"passphrase of {key_file}: "))
    raw = sign(file, names, use, key, SystemClock().now())
    put_whole(signature_file(file), raw, mode=0o644)
    print(f"{signature_file(file)}: {', '.join(names)} signed with key {key_id(key.public_key())}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from connectors.stores.signatures import Use, verify

    path, names = _site(args.site)
    print(f"{path}: signed by {verify(path, names, Use.SITE, args.trust)}")
    if args.record is not None:
        found = verify(args.record, _record(args.record), Use.COMMISSIONING, args.trust)
        print(f"{args.record}: signed by {found}")
    return 0


def _passphrase(prompt: str) -> bytes | None:
    """Typed in; without a terminal what the environment says."""
    text = getpass.getpass(prompt) if sys.stdin.isatty() else os.environ.get(PASSPHRASE, "")
    return text.encode() or None
