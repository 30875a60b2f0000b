"""`ems wire`: have a running edge keep the bytes on the wire of a device, for a while."""

import argparse
from datetime import timedelta
from pathlib import Path

from cli._period import seconds
from connectors.wire_log import FOLDER, ask, ask_no_more, asked_until, connections
from ems.clock import SystemClock
from ems.errors import BadValue, EmsError

HELP = """Ask a running edge to keep every byte that a connection sends and is sent, in
DIR/wire/CONNECTION.log, for some minutes; without a connection: show which are asked for. The log is text,
and "text2pcap -D -t ISO" makes of it what Wireshark opens ("-l 1" for GOOSE, "-l 227" for J1939). What is
asked and written does not change, and no cycle waits for the file."""
LONGEST_S = 86400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("connection", nargs="?", help="id of a connection of the site file")
    add("--for", dest="length", type=seconds, default=600.0, metavar="TIME", help="for how long (10min)")
    add("--stop", action="store_true", help="no more")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the running plant (ems-data)")


def run(args: argparse.Namespace) -> int:
    """Ask, or show who is asked for."""
    folder = args.dir / FOLDER
    try:
        names = connections(folder)
    except BadValue as error:
        raise EmsError(f"{folder}: {error}") from None
    if names is None:
        raise EmsError(f"{args.dir}: found no edge that ran here; allowed: the folder of a running plant")
    if args.connection is None:
        return _show(folder, names)
    if args.connection not in names:
        raise EmsError(f"connection: found {args.connection!r}; allowed: {', '.join(names) or 'none'}")
    if not 0.0 < args.length <= LONGEST_S:
        raise EmsError(f"--for: found {args.length:g} s; allowed: more than 0, up to {LONGEST_S:g} s")
    try:
        if args.stop:
            ask_no_more(folder, args.connection)
            return 0
        ask(folder, args.connection, SystemClock().now() + timedelta(seconds=args.length))
    except OSError as error:
        raise EmsError(f"{folder}: {error.strerror}") from None
    print(f"kept in {folder / args.connection}.log for {args.length:g} s")
    return 0


def _show(folder: Path, names: tuple[str, ...]) -> int:
    now = SystemClock().now()
    for name in names:
        try:
            until = asked_until(folder, name)
        except BadValue as error:
            raise EmsError(f"{folder}: {error}") from None
        file = folder / f"{name}.log"
        size = f"{file.stat().st_size / 1e3:,.0f} kB" if file.exists() else "no log"
        kept = f"kept for {(until - now).total_seconds():.0f} s more" if until and until > now else "not kept"
        print(f"{name}: {kept}; {size}")
    return 0
