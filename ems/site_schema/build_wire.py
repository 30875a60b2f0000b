"""Devices on the wire, and where their points live, from the forms of a site file."""

from ems.errors import BadValue
from ems.points import state_words
from ems.site import Connection, PointMap, Protocol, SerialLine
from ems.site_schema.checks_bacnet import bacnet_of
from ems.site_schema.checks_dlms import dlms_of, row_of
from ems.site_schema.checks_dnp3 import dnp3_of
from ems.site_schema.checks_goose import goose_of
from ems.site_schema.checks_http import http_of
from ems.site_schema.checks_identity import identity_fields
from ems.site_schema.checks_iec104 import iec104_of
from ems.site_schema.checks_iec61850 import mms_reports, port_of
from ems.site_schema.checks_j1939 import can_of
from ems.site_schema.checks_json import TEXT, is_stamped, json_place
from ems.site_schema.checks_modbus import modbus_of
from ems.site_schema.checks_mqtt import broker
from ems.site_schema.checks_northbound_door import tls_files
from ems.site_schema.checks_opcua import ua_security, ua_subscription
from ems.site_schema.checks_sunspec import sunspec_row
from ems.site_schema.draft import Draft, PlacedPoint
from ems.units import conversion_factor, parse_quantity, tidy

_TABLES = {
    "modbus": "holding",
    "sunspec": "model",
    "opc_ua": "node",
    "mqtt": "topic",
    "iec61850": "attribute",
    "goose": "member",
    "j1939": "pgn",
    "dnp3": "object",
    "iec104": "object",
    "bacnet": "object",
    "dlms": "object",
    "http_json": "path",
}


def in_unit(value: float | str, unit: str) -> float:
    """A number as written, in the unit of its point."""
    return parse_quantity(value, unit) if isinstance(value, str) else float(value)


def point_map(placed: PlacedPoint) -> PointMap:
    """Map of one point; the device's unit is converted to the point's own here, once.

    Raises
    ------
    BadValue : unit unknown or of another dimension.
    """
    form = placed.form
    unit = placed.spec.unit if placed.spec is not None else ""
    factor = conversion_factor(form.unit if form.unit is not None else unit, unit)
    table: str | None = form.table
    if table is None:
        table = _TABLES[placed.connection.protocol.family]
    return PointMap(
        point=placed.point,
        address=str(form.address),
        table=table,
        data_type="float" if placed.connection.protocol.family == "sunspec" else form.type,
        byte_order=form.byte_order if form.byte_order is not None else placed.map.byte_order,
        word_order=form.word_order if form.word_order is not None else placed.map.word_order,
        scale=tidy(form.scale * factor),
        offset=1.0 if form.inverted else tidy(form.offset * factor),
        sign=-1 if form.inverted else form.sign,
        unit=unit,
        low=in_unit(form.range[0], unit),
        high=in_unit(form.range[1], unit),
        age_s_max=form.age_s_max,
        writable=form.writable,
        writes_per_day=form.writes_per_day,
        rate_per_s_max=None if form.rate_per_s_max is None else in_unit(form.rate_per_s_max, unit),
        payload=json_place(placed),
        sunspec=sunspec_row(placed),
        dlms=row_of(placed),
        bit=form.bit,
        codes=coded(placed),
    )


def coded(placed: PlacedPoint) -> tuple[tuple[int, float], ...]:
    """Raw counts and what they mean, names of states as the numbers they are; of a text which word it is.

    Raises
    ------
    BadValue : a count that is no whole number, or a name that is no state of this asset.
    """
    words = state_words(placed.kind) if placed.name == "state" else {}
    out: list[tuple[int, float]] = []
    for i, (text, value) in enumerate(placed.form.codes.items()):
        try:
            raw = i if placed.form.type == TEXT else int(text, 0)
        except ValueError:
            raise BadValue(f"{text!r} is no whole number") from None
        if isinstance(value, str) and value not in words:
            raise BadValue(f"{value!r} is no {' '.join(words) or 'number'}")
        out.append((raw, words[value] if isinstance(value, str) else float(value)))
    return tuple(out)


_BUILT = {
    "asset", "map", "port", "serial", "serial_number", "security", "updates", "subscription", "mqtt",
    "stamps_sampled", "tls", "reports", "goose", "can", "dnp3", "iec104", "bacnet", "dlms", "family",
    "settings", "http", "modbus", "points", "leave_out",
}  # fmt: skip


def connections(draft: Draft) -> tuple[Connection, ...]:
    """Every device on the wire, with its point map."""
    return tuple(
        Connection(
            id=connection_id,
            points=tuple(point_map(p) for p in draft.points if p.connection_id == connection_id),
            port=port_of(form),
            serial=None if form.serial is None else SerialLine(**form.serial.model_dump()),
            identity=identity_fields(draft, connection_id, form),
            security=ua_security(form),
            subscription=ua_subscription(form),
            tls=tls_files(form.tls),
            reports=mms_reports(form),
            goose=goose_of(form),
            can=can_of(form),
            dnp3=dnp3_of(form),
            iec104=iec104_of(form),
            bacnet=bacnet_of(form),
            dlms=dlms_of(form),
            http=http_of(form),
            modbus=modbus_of(draft, connection_id, form),
            mqtt=None if form.protocol is not Protocol.MQTT else broker(draft, connection_id, form.mqtt),
            family="" if form.family is None else form.family,
            stamps_sampled=form.stamps_sampled or is_stamped(draft, connection_id),
            **form.model_dump(exclude=_BUILT),
        )
        for connection_id, form in draft.connections.items()
    )
