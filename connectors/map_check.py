"""What a point map must fulfil before a codec is built from it."""

import itertools
import math
from collections.abc import Iterable

from connectors.raw_types import MODBUS_TYPES, Kind, types_of
from ems.bacnet import place_faults as bacnet_faults
from ems.dlms import place_faults as dlms_faults
from ems.dnp3 import place_faults as dnp3_faults
from ems.errors import Problem
from ems.goose import point_fault
from ems.http_json import path_fault
from ems.iec104 import object_faults
from ems.iec61850_reference import reference_faults
from ems.j1939 import place_faults
from ems.site import Connection, PointMap, Protocol

MODBUS_TABLES = ("holding", "input", "coil", "discrete")
ORDERS = ("big", "little")
LAST_REGISTER = 65535


def check_point_maps(connections: Iterable[Connection]) -> list[Problem]:
    """Everything in the point maps that no codec could work with. `ems check` joins these to its own."""
    problems: list[Problem] = []
    for connection in connections:
        for row in connection.points:
            problems += _check_row(connection, row)
        problems += _check_shared_registers(connection)
    return problems


def _problem(connection: Connection, row: PointMap, key: str, allowed: str) -> Problem:
    where = f"connections.{connection.id}.points.{row.point}.{key}"
    return Problem(file="", line=None, key=where, found=repr(getattr(row, key)), allowed=allowed)


def _check_row(connection: Connection, row: PointMap) -> list[Problem]:
    types = types_of(connection)
    found: list[Problem] = []

    def require(good: bool, key: str, allowed: str) -> None:
        if not good:
            found.append(_problem(connection, row, key, allowed))

    require(row.data_type in types, "data_type", " ".join(types))
    require(math.isfinite(row.scale) and row.scale != 0, "scale", "a finite number other than 0")
    require(math.isfinite(row.offset), "offset", "a finite number")
    require(row.sign in (1, -1), "sign", "1 or -1")
    require(math.isfinite(row.low), "low", "a finite number")
    require(math.isfinite(row.high) and row.high >= row.low, "high", f"a finite number from {row.low!r} up")
    kind = types[row.data_type].kind if row.data_type in types else Kind.INTEGER
    whole = kind is Kind.INTEGER
    require(
        row.bit is None or (whole and not row.writable and not row.codes), "bit", "of an integer, read only"
    )
    require(not row.codes or whole, "codes", "of an integer type")
    if connection.protocol.is_modbus:
        require(row.byte_order in ORDERS, "byte_order", "big or little")
        require(row.word_order in ORDERS, "word_order", "big or little")
        require(row.table in MODBUS_TABLES, "table", "holding, input, coil or discrete")
        read_only = row.writable and row.table in ("input", "discrete")
        require(not read_only, "table", "holding or coil: the point is writable")
        fits = row.table not in MODBUS_TABLES or (kind is Kind.BOOLEAN) is (row.table in ("coil", "discrete"))
        require(fits, "data_type", "bit with coil and discrete, and with them alone")
        count = types[row.data_type].registers if row.data_type in types else 1
        good = (
            row.address.isascii() and row.address.isdigit() and int(row.address) + count - 1 <= LAST_REGISTER
        )
        require(good, "address", f"0 to {LAST_REGISTER + 1 - count}, zero-based, as decimal digits")
    elif connection.protocol is Protocol.MQTT:
        require(not row.writable, "writable", "false: MQTT carries no setpoints")
        require(row.payload is not None, "payload", "where in a message the value is")
        require(bool(row.address) and not {"+", "#"} & set(row.address), "address", "a topic, no wildcards")
    elif connection.http is not None:
        require(not row.writable, "writable", "false: HTTP is read only")
        told = row.payload is not None and bool(row.payload.value)
        require(told, "payload", "where in the answer the value is")
        require(not (fault := path_fault(row.address)), "address", fault)
    elif connection.protocol.family == "sunspec":
        require(row.table == "model", "table", "model")
    elif connection.protocol is Protocol.IEC_61850:
        for key, allowed in reference_faults(row.address, row.data_type, writable=row.writable):
            require(False, key, allowed)
    elif (faults := _place_faults(connection, row)) is not None:
        for key, allowed in faults:
            require(False, key, allowed)
    elif connection.dlms is not None:
        require(not row.writable, "writable", "false: a meter is only read")
        for key, allowed in dlms_faults(row.address, row.data_type):
            require(False, key, allowed)
    elif connection.goose is not None:
        require(not row.writable, "writable", "false: GOOSE is listened to alone")
        require(not (why := point_fault(connection.goose, row.address)), "address", f"a member: {why}")
    elif connection.can is not None:
        require(not row.writable, "writable", "false: J1939 is listened to alone")
        for key, allowed in place_faults(connection.can, row.address, row.data_type):
            require(False, key, allowed)
    else:
        good = row.address.startswith("nsu=") and ";" in row.address
        good = good or row.address.startswith(("i=", "path="))
        require(good, "address", "nsu=<namespace URI>;s=... (or i=, g=, b=, path=)")
    return found


def _place_faults(connection: Connection, row: PointMap) -> Iterable[tuple[str, str]] | None:
    """What of a row that names an object cannot be worked with; None with another protocol."""
    if connection.dnp3 is not None:
        return dnp3_faults(row.address, row.data_type, writable=row.writable)
    if connection.bacnet is not None:
        return bacnet_faults(row.address, row.data_type, writable=row.writable)
    if connection.iec104 is not None:
        read_alone = [("writable", "false: stations are only read")] if row.writable else []
        return [*read_alone, *object_faults(row.address, row.data_type)]
    return None


def _check_shared_registers(connection: Connection) -> list[Problem]:
    """Two points in one register are refused when either can be written."""
    if not connection.protocol.is_modbus:
        return []
    spans: list[tuple[int, int, PointMap]] = []
    for row in connection.points:
        if row.data_type in MODBUS_TYPES and row.address.isdigit() and row.table in MODBUS_TABLES:
            start = int(row.address) + (LAST_REGISTER + 1) * MODBUS_TABLES.index(row.table)
            spans.append((start, start + MODBUS_TYPES[row.data_type].registers, row))
    spans.sort(key=lambda s: (s[0], s[1]))
    return [
        _problem(connection, second, "address", f"registers that {first.point} does not use")
        for (_, end, first), (start, _, second) in itertools.pairwise(spans)
        if start < end and (first.writable or second.writable)
    ]
