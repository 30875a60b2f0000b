"""Identity blocks of point maps: where a device tells what it is, checked and built."""

import re
from collections.abc import Iterator

from ems.errors import BadValue
from ems.site import IdentityField, Protocol
from ems.site_schema.checks_bacnet import bacnet_identity
from ems.site_schema.checks_dlms import dlms_identity
from ems.site_schema.checks_dnp3 import dnp3_identity
from ems.site_schema.checks_http import http_identity
from ems.site_schema.checks_iec61850 import identity_reference
from ems.site_schema.checks_sunspec import sunspec_identity
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import IdentityForm, MapForm
from ems.site_schema.text import Loc
from ems.ua_path import browse_path, is_path

_REGISTERS = ("u16", "u32", "u64")
_NODE = re.compile(r"(nsu=[^;]+;|ns=\d+;)?[isgb]=.+")
NODE_FORMS = "a node: nsu=<namespace URI>;s=<name>, or nsu=<namespace URI>;path=<name>/<name>"
_USUAL = {"modbus": "holding", "iec61850": "attribute", "dnp3": "object", "bacnet": "object"}
_USUAL |= {"dlms": "object", "http_json": "path"}
_TEXT_ALONE = ("iec61850", "dnp3", "bacnet", "dlms", "http_json", "iec104")
_NODES = ("Byte", "UInt16", "UInt32", "UInt64", "Int16", "Int32", "Int64")
LAST_REGISTER = 65535


def check_identity(draft: Draft) -> None:
    """Each identity block of each map, and the serial number of each connection."""
    checked: set[str] = set()
    for connection_id, form in draft.connections.items():
        placed = first_of(draft, connection_id)
        if placed is None:
            continue
        is_sunspec = form.protocol.family == "sunspec"
        if form.serial_number is not None and "serial" not in placed.map.identity and not is_sunspec:
            draft.add(
                ("connections", connection_id, "serial_number"),
                repr(form.serial_number),
                f"left out, or `identity: serial:` in {placed.document.file}",
                "the map does not say where the device tells it",
            )
        if placed.document.file in checked:
            continue
        checked.add(placed.document.file)
        for name, field in placed.map.identity.items():
            check_field(placed, name, field)


def identity_fields(draft: Draft, connection_id: str, form: ConnectionForm) -> tuple[IdentityField, ...]:
    """The identity block of a connection's map; the serial number is that of the connection."""
    placed = first_of(draft, connection_id)
    if placed is None:
        return ()
    if form.protocol.family == "sunspec":
        return tuple(sunspec_identity(placed, form))
    return tuple(built_identity(placed.map, form.protocol, form.serial_number))


def built_identity(form: MapForm, protocol: Protocol, serial_number: str | None) -> Iterator[IdentityField]:
    """The identity block of a map; the serial number is told by the connection, where it is."""
    usual = _USUAL.get(protocol.family, "node")
    for name, field in form.identity.items():
        order, words = field.byte_order, field.word_order
        yield IdentityField(
            name=name,
            address=str(field.address),
            table=field.table if field.table is not None else usual,
            data_type=field.type,
            length=field.length if field.length is not None else 0,
            byte_order=order if order is not None else form.byte_order,
            word_order=words if words is not None else form.word_order,
            expected=serial_number if name == "serial" else field.expect,
            starts=field.starts,
            one_of=tuple(field.one_of),
            pointer=field.value,
            low=field.low,
            high=field.high,
        )


def first_of(draft: Draft, connection_id: str) -> PlacedPoint | None:
    """A point of a connection, for the map that it has; None where it has none."""
    return next((p for p in draft.points if p.connection_id == connection_id), None)


def unlike_node(address: object) -> str | None:
    """Why an address is neither a node id nor a browse path; None: it is one. Empty: nothing to add."""
    if not isinstance(address, str):
        return ""
    if is_path(address):
        try:
            browse_path(address)
        except BadValue as error:
            return str(error)
        return None
    return None if _NODE.fullmatch(address) else ""


def check_field(placed: PlacedPoint, name: str, form: IdentityForm) -> None:
    """One line of an identity block, noted in the document of its map."""
    loc, doc, protocol = ("identity", name), placed.document, placed.connection.protocol
    kinds = {"modbus": _REGISTERS, **dict.fromkeys(_TEXT_ALONE, ())}.get(protocol.family, _NODES)
    known = ("string", *kinds)
    if form.type not in known:
        doc.add((*loc, "type"), repr(form.type), f"one of {', '.join(known)}")
    if protocol.family == "sunspec":
        for key in ("address", "table", "length"):
            if (value := getattr(form, key)) is not None:
                doc.add((*loc, key), repr(value), "nothing with sunspec: model 1 tells it")
    elif protocol is Protocol.OPC_UA:
        why = unlike_node(form.address)
        if why is not None or str(form.address).startswith("ns="):
            doc.add((*loc, "address"), _shown(form.address), NODE_FORMS, why or "")
    elif protocol is Protocol.IEC_61850:
        identity_reference(placed, loc, form)
    elif protocol is Protocol.DNP3:
        dnp3_identity(placed, loc, form)
    elif protocol is Protocol.BACNET:
        bacnet_identity(placed, loc, form)
    elif protocol is Protocol.DLMS:
        dlms_identity(placed, loc, form)
    elif protocol is Protocol.IEC_104:
        doc.add(loc, "a value", "left out with iec104: a station does not say what it is")
        return
    elif protocol is Protocol.HTTP_JSON:
        http_identity(placed, loc, form)
    else:
        _registers(placed, loc, form)
    if form.value is not None and protocol is not Protocol.HTTP_JSON:
        doc.add((*loc, "value"), repr(form.value), f"no value with {protocol}")
    if name == "serial" and form.expect is not None:
        why = "several devices share a map"
        doc.add(
            (*loc, "expect"), repr(form.expect), "`serial_number` at the connection in the site file", why
        )
    for key, text in (("from", form.low), ("to", form.high)):
        if text is not None and name != "firmware":
            doc.add((*loc, key), repr(text), f"only at firmware; here `expect`, not at {name}")
        elif text is not None and re.search(r"\d", text) is None:
            doc.add((*loc, key), repr(text), "a version such as 2.10")
    bounds = form.low is not None or form.high is not None
    if form.expect is not None and bounds:
        doc.add((*loc, "expect"), repr(form.expect), "either `expect`, or `from` and `to`")
    ways = [form.expect is not None, form.starts is not None, bool(form.one_of)]
    if sum(ways) > 1:
        doc.add(loc, "more than one of `expect`, `starts` and `one_of`", "one of them")


def _shown(address: int | str | None) -> str:
    return "nothing" if address is None else repr(address)


def _registers(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    doc = placed.document
    if form.type == "string" and form.length is None:
        doc.add((*loc, "length"), "nothing", "how many registers the text has, two letters each")
    if form.type != "string" and form.length is not None:
        doc.add((*loc, "length"), str(form.length), "only with type: string")
    if not (isinstance(form.address, int) and 0 <= form.address <= LAST_REGISTER):
        doc.add((*loc, "address"), _shown(form.address), f"0 to {LAST_REGISTER}, zero-based")
    if form.table not in (None, "holding", "input"):
        doc.add((*loc, "table"), repr(form.table), "holding or input")
