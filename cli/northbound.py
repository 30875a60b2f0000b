"""`ems northbound`: the registers of our own servers, how they do, and what they have refused."""

import argparse
import sys
from collections.abc import Iterator
from datetime import timedelta
from getpass import getpass
from pathlib import Path

from cli._sites import find_site
from cli.markdown import table
from cli.northbound_iec104 import object_lines
from cli.northbound_words import about
from connectors.northbound.records import FILE, RecordsReader
from connectors.northbound.registers import map_id, rows_of
from connectors.raw_types import MODBUS_TYPES
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.northbound import ModbusServer, ServedRow
from ems.northbound_names import ANSWER, ANSWERS, LIMIT, names, ua_namespace
from ems.northbound_ua import OpcUaServer
from ems.records import StatusRow
from ems.site import Site
from ems.site_schema import load_site
from ems.telemetry import Quality

HELP = """Our own servers, for a utility, a plant controller or SCADA. map: the registers, nodes or
objects of a server, for whoever reads it. status: how the servers of a running plant do, and what they
refused last; the exit code is 1 where one of them is down. password: what a file keeps of the password of a
user."""
PASSWORD_MIN = 12
SILENT = timedelta(seconds=30)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    shown = acts.add_parser("map", help="the registers of a server, as Markdown")
    shown.add_argument("site", help="name of a shipped site, or the path of a site file")
    shown.add_argument("server", nargs="?", help="its name in the site file; left out: all")
    kept = acts.add_parser("password", help="keep the password of a user of an OPC UA server, as a hash")
    kept.add_argument("file", type=Path, help="that the site file names as its password_file")
    status = acts.add_parser("status", help="how the servers do, and what they refused")
    status.add_argument("--dir", type=Path, default=Path("ems-data"), help="folder of the plant (ems-data)")
    status.add_argument("--refused", type=int, default=10, help="so many of the newest refusals (10)")


def run(args: argparse.Namespace) -> int:
    """Show it."""
    match args.act:
        case "status":
            return _status(args.dir, args.refused)
        case "password":
            return _password(args.file)
        case _:
            return _map(args.site, args.server)


def _password(file: Path) -> int:
    """Ask for a password twice, or read it from a pipe, and keep what cannot be turned back."""
    from connectors.northbound.password_hash import hashed
    from connectors.opcua.certificates import store

    if sys.stdin.isatty():
        password = getpass("password: ")
        if getpass("again: ") != password:
            raise EmsError("password: found two different ones; allowed: the same twice")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < PASSWORD_MIN:
        raise EmsError(f"password: found {len(password)} characters; allowed: {PASSWORD_MIN} or more")
    try:
        store(file, f"{hashed(password)}\n".encode(), mode=0o600)
    except FileExistsError:
        raise EmsError(f"{file} is there already: take it away first") from None
    except OSError as error:
        raise EmsError(f"{file} cannot be written: {error.strerror}") from None
    print(f"{file} (mode 0600): from the next session on")
    return 0


def _map(site_name: str, wanted: str | None) -> int:
    path = find_site(site_name)
    site = load_site(path)
    lines = {s.id: map_lines(site, s) for s in site.modbus_servers}
    lines |= {s.id: node_lines(site, s) for s in site.opcua_servers}
    lines |= {s.id: object_lines(site, s) for s in site.iec104_servers}
    if not lines:
        raise EmsError(f"{path}: found no server under northbound")
    if wanted is not None and wanted not in lines:
        raise EmsError(f"server: found {wanted!r}; allowed: {', '.join(lines)}")
    for one in lines.values() if wanted is None else [lines[wanted]]:
        print("\n".join(one))
    return 0


