"""Connections: where each device is, and that it has one writer."""

from ems.site import Protocol
from ems.site_schema.checks_iec61850 import port_of
from ems.site_schema.checks_mqtt import client_id
from ems.site_schema.draft import Draft
from ems.site_schema.forms import ConnectionForm, SerialForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

TOLD = (Protocol.GOOSE, Protocol.J1939)  # to everybody: there is no host
UNITS = range(1, 248)  # on a bus; 0 is everybody at once, which nobody answers


def check_devices(draft: Draft) -> None:
    """No two connections to one device, each a writer of its own; and the keys its protocol needs."""
    seen: dict[tuple[object, ...], str] = {}
    spoken: dict[tuple[str, int | None], tuple[str, Protocol]] = {}
    lines: dict[str, tuple[str, SerialForm]] = {}
    for connection_id, c in draft.connections.items():
        loc = ("connections", connection_id)
        if not _placed(draft, loc, c):
            continue
        if c.protocol in TOLD:  # told to many: several may listen to one
            _spare_keys(draft, loc, c)
            _known_asset(draft, loc, c)
            continue
        place = (c.host, port_of(c)) if c.serial is None else (c.serial.device, None)
        where = f"{c.host}:{port_of(c)}" if c.serial is None else c.serial.device
        key = "port" if c.serial is None else "serial"
        device = (*place, _of_place(draft, connection_id, c))
        if device in seen:
            draft.add(
                (*loc, key),
                f"the device {where} of {seen[device]!r} again",
                "one connection, one writer per device",
            )
        other, protocol = spoken.setdefault(place, (connection_id, c.protocol))
        if protocol.wire is not c.protocol.wire:
            draft.add(
                (*loc, key),
                f"{where} with {c.protocol}",
                f"another port: {other!r} speaks {protocol} there",
            )
        if c.serial is not None:
            _same_line(draft, loc, c.serial, lines.setdefault(c.serial.device, (connection_id, c.serial)))
        seen.setdefault(device, connection_id)
        _spare_keys(draft, loc, c)
        _known_asset(draft, loc, c)


def _of_place(draft: Draft, connection_id: str, c: ConnectionForm) -> str:
    """What tells devices at one host and port apart: unit, endpoint, or our name at a broker."""
    if c.protocol is Protocol.MQTT:
        return client_id(draft, connection_id, c.mqtt)
    if c.protocol is Protocol.HTTP_JSON:
        return connection_id  # nobody writes there: several assets may be read from one device
    if c.protocol is Protocol.DNP3:
        return "" if c.dnp3 is None else str(c.dnp3.outstation)
    if c.protocol is Protocol.IEC_104:
        return "" if c.iec104 is None else str(c.iec104.common_address)
    if c.protocol is Protocol.BACNET:
        return "" if c.bacnet is None else str(c.bacnet.device)
    if c.protocol is Protocol.DLMS:
        return ""  # it takes one association at a time
    return str(c.unit_id) if c.protocol.wire.is_modbus else c.endpoint


def _known_asset(draft: Draft, loc: Loc, c: ConnectionForm) -> None:
    if c.asset is not None and c.asset not in draft.kinds:
        draft.add((*loc, "asset"), repr(c.asset), "an asset of this site", hint(c.asset, draft.kinds))


def _placed(draft: Draft, loc: Loc, c: ConnectionForm) -> bool:
    """Whether it is said where the device is: a serial port with modbus_rtu, else host and port."""
    serial = c.protocol.wire is Protocol.MODBUS_RTU
    named = not serial and c.protocol not in TOLD
    good = True
    for key, given, wanted in (
        ("serial", c.serial is not None, serial),
        ("host", bool(c.host), named),
        ("port", port_of(c) != 0, named),
    ):
        if given is not wanted:
            good = False
            allowed = f"{key} with {c.protocol}" if wanted else f"no {key} with {c.protocol}"
            draft.add((*loc, key), "nothing" if wanted else "a value", allowed)
    return good


def _same_line(draft: Draft, loc: Loc, mine: SerialForm, first: tuple[str, SerialForm]) -> None:
    if mine != first[1]:
        draft.add(
            (*loc, "serial"),
            f"{mine.device} at {mine.baud} baud, parity {mine.parity}, {mine.stop_bits} stop bits",
            f"the same settings as {first[0]!r}, on one bus",
        )


def _spare_keys(draft: Draft, loc: Loc, c: ConnectionForm) -> None:
    if c.protocol.is_rtu and c.unit_id not in UNITS:
        draft.add((*loc, "unit_id"), str(c.unit_id), "1 to 247 on a bus", "nobody answers a broadcast")
    if c.protocol is not Protocol.OPC_UA and c.endpoint:
        draft.add((*loc, "endpoint"), repr(c.endpoint), f"no endpoint with {c.protocol}")
    if c.tls is not None and c.protocol.wire not in (
        Protocol.MODBUS_TCP,
        Protocol.IEC_61850,
        Protocol.IEC_104,
    ):
        draft.add((*loc, "tls"), "a value", f"no tls with {c.protocol}")
    if c.protocol.wire.is_modbus and c.stamps_sampled:
        draft.add((*loc, "stamps_sampled"), "true", f"left out with {c.protocol}, which has no stamps")
    for key in ("originator", "reports"):
        if c.protocol is not Protocol.IEC_61850 and key in c.model_fields_set:
            draft.add((*loc, key), "a value", f"no {key} with {c.protocol}")
    if c.protocol in (Protocol.J1939, Protocol.BACNET) and c.stamps_sampled:
        draft.add((*loc, "stamps_sampled"), "true", f"left out with {c.protocol}, which has no stamps")
    if c.protocol is Protocol.HTTP_JSON and c.stamps_sampled:
        draft.add((*loc, "stamps_sampled"), "true", "left out with http_json: `time` at a point says it")
    of_changes = (Protocol.IEC_61850, Protocol.GOOSE, Protocol.DNP3, Protocol.DLMS, Protocol.IEC_104)
    if c.protocol in of_changes and c.stamps_sampled:
        why = "its times are those of changes"
        draft.add((*loc, "stamps_sampled"), "true", f"left out with {c.protocol}", why)
