"""Points and connections: every required point mapped once, no register twice, every number representable."""

import re
from collections.abc import Iterator

from ems.bacnet import TYPES as BACNET_TYPES
from ems.dlms import TYPES as DLMS_TYPES
from ems.dnp3 import TYPES as DNP3_TYPES
from ems.errors import BadValue
from ems.iec104 import TYPES as IEC_104_TYPES
from ems.j1939 import BITS
from ems.points import POINTS, Access, AssetKind, PointSpec, point_id
from ems.site import PointMap, Protocol
from ems.site_schema.build_wire import in_unit, point_map
from ems.site_schema.checks_bacnet import bacnet_row
from ems.site_schema.checks_codes import check_codes, no_codes
from ems.site_schema.checks_contacts import check_open_wire, check_place_of_open_wire
from ems.site_schema.checks_devices import check_devices
from ems.site_schema.checks_dlms import dlms_row
from ems.site_schema.checks_dnp3 import dnp3_row
from ems.site_schema.checks_goose import goose_row
from ems.site_schema.checks_http import http_row
from ems.site_schema.checks_identity import NODE_FORMS, unlike_node
from ems.site_schema.checks_iec104 import iec104_row
from ems.site_schema.checks_iec61850 import iec61850_row
from ems.site_schema.checks_j1939 import j1939_row
from ems.site_schema.checks_json import no_payload
from ems.site_schema.checks_mqtt import mqtt_row
from ems.site_schema.checks_sunspec import no_sunspec, sunspec_form
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint
from ems.units import conversion_factor

LAST_REGISTER = 65535
_INTEGERS: dict[str, dict[str, tuple[int, bool]]] = {  # family of protocols -> name -> (bits, signed)
    "modbus": {f"{s}{n}": (n, s == "s") for n in (16, 32, 64) for s in "us"},
    "opc_ua": {
        "SByte": (8, True), "Byte": (8, False), "Int16": (16, True), "UInt16": (16, False),
        "Int32": (32, True), "UInt32": (32, False), "Int64": (64, True), "UInt64": (64, False),
    },
    "iec61850": {f"INT{n}{u}": (n, not u) for n in (8, 16, 32, 64) for u in ("", "U") if (n, u) != (64, "U")}
    | {"ENUMERATED": (32, True), "Dbpos": (2, False)},
    "mqtt": {}, "sunspec": {},
}  # fmt: skip
_OTHERS = {
    "modbus": ("f32", "f64", "bit"),
    "sunspec": (),
    "opc_ua": ("Boolean", "Float", "Double"),
    "mqtt": ("number", "boolean"),
    "iec61850": ("BOOLEAN", "FLOAT32", "FLOAT64"),
}

_INTEGERS["j1939"], _OTHERS["j1939"] = {name: (bits, False) for name, bits in BITS.items()}, ()
_INTEGERS["dnp3"] = {"bits2": (2, False)} | {f"{s}{n}": (n, s == "s") for n in (16, 32) for s in "us"}
_OTHERS["dnp3"] = tuple(t for t in DNP3_TYPES if t not in _INTEGERS["dnp3"])
_INTEGERS["iec104"] = {"double_point": (2, False), "scaled": (16, True), "counter": (32, True)}
_OTHERS["iec104"] = tuple(t for t in IEC_104_TYPES if t not in _INTEGERS["iec104"])
_INTEGERS["bacnet"] = {"unsigned": (32, False), "signed": (32, True), "enumerated": (32, False)}
_OTHERS["bacnet"] = tuple(t for t in BACNET_TYPES if t not in _INTEGERS["bacnet"])
_INTEGERS["dlms"], _OTHERS["dlms"] = {}, DLMS_TYPES
_INTEGERS["http_json"], _OTHERS["http_json"] = {"integer": (54, True)}, ("number", "boolean", "text")
_INTEGERS["goose"], _OTHERS["goose"] = _INTEGERS["iec61850"], _OTHERS["iec61850"]
DAY_S = 86400.0
MEASURED = frozenset(  # what moves steadily; limits, states and counters may change at once
    s.name for specs in POINTS.values() for s in specs if s.name in ("p_kw", "soc", "p_available_kw")
    or (s.access is Access.READ and s.unit in ("kvar", "pu", "Hz", "degC", "L"))
)  # fmt: skip