def map_lines(site: Site, server: ModbusServer) -> Iterator[str]:
    """The register map of a server in Markdown."""
    rows = sorted(rows_of(site, server), key=lambda r: (r.table, r.address))
    how = "as the site file says" if server.rows else "the automatic map"
    yield f"### Registers of `{server.id}`"
    yield ""
    yield (
        f"Unit {server.unit_id}, {how}, `server.map_id` {map_id(rows)}. Addresses are zero-based. Value = "
        "raw × scale + offset, in the unit given. Where there is no good value a float is NaN and a whole "
        "number the count under *none*. Age in s, 65535: longer, or never. Quality: "
        f"{', '.join(f'{i} {q.value}' for i, q in enumerate(Quality))}."
    )
    head = (
        "name", "table", "address", "type", "scale", "offset", "unit", "none", "quality", "age", "written",
        "meaning",
    )  # fmt: skip
    yield from table(head, (_row(site, server, r) for r in rows))
    yield ""


def node_lines(site: Site, server: OpcUaServer) -> Iterator[str]:
    """The nodes of an OPC UA server in Markdown."""
    told = () if server.writes is None else server.writes.limits
    yield f"### Nodes of `{server.id}`"
    yield ""
    where = f"opc.tcp://{server.door.host}:{server.door.port}{server.endpoint}"
    yield (
        f"{where}, namespace `{ua_namespace(site)}`. "
        "All values are Double; quality is in the status, the time of the value in its source time."
    )
    rows = [
        (f"`s={n.name}`", n.unit or "–", "yes" if n.limit in told else "–", n.meaning) for n in names(site)
    ]
    rows += [(f"`s={ANSWER}{x}`", "–", "–", f"what the edge made of the last write: {ANSWERS}") for x in told]
    yield from table(("node", "unit", "written", "meaning"), rows)
    yield ""


def _row(site: Site, server: ModbusServer, row: ServedRow) -> tuple[object, ...]:
    unit, meaning = about(site, row.point)
    kind = MODBUS_TYPES[row.data_type]
    nothing = row.not_available if row.not_available is not None else kind.sentinel
    order = "" if kind.registers == 1 or row.word_order == "big" else ", low word first"
    told = [] if server.writes is None else [f"{LIMIT}{x}" for x in server.writes.limits]
    writable = row.point in told and row.table != "input"
    return (
        f"`{row.point}`",
        "holding, input" if row.table == "both" else row.table,
        row.address,
        row.data_type + order,
        f"{row.scale:g}",
        f"{row.offset:g}",
        unit or "–",
        "NaN" if nothing is None else nothing,
        "–" if row.quality_at is None else row.quality_at,
        "–" if row.age_at is None else row.age_at,
        ("function 6 or 16" if kind.registers == 1 else "function 16, whole") if writable else "–",
        meaning,
    )


def _status(directory: Path, count: int) -> int:
    file = directory / FILE
    if not file.exists():
        raise EmsError(f"{directory}: no server has run in this folder; --dir is that of `ems run`")
    reader, now = RecordsReader(file), SystemClock().now()
    down = 0
    for name, row in reader.statuses().items():
        silent = now - row.at > SILENT
        down += silent or not row.fields.get("up")
        print("\n".join(_server(name, row, silent=silent)))
    refusals = reader.refusals(count)
    if refusals:
        print("\nRefused, the newest first:")
    for r in refusals:
        who = r.client.words if r.client.server else "all"
        what = f"{r.what} " if r.what else ""
        print(f"{r.at:%Y-%m-%d %H:%M:%S} UTC  {r.code}  {what}({who}): {r.why}")
    reader.close()
    return int(down > 0)


def _server(name: str, row: StatusRow, *, silent: bool) -> Iterator[str]:
    told = row.fields
    how = "not heard" if silent else "up" if told.get("up") else f"DOWN: {told.get('trouble')}"
    yield f"{name}: {how}, process {row.pid}, last heard {row.at:%Y-%m-%d %H:%M:%S} UTC"
    yield (
        f"  connections {told.get('connections', 0)} now, {told.get('accepted', 0)} accepted; "
        f"reads {told.get('reads', 0)}, writes {told.get('writes', 0)}, taken {told.get('taken', 0)}, "
        f"refused {told.get('refused', 0)}"
    )
    yield f"  image {told.get('image')}, beat {told.get('beat')}; door {told.get('door')}"
    if told.get("events_lost"):
        yield f"  changes lost for clients that were away: {told['events_lost']}"
    if told.get("certificates"):
        yield f"  certificates: {told['certificates']}"
