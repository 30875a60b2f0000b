"""The runbook's part about the wire: connections, identities, register maps, the requests of a poll."""

from collections.abc import Iterator

from cli.check import told_by, ua_words
from cli.input_words import known_by, read_as
from cli.markdown import table
from cli.utility_words import known_by as utility_known_by
from cli.utility_words import told_as
from connectors.modbus.planned import planned_reads
from connectors.modbus.registers import terms_of
from connectors.point_map import PointCodec, point_codecs
from connectors.sunspec.control import control_of
from connectors.sunspec.places import spot
from ems.bacnet import Bacnet, parse_place
from ems.dlms import Dlms
from ems.goose import GooseBlock
from ems.http_json import HttpJson
from ems.links import DatabaseLink
from ems.northbound import ModbusServer
from ems.northbound_iec104 import Iec104Server
from ems.site import Connection, Devices, IdentityField, MqttBroker, PointMap, Protocol, Site

CLOCKS = {"plant": "the plant", "utc": "UTC"}
FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
REFERENCE = {
    "coil": 1,
    "discrete": 100001,
    "holding": 400001,
    "input": 300001,
}  # of the older numbering, of which many manuals are full


def wire_section(site: Site) -> Iterator[str]:
    """Connections: where, how often, how fast a dead one is known, how protected, whose time."""
    yield from ("", "## Connections", "")
    yield (
        "A device on a line of its own that gives no answer in time is known as dead after one poll interval "
        "and one time-out at most. No write is sent twice by itself."
    )
    rows = [
        (
            f"`{c.id}`",
            c.protocol.value,
            _where(c),
            f"{c.poll_s:g} s",
            f"{c.timeout_s:g} s",
            _protection(c),
            _stamp(c),
        )
        for c in site.connections
    ]
    head = ("connection", "protocol", "where", "polled every", "time-out", "protection", "time of a value")
    yield from table(head, rows)
    links = [
        (f"`{t.id}`", f"{t.host}:{t.port}", f"`{t.topic}`", _of_broker(t.broker)) for t in site.telemetry
    ]
    yield from ("", "### Telemetry sent out")
    yield from table(("link", "broker", "topics below", "protection"), links)
    kept = [
        (f"`{d.id}`", f"{d.host}:{d.port}", f"`{d.database}`, schema `{d.schema}`", _of_database(d))
        for d in site.databases
    ]
    yield from ("", "### Databases that keep records")
    yield from table(("link", "server", "database", "protection"), kept)
    files = [
        (
            f"`{e.id}`",
            f"`{e.folder}`",
            e.format,
            f"{e.every} of {'the plant' if e.clock == 'plant' else 'UTC'}",
        )
        for e in site.exports
    ]
    yield from ("", "### Files that are written")
    yield from table(("link", "folder", "format", "of each"), files)
    inputs = [
        (f"`{p.id}`", str(p.kind), f"`{p.place}`", f"{p.every_s:g} s", read_as(p), known_by(p))
        for p in site.inputs
    ]
    yield from ("", "### Inputs from elsewhere")
    yield from table(("input", "kind", "from", "looked at every", "read as", "who tells it"), inputs)
    yield from _servers(site)
    yield from _utilities(site)
    beats = [(c.id, *b) for c in site.connections for b in _heartbeats(c)]
    yield from ("", "### Heartbeats")
    yield from table(("connection", "point", "from", "how"), beats)
    yield from ("", "### Who must be there")
    told = [(c.id, f.name, _expected(f)) for c in site.connections for f in c.identity]
    yield from table(("connection", "identity", "expected"), told)