def check_wire(draft: Draft, *, whole: bool = True) -> None:
    """All checks of connections and point maps. A site without connections can be simulated, not run.

    Parameters
    ----------
    whole : each asset must have all the points that a plant is run with.
    """
    check_devices(draft)
    first: dict[str, PlacedPoint] = {}
    for placed in draft.points:
        if placed.map.protocol.family != placed.connection.protocol.family:
            _wrong_map(draft, placed)
            continue
        if _place(draft, placed):
            check_row(placed)
        if (earlier := first.setdefault(placed.point, placed)) is not placed:
            _twice(placed, earlier)
    check_registers(draft)
    for connection_id, connection in draft.connections.items():
        _watchdog(draft, connection_id, connection)
        _heartbeat_in(draft, connection_id, connection)
    _silence(draft)
    _budgets(draft)
    if whole and draft.connections and "connections" in draft.complete and not draft.unread_connections:
        _missing(draft, set(first) | draft.broken_points)


def _wrong_map(draft: Draft, placed: PlacedPoint) -> None:
    if placed.connection_id not in draft.unread_connections:
        draft.unread_connections.add(placed.connection_id)
        loc = ("connections", placed.connection_id, "map")
        draft.add(loc, f"a map for {placed.map.protocol}", f"a map for {placed.connection.protocol}")


def _place(draft: Draft, placed: PlacedPoint) -> bool:
    """Whether the row belongs to something that is known."""
    c = placed.connection
    if placed.asset not in draft.kinds:
        known = "an asset of this site in front of the name, or `asset` at the connection"
        found = repr(placed.point) if placed.asset != "?" else f"{placed.name!r} of no asset"
        placed.document.add(placed.loc, found, known, hint(placed.asset, draft.kinds))
        return False
    told = {point for _, _, point in _silence_points(draft)}
    if placed.spec is None and placed.point not in {c.watchdog_point, c.heartbeat_in, *told}:
        names = [s.name for s in POINTS[draft.kinds[placed.asset]]]
        kind = draft.kinds[placed.asset]
        placed.document.add(
            placed.loc,
            f"{placed.name!r}, no point of a {kind}",
            f"one of {', '.join(names)}",
            hint(placed.name, names),
        )
        return False
    return True


def check_row(placed: PlacedPoint) -> None:
    """One row of a map: type, address, access, unit, range, codes."""
    form, loc, doc = placed.form, placed.loc, placed.document
    family = placed.connection.protocol.family
    known = (*_INTEGERS[family], *_OTHERS[family])
    if form.type not in known and family != "sunspec":
        found = repr(form.type) if form.type else "nothing"
        doc.add((*loc, "type"), found, f"one of {', '.join(known)}", hint(form.type, known))
    _as_its_protocol(placed)
    _access(placed)
    check_place_of_open_wire(placed)
    if form.writes_per_day is not None and not form.writable:
        doc.add((*loc, "writes_per_day"), str(form.writes_per_day), "nothing: this point is not writable")
    if form.age_s_max <= placed.connection.poll_s:
        doc.add(
            (*loc, "age_s_max"),
            f"{form.age_s_max:g} s",
            f"more than the poll interval of {placed.connection_id!r}, {placed.connection.poll_s:g} s",
        )
    unit = placed.spec.unit if placed.spec is not None else ""
    try:
        conversion_factor(form.unit if form.unit is not None else unit, unit)
    except BadValue as error:
        doc.add((*loc, "unit"), repr(form.unit), f"{unit or 'no unit'}, or what converts to it", str(error))
        return
    try:
        low, high = (in_unit(v, unit) for v in form.range)
    except BadValue as error:
        doc.add((*loc, "range"), str(form.range), f"two numbers in {unit or 'no unit'}", str(error))
        return
    if not _rate(placed, unit):
        return
    if not low < high:
        doc.add((*loc, "range"), f"[{low:g}, {high:g}]", "low before high")
    elif placed.spec is not None and placed.name == "soc" and not 0.0 <= low < high <= 1.0:
        doc.add(
            (*loc, "range"),
            f"[{low:g}, {high:g}]",
            "within 0 and 1: it is a share",
            "a register in percent has `scale: 0.01`",
        )
    elif form.type in known and check_codes(placed, low, high):
        row = point_map(placed)
        _representable(placed, row)
        check_open_wire(placed, row)


