"""Numbers of BACnet in words: what is refused and why, reliabilities, units, object types.

Source: ANSI/ASHRAE 135-2020, clause 21.
"""

from ems.bacnet import OBJECT_TYPES, PROPERTIES

ERROR_CLASSES = ("device", "object", "property", "resources", "security", "services", "vt", "communication")
UNKNOWN_OBJECT, UNKNOWN_PROPERTY = 31, 32
UNRECOGNIZED = 67  # an error that says what a reject would
ERRORS_BIG = (51, 54, 59, 65, 123)  # what an abort or a reject would
ERROR_CODES = {
    0: "other", 2: "configuration in progress", 3: "device busy", 7: "inconsistent parameters",
    9: "invalid data type", 16: "missing required parameter", 20: "no space to write property",
    25: "operational problem", 27: "read access denied", 29: "service request denied", 30: "timeout",
    UNKNOWN_OBJECT: "unknown object", UNKNOWN_PROPERTY: "unknown property", 36: "unsupported object type",
    37: "value out of range", 40: "write access denied", 42: "invalid array index",
    45: "optional functionality not supported",
    51: "buffer overflow", 54: "segmentation not supported", UNRECOGNIZED: "unrecognized service",
    123: "APDU too long", 46: "invalid configuration data",
    47: "datatype not supported", 50: "property is not an array", 72: "value not initialized",
    80: "parameter out of range", 82: "busy", 83: "communication disabled", 85: "access denied",
    131: "internal error", 132: "not configured", 133: "out of memory", 138: "invalid value in this state",
}  # fmt: skip
REJECTS = (
    "other", "buffer overflow", "inconsistent parameters", "invalid parameter data type", "invalid tag",
    "missing required parameter", "parameter out of range", "too many arguments", "undefined enumeration",
    "unrecognized service",
)  # fmt: skip
REJECT_OVERFLOW, REJECT_MANY, REJECT_SERVICE = 1, 7, 9
ABORTS = {
    0: "other", 1: "buffer overflow", 2: "invalid APDU in this state",
    3: "preempted by a task of higher priority",
    4: "segmentation not supported", 5: "security error", 6: "insufficient security",
    7: "window size out of range", 8: "application exceeded reply time", 9: "out of resources",
    10: "TSM timeout", 11: "APDU too long",
}  # fmt: skip
ABORTS_BIG = (1, 4, 11)  # too much was asked for at once
RELIABILITIES = {
    1: "no sensor", 2: "over range", 3: "under range", 4: "open loop", 5: "shorted loop", 6: "no output",
    7: "unreliable", 8: "process error", 9: "multi-state fault", 10: "configuration error",
    12: "communication failure", 13: "member fault", 14: "monitored object fault", 15: "tripped",
    16: "lamp failure", 17: "activation failure", 21: "restart failure", 22: "proprietary command failure",
    23: "faults listed", 24: "referenced object fault", 25: "multi-state out of range",
}  # fmt: skip
STATUSES = {  # of a device; 0 and 1 are operational
    2: "download required", 3: "download in progress", 4: "non-operational", 5: "backup in progress",
}  # fmt: skip
UNITS = {
    2: "mA", 3: "A", 4: "ohm", 5: "V", 6: "kV", 7: "MV", 8: "VA", 9: "kVA", 10: "MVA", 11: "var", 12: "kvar",
    13: "Mvar", 14: "degrees phase", 15: "power factor", 16: "J", 17: "kJ", 18: "Wh", 19: "kWh", 27: "Hz",
    29: "% RH", 39: "kg", 42: "kg/s", 44: "kg/h", 47: "W", 48: "kW", 49: "MW", 50: "Btu/h", 51: "hp",
    52: "tons refrigeration", 53: "Pa", 54: "kPa", 55: "bar", 56: "psi", 62: "degC", 63: "K", 64: "degF",
    70: "d", 71: "h", 72: "min", 73: "s", 74: "m/s", 80: "m3", 82: "L", 85: "m3/s", 87: "L/s", 88: "L/min",
    89: "US gal/min", 95: "no units", 96: "ppm", 98: "%", 104: "rpm", 124: "mV", 126: "MJ", 132: "mW",
    135: "m3/h", 136: "L/h", 146: "MWh", 203: "varh", 204: "kvarh", 205: "Mvarh", 239: "VAh", 240: "kVAh",
}  # fmt: skip
_TYPES = {number: name for name, number in OBJECT_TYPES.items()} | {
    6: "calendar", 7: "command", 9: "event-enrollment", 10: "file", 11: "group", 15: "notification-class",
    16: "program", 17: "schedule", 18: "averaging", 20: "trend-log", 21: "life-safety-point",
    22: "life-safety-zone", 25: "event-log", 27: "trend-log-multiple", 28: "load-control",
    29: "structured-view", 31: "timer", 39: "bitstring-value", 42: "date-value", 44: "datetime-value",
    50: "time-value", 51: "notification-forwarder", 53: "channel", 56: "network-port", 60: "staging",
}  # fmt: skip
_PROPERTIES = {number: name for name, number in PROPERTIES.items()} | {87: "priority-array"}


def type_name(object_type: int) -> str:
    """Name of an object type; its number where it is the maker's own."""
    return _TYPES.get(object_type, f"type-{object_type}")


def object_name(key: tuple[int, int]) -> str:
    """An object as a point map writes it."""
    return f"{type_name(key[0])},{key[1]}"


def property_name(number: int) -> str:
    """Name of a property; its number where it is not known here."""
    return _PROPERTIES.get(number, f"property {number}")


def error_words(error_class: int, code: int) -> str:
    """An error in words, its numbers at the end."""
    where = ERROR_CLASSES[error_class] if error_class < len(ERROR_CLASSES) else f"class {error_class}"
    return f"{ERROR_CODES.get(code, 'error')} ({where}, code {code})"