def _servers(site: Site) -> Iterator[str]:
    """Our own servers, and who may tell bounds through them."""
    yield from ("", "### Our own servers")
    servers: list[ModbusServer | Iec104Server] = [*site.modbus_servers, *site.iec104_servers]
    rows = [
        (
            f"`{s.id}`",
            f"{s.door.host}:{s.door.port}, {_unit(s)}",
            ", ".join(s.door.clients) or "all",
            "TLS, a certificate on both sides" if s.door.tls is not None else "NONE",
            told_by(s),
        )
        for s in servers
    ]
    yield from table(("server", "where", "clients", "protection", "bounds"), rows)
    for s in site.opcua_servers:
        yield from ("", f"- {ua_words(s)}")


def _unit(server: ModbusServer | Iec104Server) -> str:
    if isinstance(server, ModbusServer):
        return f"Modbus unit {server.unit_id}"
    return f"IEC 60870-5-104, common address {server.station}"


def _utilities(site: Site) -> Iterator[str]:
    """Servers of a utility that are asked for bounds."""
    yield from ("", "### Servers of a utility")
    rows = [
        (
            f"`{s.id}`",
            s.protocol.value,
            f"`{s.where}{s.path}`",
            "; ".join(told_as(t) for t in s.tellings),
            f"{s.age_s_max:g} s",
            utility_known_by(s),
        )
        for s in site.utilities
    ]
    head = ("server", "protocol", "where", "what it tells", "told on for at most", "who tells it")
    yield from table(head, rows)


def map_sections(site: Site | Devices) -> Iterator[str]:
    """The register map of each connection, and for Modbus the requests of one poll."""
    yield from ("", "## Register maps", "")
    yield (
        "Value = raw × scale × sign + offset, in the unit given. Addresses are zero-based; in brackets the "
        "number of manuals which count from 400001, 300001, 100001 or 1. A value outside its range is bad, "
        "and bad when it is older than its age."
    )
    for c in site.connections:
        codecs = point_codecs(c)
        yield from ("", f"### `{c.id}`")
        head = ("point", "at", "type", "scale × sign", "offset", "unit", "range", "age", "written with")
        yield from table(head, (_row(c, p, codecs[p.point]) for p in c.points))
        if c.protocol.family == "sunspec":
            yield from ("", _sunspec_poll(c))
        if not c.protocol.is_modbus:
            continue
        asked = [f"function {FUNCTION[b.table]}, {b.count} from {b.address}" for b in planned_reads(c)]
        pause_s = terms_of(c).pause_s
        pause = f", {pause_s:g} s apart" if pause_s > 0.0 else ""
        yield from ("", f"One poll, unit {c.unit_id}{pause}: {'; '.join(asked)}.")


def _row(c: Connection, p: PointMap, codec: PointCodec) -> tuple[str, ...]:
    at, order, how = f"`{p.address}`", "", "node"
    if p.sunspec is not None:
        enabled = p.writable and control_of(spot(p.address)) is not None
        at, how = _sunspec_place(p), f"function 16{': reversion, value, mode, enable' if enabled else ''}"
    if c.protocol is Protocol.IEC_61850:
        how = "Operate" if p.address.endswith("[CO]") else "Write"
    if p.payload is not None and c.http is not None:
        at = f"`{p.address}` at `{p.payload.value}`"
    if c.dnp3 is not None:
        how = "select, operate" if c.dnp3.operate == "select" else "direct operate"
    if c.bacnet is not None and p.writable:
        place = parse_place(p.address)
        priority = c.bacnet.priority if place.priority is None else place.priority
        how = f"priority {priority}"
    if c.protocol.is_modbus:
        at = f"{p.table} {p.address} ({REFERENCE[p.table] + codec.address})"
        order = f", {p.byte_order}/{p.word_order}" if (p.byte_order, p.word_order) != ("big", "big") else ""
        one = 5 if p.table == "coil" else terms_of(c).write_with
        how = f"function {one if codec.registers == 1 else 16}"
    return (
        f"`{p.point}`",
        at,
        p.data_type + order,
        f"{p.scale * p.sign:g}",
        f"{p.offset:g}",
        p.unit or "–",
        f"{p.low:g} to {p.high:g}",
        f"{p.age_s_max:g} s",
        how if p.writable else "–",
    )