def _as_its_protocol(placed: PlacedPoint) -> None:
    """What one row must be with its protocol, and keys that mean something with others alone."""
    protocol = placed.connection.protocol
    if protocol.family == "sunspec":
        sunspec_form(placed)
        no_codes(placed)
    else:
        no_sunspec(placed)
        _ROWS.get(protocol, _address)(placed)
    if protocol not in (Protocol.MQTT, Protocol.HTTP_JSON):
        no_payload(placed)


_ROWS = {
    Protocol.MQTT: mqtt_row,
    Protocol.HTTP_JSON: http_row,
    Protocol.IEC_61850: iec61850_row,
    Protocol.DNP3: dnp3_row,
    Protocol.IEC_104: iec104_row,
    Protocol.BACNET: bacnet_row,
    Protocol.DLMS: dlms_row,
    Protocol.GOOSE: goose_row,
    Protocol.J1939: j1939_row,
}


def _rate(placed: PlacedPoint, unit: str) -> bool:
    """Whether the largest move in a second can be read, is more than none, and belongs to a measurement."""
    told, at = placed.form.rate_per_s_max, (*placed.loc, "rate_per_s_max")
    if told is None:
        return True
    if placed.form.writable or placed.name not in MEASURED:
        wanted = f"nothing: only measurements move steadily ({', '.join(sorted(MEASURED))})"
        placed.document.add(at, str(told), wanted)
        return False
    try:
        rate = in_unit(told, unit)
    except BadValue as error:
        placed.document.add(at, str(told), f"one number in {unit or 'no unit'}", str(error))
        return False
    if not rate > 0.0:
        placed.document.add(at, f"{rate:g}", "more than 0: a point that may never move is no measurement")
        return False
    return True


def _address(placed: PlacedPoint) -> None:
    form, loc, doc = placed.form, placed.loc, placed.document
    if placed.connection.protocol is Protocol.OPC_UA:
        if (why := unlike_node(form.address)) is not None:
            doc.add((*loc, "address"), repr(form.address), NODE_FORMS, why)
        elif str(form.address).startswith("ns="):
            doc.add(
                (*loc, "address"),
                repr(form.address),
                "the namespace as a URI: nsu=<namespace URI>;s=<name>",
                "indexes (ns=2) change when a server restarts",
            )
        if form.table not in (None, "node"):
            doc.add((*loc, "table"), repr(form.table), "node, or nothing, with opc_ua")
        return
    last = LAST_REGISTER + 1 - _width(placed)
    if not (isinstance(form.address, int) and 0 <= form.address <= last):
        doc.add((*loc, "address"), repr(form.address), f"0 to {last}, zero-based")
    if form.table not in ("holding", "input", "coil", "discrete"):
        found = repr(form.table) if form.table is not None else "nothing"
        doc.add((*loc, "table"), found, "holding, input, coil or discrete")
        return
    wanted = "coil" if form.type == "bit" else "holding"
    if form.writable and form.table in ("input", "discrete"):
        doc.add((*loc, "table"), form.table, f"{wanted}: the point is writable")
    elif (form.type == "bit") is not (form.table in ("coil", "discrete")):
        doc.add(
            (*loc, "type"),
            repr(form.type),
            f"bit with coil and discrete, and with them alone; not {form.table}",
        )


def _access(placed: PlacedPoint) -> None:
    if placed.spec is None or placed.connection.protocol.is_told:
        return
    is_setpoint = placed.spec.access is Access.WRITE
    if is_setpoint != placed.form.writable:
        placed.document.add(
            (*placed.loc, "writable"),
            "true" if placed.form.writable else "false",
            "true: the EMS writes this setpoint" if is_setpoint else "false: the EMS only reads this point",
        )


