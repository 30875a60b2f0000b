"""Data types on the wire: Modbus registers, OPC UA variants, MQTT values, objects of the others."""

from dataclasses import dataclass
from enum import Enum

from ems.j1939 import COUNT_MAX
from ems.site import Connection

Raw = bool | int | float


class Kind(Enum):
    """How a raw value is handled."""

    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawType:
    """A data type on the wire: its limits; registers (or bits) and struct code where it has them."""

    name: str
    kind: Kind
    raw_min: float
    raw_max: float
    sentinel: int | None = None  # the count that means "not available"
    code: str = ""
    registers: int = 0


def _integer(name: str, bits: int, signed: bool, code: str = "") -> RawType:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    sentinel = (low if signed else high) if code else None
    return RawType(
        name=name,
        kind=Kind.INTEGER,
        raw_min=low,
        raw_max=high,
        sentinel=sentinel,
        code=code,
        registers=bits // 16,
    )


def _float(name: str, bits: int, code: str = "") -> RawType:
    largest = 3.4028234663852886e38 if bits == 32 else 1.7976931348623157e308
    return RawType(
        name=name, kind=Kind.FLOAT, raw_min=-largest, raw_max=largest, code=code, registers=bits // 16
    )


MODBUS_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (
        _integer("u16", 16, False, "H"),
        _integer("s16", 16, True, "h"),
        _integer("u32", 32, False, "I"),
        _integer("s32", 32, True, "i"),
        _integer("u64", 64, False, "Q"),
        _integer("s64", 64, True, "q"),
        _float("f32", 32, "f"),
        _float("f64", 64, "d"),
        RawType(name="bit", kind=Kind.BOOLEAN, raw_min=0, raw_max=1, registers=1),
    )
}
OPC_UA_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (
        RawType(name="Boolean", kind=Kind.BOOLEAN, raw_min=0, raw_max=1),
        _integer("SByte", 8, True),
        _integer("Byte", 8, False),
        _integer("Int16", 16, True),
        _integer("UInt16", 16, False),
        _integer("Int32", 32, True),
        _integer("UInt32", 32, False),
        _integer("Int64", 64, True),
        _integer("UInt64", 64, False),
        _float("Float", 32),
        _float("Double", 64),
    )
}


MQTT_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (_float("number", 64), RawType(name="boolean", kind=Kind.BOOLEAN, raw_min=0, raw_max=1))
}
SUNSPEC_TYPES: dict[str, RawType] = {t.name: t for t in (_float("float", 64),)}  # scale factors applied
IEC_61850_TYPES: dict[str, RawType] = {  # basic types of IEC 61850-7-2; an enumeration is an integer in MMS
    t.name: t
    for t in (
        RawType(name="BOOLEAN", kind=Kind.BOOLEAN, raw_min=0, raw_max=1),
        _integer("INT8", 8, True),
        _integer("INT16", 16, True),
        _integer("INT32", 32, True),
        _integer("INT64", 64, True),
        _integer("INT8U", 8, False),
        _integer("INT16U", 16, False),
        _integer("INT32U", 32, False),
        _integer("ENUMERATED", 32, True),
        _integer("Dbpos", 2, False),
        _float("FLOAT32", 32),
        _float("FLOAT64", 64),
    )
}
J1939_TYPES: dict[str, RawType] = {  # above the largest there is no value: not available, error, reserved
    name: RawType(name=name, kind=Kind.INTEGER, raw_min=0, raw_max=most) for name, most in COUNT_MAX.items()
}
DNP3_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (
        RawType(name="bit", kind=Kind.BOOLEAN, raw_min=0, raw_max=1),
        _integer("bits2", 2, False),
        _integer("u16", 16, False),
        _integer("u32", 32, False),
        _integer("s16", 16, True),
        _integer("s32", 32, True),
        _float("f32", 32),
        _float("f64", 64),
    )
}
IEC_104_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (
        RawType(name="single_point", kind=Kind.BOOLEAN, raw_min=0, raw_max=1),
        _integer("double_point", 2, False),
        _integer("scaled", 16, True),
        _integer("counter", 32, True),
        _float("normalized", 32),
        _float("float", 32),
    )
}
BACNET_TYPES: dict[str, RawType] = {
    t.name: t
    for t in (
        RawType(name="bit", kind=Kind.BOOLEAN, raw_min=0, raw_max=1),
        _integer("unsigned", 32, False),
        _integer("signed", 32, True),
        _integer("enumerated", 32, False),
        _float("real", 32),
        _float("double", 64),
    )
}
DLMS_TYPES: dict[str, RawType] = {  # by the names of a map; the meter says which type a value is of
    t.name: t
    for t in (
        _float("number", 64),
        RawType(name="integer", kind=Kind.INTEGER, raw_min=-(2**63), raw_max=2**64 - 1),
    )
}
HTTP_TYPES = MQTT_TYPES | {
    t.name: t
    for t in (_integer("integer", 54, True), RawType(name="text", kind=Kind.INTEGER, raw_min=0, raw_max=1000))
}
FAMILIES = {
    "modbus": MODBUS_TYPES,
    "sunspec": SUNSPEC_TYPES,
    "opc_ua": OPC_UA_TYPES,
    "mqtt": MQTT_TYPES,
    "http_json": HTTP_TYPES,
    "iec61850": IEC_61850_TYPES,
    "goose": IEC_61850_TYPES,
    "j1939": J1939_TYPES,
    "dnp3": DNP3_TYPES,
    "iec104": IEC_104_TYPES,
    "bacnet": BACNET_TYPES,
    "dlms": DLMS_TYPES,
}


def types_of(connection: Connection) -> dict[str, RawType]:
    """Data types a connection of this protocol may name in its point map."""
    return FAMILIES[connection.protocol.family]