def _where(c: Connection) -> str:
    if c.serial is not None:
        line = c.serial
        return (
            f"{line.device}, {line.baud} baud, {line.parity} parity, {line.stop_bits} stop, unit {c.unit_id}"
        )
    if c.goose is not None:
        return f"{c.goose.interface}: {'; '.join(_goose_block(b) for b in c.goose.blocks)}"
    if c.can is not None:
        speed = f", {c.can.bitrate} bit/s" if c.can.serial else ""
        named = "" if c.can.name is None else f", NAME {c.can.name:#018x}"
        return f"{c.can.where}{speed}, source {c.can.source}{named}"
    if c.bacnet is not None:
        return _bacnet_where(c, c.bacnet)
    if c.dnp3 is not None:
        return f"{c.host}:{c.port}, outstation {c.dnp3.outstation}, master {c.dnp3.master}"
    if c.iec104 is not None:
        return f"{c.host}:{c.port}, common address {c.iec104.station}"
    if c.dlms is not None:
        return f"{c.host}:{c.port}, client {c.dlms.client}, server {c.dlms.server}"
    unit = f", unit {c.unit_id}" if c.protocol.wire.is_modbus else ""
    return f"{c.host}:{c.port}{c.endpoint}{unit}"


def _bacnet_where(c: Connection, b: Bacnet) -> str:
    behind = "" if b.network is None else f", network {b.network} address {b.mac}"
    ours = f", from {b.bind}" if b.bind else ""
    return f"{c.host}:{c.port}{behind}, device {b.device}{ours}"


def _goose_block(b: GooseBlock) -> str:
    named = f", goID `{b.go_id}`" if b.go_id is not None else ""
    simulated = ", SIMULATED MESSAGES ARE TAKEN" if b.simulation else ""
    where = f"APPID {b.app_id:#06x}, {b.destination}"
    return f"`{b.control_block}`, {where}, confRev {b.conf_rev}{named}{simulated}"


def _sunspec_place(p: PointMap) -> str:
    assert p.sunspec is not None
    part = "" if p.sunspec.percent_of is None else f" in % of `{p.sunspec.percent_of}`"
    states = ", ".join(f"{symbol} = {value:g}" for symbol, value in p.sunspec.states)
    return f"`{p.address}`{part}{': ' if states else ''}{states}"


def _sunspec_poll(c: Connection) -> str:
    places = [p.address for p in c.points]
    places += [p.sunspec.percent_of for p in c.points if p.sunspec is not None and p.sunspec.percent_of]
    models = ", ".join(str(k) for k in sorted({spot(p).key for p in places}))
    return (
        f"One poll, unit {c.unit_id}: function 3, models {models}, each from its id and length on, where the "
        "device's chain has them; scale factors come with their values."
    )


def _protection(c: Connection) -> str:
    if c.tls is not None:
        return f"TLS, a certificate on both sides, authorities in `{c.tls.ca}`"
    if c.protocol.wire.is_modbus:
        return "none: plain Modbus has none; keep its network apart"
    if c.mqtt is not None:
        return _of_broker(c.mqtt)
    if c.protocol is Protocol.IEC_61850:
        return "none: plain MMS has none; keep its network apart"
    if c.http is not None:
        return _of_http(c.http)
    if c.dnp3 is not None:
        return "none: plain DNP3 has none; keep its network apart"
    if c.iec104 is not None:
        return "none: plain IEC 60870-5-104 has none; keep its network apart"
    if c.bacnet is not None:
        return "none: BACnet/IP has none; keep its network apart"
    if c.dlms is not None:
        return _of_meter(c.dlms)
    if c.goose is not None:
        return "none: GOOSE has none here; keep its network apart"
    if c.can is not None:
        return "none: CAN has none; keep strangers from its cable"
    if c.security is None:
        return "none, on this machine alone"
    if not c.security.is_on:
        return "NONE, as the site file says"
    return f"{c.security.policy}, {c.security.mode}, certificates in `{c.security.trusted}`"