def _representable(placed: PlacedPoint, row: PointMap) -> None:
    """Both ends of the plausible range must fit the integer type."""
    integers = _INTEGERS[placed.connection.protocol.family]
    if row.data_type not in integers or row.codes or row.bit is not None:
        return
    bits, signed = integers[row.data_type]
    raw_low, raw_high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    raws = sorted((v - row.offset) / (row.scale * row.sign) for v in (row.low, row.high))
    # A measurement may be clipped by its register a little early; what is to be written must fit exactly.
    if placed.form.writable and not (raw_low - 0.5 <= raws[0] and raws[1] <= raw_high + 0.5):
        placed.document.add(
            (*placed.loc, "range"),
            f"[{row.low:g}, {row.high:g}] {row.unit}: raw {raws[0]:g} to {raws[1]:g}",
            f"what {row.data_type} holds: raw {raw_low} to {raw_high}",
            "sign, scale or type?",
        )
    elif raws[1] < raw_low or raws[0] > raw_high or (not signed and row.sign < 0 and raws[0] < 0):
        placed.document.add(
            (*placed.loc, "sign"),
            f"{row.sign} with {row.data_type}: raw {raws[0]:g} to {raws[1]:g}",
            f"what {row.data_type} holds: raw {raw_low} to {raw_high}",
        )


def _twice(placed: PlacedPoint, earlier: PlacedPoint) -> None:
    kind = "writer" if placed.form.writable else "source"
    where = f"{earlier.document.file}:{earlier.document.line(earlier.loc)}"
    placed.document.add(
        placed.loc,
        f"a second {kind} of {placed.point} (connection {placed.connection_id!r})",
        f"one {kind} per point",
        f"first in {where} (connection {earlier.connection_id!r})",
    )