def _of_meter(dlms: Dlms) -> str:
    if dlms.authentication == "gmac":
        return f"GMAC on both sides, everything encrypted (suite 0), counter in `{dlms.counter_file}`"
    if dlms.authentication == "low":
        return "a password, which goes in clear; keep its network apart"
    return "none: keep its network apart"


def _of_http(http: HttpJson) -> str:
    if not http.is_protected:
        return "NONE, as the site file says"
    known = {"authority": f"authorities in `{http.ca}`", "pinned": f"its certificate is `{http.certificate}`"}
    return f"TLS, {known.get(http.protection, 'any authority of the operating system')}"


def _of_broker(broker: MqttBroker) -> str:
    if not broker.is_protected:
        return "NONE, as the site file says"
    return f"TLS, {broker.protection}, as `{broker.client_id}`"


def _of_database(d: DatabaseLink) -> str:
    known = "none, on this machine alone" if d.protection == "plain" else f"TLS, {d.protection}"
    return f"{known}, as `{d.user}`"


def _stamp(c: Connection) -> str:
    if c.protocol.wire.is_modbus:
        return "its arrival: registers carry no time"
    if c.protocol is Protocol.IEC_61850:
        told = "told by reports, else polled" if c.reports is not None and c.reports.blocks else "polled"
        kept = "; buffered reports stored at their own times" if c.reports and c.reports.buffered else ""
        return f"`t` of its data object while its clock is synchronised, {told}; ages by its arrival{kept}"
    if c.dnp3 is not None:
        every = (
            "each poll" if c.dnp3.integrity_s is None else f"every {c.dnp3.integrity_s:g} s, events between"
        )
        return (
            f"that of the last event while its clock is set; everything read at {every}; ages by arrival; "
            "events stored at their own times, confirmed when they are on the disk"
        )
    if c.iec104 is not None:
        every_s = c.iec104.interrogate_s
        every = "each poll" if every_s is None else f"every {every_s:g} s, changes told between"
        believed = c.iec104.time_zone is not None
        clock = f"that of the last change ({c.iec104.time_zone})" if believed else "its arrival"
        return f"{clock}; everything asked at {every}; ages by arrival"
    if c.bacnet is not None:
        return "its arrival: BACnet objects carry no time of their value; polled"
    if c.dlms is not None:
        return "when the meter captured it (classes 4 and 5) while it believes its clock, else its arrival"
    if c.goose is not None:
        return "`t` of the change while its clock is synchronised; told, ends with its timeAllowedToLive"
    if c.can is not None:
        return "its arrival: messages carry no time; ends after three periods of its PGN"
    if c.http is not None:
        return "that in the answer where its map names one, else its arrival"
    if c.mqtt is not None:
        return "the message's own stamp where its map names one, else its arrival"
    told = "told by subscription" if c.subscription is not None else "polled"
    age = "ages by the source's stamp" if c.stamps_sampled else "ages by its arrival"
    return f"the server's source stamp, {told}; {age}"


def _heartbeats(c: Connection) -> Iterator[tuple[str, str, str]]:
    if c.watchdog_point is not None:
        how = f"counts with each completed safe cycle, at most every {c.watchdog_period_s:g} s"
        yield f"`{c.watchdog_point}`", "us", how
    if c.heartbeat_in is not None:
        how = f"standing still for {c.heartbeat_in_s_max:g} s makes everything of it stale"
        yield f"`{c.heartbeat_in}`", "the device", how


def _expected(f: IdentityField) -> str:
    if f.expected is not None:
        return f"`{f.expected}`"
    if f.low is not None or f.high is not None:
        return f"{f.low or 'any'} to {f.high or 'any'}"
    return "as recorded when it was commissioned"