def _width(placed: PlacedPoint) -> int:
    digits = re.search(r"\d+$", placed.form.type)
    return max(1, int(digits[0]) // 16) if digits is not None else 1


def _spans(draft: Draft) -> Iterator[tuple[tuple[str, str], int, int, PlacedPoint]]:
    for placed in draft.points:
        address = placed.form.address
        if placed.connection.protocol.is_modbus and isinstance(address, int):
            group = (placed.connection_id, str(placed.form.table))
            yield group, address, address + _width(placed), placed


def check_registers(draft: Draft) -> None:
    """No two points share a register, no two points one node; bits of one register may."""
    widest: dict[tuple[str, str], tuple[int, PlacedPoint]] = {}
    for group, start, end, second in sorted(_spans(draft), key=lambda s: s[:3]):
        taken, first = widest.get(group, (0, second))
        if end > taken:
            widest[group] = (end, second)
        if start < taken and not _bits_of_one(first, second):
            second.document.add(
                (*second.loc, "address"),
                f"{start}, a register of {first.name!r} too (up to {taken - 1})",
                "registers that no other point uses",
                f"{first.name!r} is in line {first.document.line(first.loc)}",
            )
    nodes: dict[tuple[str, str, str | None], PlacedPoint] = {}
    for placed in draft.points:
        if not placed.connection.protocol.is_modbus:
            key = (placed.connection_id, str(placed.form.address), placed.form.value)
            if (earlier := nodes.setdefault(key, placed)) is not placed:
                placed.document.add(
                    (*placed.loc, "address"),
                    f"the {_place_word(placed)} of {earlier.point!r} again",
                    f"a {_place_word(placed)} that no other point uses",
                )


def _bits_of_one(first: PlacedPoint, second: PlacedPoint) -> bool:
    """Two bits that are read from one register; a written register belongs to one point alone."""
    a, b = first.form, second.form
    same = (a.address, a.type) == (b.address, b.type) and not (a.writable or b.writable)
    return same and a.bit is not None and b.bit is not None


def _place_word(placed: PlacedPoint) -> str:
    words = {"opc_ua": "node", "sunspec": "point", "mqtt": "topic and place"}
    words |= {"iec61850": "attribute", "goose": "member", "j1939": "place"}
    words |= {"dnp3": "object", "bacnet": "object", "dlms": "object"}
    words |= {"http_json": "path and place", "iec104": "object"}
    return words[placed.connection.protocol.family]


def _watchdog(draft: Draft, connection_id: str, connection: ConnectionForm) -> None:
    point = connection.watchdog_point
    if point is None or connection_id in draft.unread_connections or point in draft.broken_points:
        return
    own = {p.point: p for p in draft.points if p.connection_id == connection_id}
    loc = ("connections", connection_id, "watchdog_point")
    if point not in own:
        draft.add(loc, repr(point), "a point of this connection's map", hint(point, own))
    elif not own[point].form.writable:
        draft.add(loc, f"{point!r}, which is not writable", "a writable point")


def _heartbeat_in(draft: Draft, connection_id: str, connection: ConnectionForm) -> None:
    point = connection.heartbeat_in
    if point is None or connection_id in draft.unread_connections or point in draft.broken_points:
        return
    own = {p.point: p for p in draft.points if p.connection_id == connection_id}
    loc = ("connections", connection_id, "heartbeat_in")
    if point not in own:
        draft.add(loc, repr(point), "a point of this connection's map", hint(point, own))
    elif own[point].form.writable:
        draft.add(loc, f"{point!r}, which is writable", "a point that is read")
    if connection.heartbeat_in_s_max < 2.0 * connection.poll_s:
        draft.add(
            ("connections", connection_id, "heartbeat_in_s_max"),
            f"{connection.heartbeat_in_s_max:g} s with poll_s {connection.poll_s:g} s",
            f"{2.0 * connection.poll_s:g} s or more, twice the poll",
            "one late answer is not a device that stands still",
        )


def _silence_points(draft: Draft) -> Iterator[tuple[str, str, str]]:
    """Points at which devices tell what they are set to do in silence: (setpoint, key, point)."""
    for setpoint, form in draft.authority.items():
        for key in ("timeout_point", "value_point"):
            point = getattr(form.silence, key)
            if point is not None:
                yield setpoint, key, point


def _budgets(draft: Draft) -> None:
    """A budget must last for the refreshes of a day at the least."""
    for placed in draft.points:
        budget, authority = placed.form.writes_per_day, draft.authority.get(placed.point)
        if budget is not None and authority is not None and DAY_S / authority.refresh_s > 0.5 * budget:
            draft.add(
                ("authority", placed.point, "refresh_s"),
                f"{authority.refresh_s:g} s with writes_per_day {budget}",
                f"{2.0 * DAY_S / budget:g} s or more: half of the budget is for refreshes",
                "its register wears out",
            )


def _silence(draft: Draft) -> None:
    placed = {p.point: p for p in draft.points}
    for setpoint, key, point in _silence_points(draft):
        loc = ("authority", setpoint, "silence", key)
        if point in draft.broken_points or draft.unread_connections:
            continue
        if point not in placed:
            draft.add(loc, repr(point), "a point of a connection's map", hint(point, placed))
        elif placed[point].form.writable:
            draft.add(loc, f"{point!r}, which is writable", "a point that is read")
        elif key == "value_point" and draft.authority[setpoint].silence.value is None:
            draft.add(loc, repr(point), "only with action: value")


def wanted_points(draft: Draft, asset: str, kind: AssetKind) -> Iterator[PointSpec]:
    """Points of an asset that must be mapped: the required ones, and the request of a breaker."""
    for spec in POINTS[kind]:
        has_breaker = (
            spec.name == "close_request" and asset in draft.feeders and draft.feeders[asset].has_breaker
        )
        if spec.required or has_breaker:
            yield spec


def _missing(draft: Draft, mapped: set[str]) -> None:
    for asset, kind in draft.kinds.items():
        names = [s.name for s in wanted_points(draft, asset, kind) if point_id(asset, s.name) not in mapped]
        for name in names:
            draft.add(
                _loc_of(draft, asset, kind),
                f"no map for {point_id(asset, name)}",
                f"each required point of a {kind} in one connection's map",
            )


def _loc_of(draft: Draft, asset: str, kind: AssetKind) -> Loc:
    served = [i for i, c in draft.connections.items() if c.asset == asset]
    served += [p.connection_id for p in draft.points if p.asset == asset]
    if served:
        return ("connections", served[0], "map")
    return ("connections",) if kind is AssetKind.BUS else (_SECTION[kind], asset)


_SECTION = {
    AssetKind.GRID: "grid",
    AssetKind.BESS: "bess",
    AssetKind.GENSET: "gensets",
    AssetKind.PV: "pv",
    AssetKind.FEEDER: "feeders",
}
