"""Where a point is in a BACnet device (ANSI/ASHRAE 135), and who is spoken to there.

A place is written as object type, instance and property: `analog-value,3`, `analog-input,1,high-limit`;
the property is present-value where none is named. A setpoint may say in brackets at which priority it is
commanded: `analog-output,2 [priority 8]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ems.errors import BadValue

PORT = 47808
INSTANCE_MAX = 4194302  # one less than "any device"
NETWORK_MAX = 65534
ANALOG = {"analog-input": 0, "analog-output": 1, "analog-value": 2, "loop": 12, "pulse-converter": 24}
BINARY = {"binary-input": 3, "binary-output": 4, "binary-value": 5, "binary-lighting-output": 55}
MULTI_STATE = {"multi-state-input": 13, "multi-state-output": 14, "multi-state-value": 19}
# type of present-value in a point map, by object type
PRESENT: dict[str, str] = {
    **dict.fromkeys(ANALOG, "real"),
    **dict.fromkeys(BINARY, "bit"),
    **dict.fromkeys(MULTI_STATE, "unsigned"),
    "accumulator": "unsigned",
    "positive-integer-value": "unsigned",
    "integer-value": "signed",
    "large-analog-value": "double",
    "lighting-output": "real",
}
OBJECT_TYPES: dict[str, int] = {
    **ANALOG,
    **BINARY,
    **MULTI_STATE,
    "device": 8,
    "accumulator": 23,
    "characterstring-value": 40,
    "integer-value": 45,
    "large-analog-value": 46,
    "positive-integer-value": 48,
    "lighting-output": 54,
}
DEVICE = OBJECT_TYPES["device"]
PRESENT_VALUE, STATUS_FLAGS, RELIABILITY, OUT_OF_SERVICE, PRIORITY_ARRAY = 85, 111, 103, 81, 87
PROPERTIES: dict[str, int] = {
    "present-value": PRESENT_VALUE,
    "application-software-version": 12,
    "change-of-state-count": 15,
    "controlled-variable-value": 21,
    "description": 28,
    "elapsed-active-time": 33,
    "feedback-value": 40,
    "firmware-revision": 44,
    "high-limit": 45,
    "low-limit": 59,
    "max-pres-value": 65,
    "min-pres-value": 69,
    "model-name": 70,
    "object-name": 77,
    "out-of-service": OUT_OF_SERVICE,
    "relinquish-default": 104,
    "reliability": RELIABILITY,
    "serial-number": 372,
    "setpoint": 108,
    "system-status": 112,
    "tracking-value": 164,
    "value-before-change": 190,
    "vendor-name": 121,
}
PROPERTY_MAX = 4194303
WRITABLE = tuple(
    t for t in PRESENT if not t.endswith("-input") and t not in ("accumulator", "loop", "pulse-converter")
)
TYPES = ("bit", "unsigned", "signed", "enumerated", "real", "double")
PRIORITIES = range(1, 17)
# Priorities that the standard keeps for something else than control (clause 19.2); site key for each
RESERVED = {1: "manual_life_safety", 2: "automatic_life_safety", 6: "minimum_on_off"}
_PLACE = re.compile(r"([a-z-]+),(\d{1,7})(?:,([a-z-]+|\d{1,7}))?(?:\s*\[([^\[\]]+)\])?")
_PRIORITY = re.compile(r"priority (\d{1,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bacnet:
    """Who is spoken to, and how."""

    device: int  # instance of its device object
    bind: str = ""  # our own address, HOST or HOST:PORT; empty: whatever the system takes
    priority: int = 10  # of what is commanded, 1 the strongest
    priority_is: str | None = None  # what a reserved priority is taken for
    network: int | None = None  # of a device behind a router
    mac: str = ""  # its address there, in hexadecimal
    pause_s: float = 0.0  # between an answer and the next request


@dataclass(frozen=True, slots=True)
class Place:
    """A property of an object, and how it is commanded."""

    object_type: int
    instance: int
    property_id: int = PRESENT_VALUE
    priority: int | None = None  # None: that of the connection


def parse_place(text: str) -> Place:
    """The parts of a place.

    Raises
    ------
    BadValue : it is not written as one is; says what is wrong.
    """
    found = _PLACE.fullmatch(text.strip())
    if found is None:
        raise BadValue("not OBJECT-TYPE,INSTANCE or OBJECT-TYPE,INSTANCE,PROPERTY")
    if found[1] not in OBJECT_TYPES:
        raise BadValue(f"object type {found[1]!r}; known: {', '.join(OBJECT_TYPES)}")
    instance = int(found[2])
    if instance > INSTANCE_MAX:
        raise BadValue(f"instance {instance}; allowed: 0 to {INSTANCE_MAX}")
    priority = None
    if found[4] is not None:
        told = _PRIORITY.fullmatch(found[4].strip())
        if told is None:
            raise BadValue(f"{found[4].strip()!r} in brackets; allowed: priority 8")
        priority = int(told[1])
        if priority not in PRIORITIES:
            raise BadValue(f"priority {priority}; allowed: 1 to 16")
    prop = PRESENT_VALUE if found[3] is None else parse_property(found[3])
    return Place(OBJECT_TYPES[found[1]], instance, prop, priority)


def parse_property(text: str) -> int:
    """The number of a property by its name, or by its number. Raises BadValue."""
    if text.isascii() and text.isdigit() and int(text) <= PROPERTY_MAX:
        return int(text)
    if text not in PROPERTIES:
        raise BadValue(f"property {text!r}; known: {', '.join(PROPERTIES)}, or its number")
    return PROPERTIES[text]


def parse_identity(text: str) -> Place:
    """A property of the device object by its name alone, `vendor-name`, or a whole place.

    The instance is 0 where only the property is named: that of the connection counts. Raises BadValue.
    """
    return parse_place(text) if "," in text else Place(DEVICE, 0, parse_property(text.strip()))


def place_faults(address: str, data_type: str, *, writable: bool) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    try:
        place = parse_place(address)
    except BadValue as error:
        yield "address", f"such as analog-input,3 or binary-output,2 [priority 8]: {error}"
        return
    name = next(name for name, number in OBJECT_TYPES.items() if number == place.object_type)
    if place.property_id == PRESENT_VALUE:
        if name not in PRESENT:
            yield "address", f"a property by its name: {name} has no present-value that is a number"
        elif data_type != PRESENT[name]:
            yield "data_type", f"{PRESENT[name]} with present-value of {name}"
    if writable and (name not in WRITABLE or place.property_id != PRESENT_VALUE):
        yield "address", f"present-value of {', '.join(WRITABLE)} where the point is writable"
    elif not writable and place.priority is not None:
        yield "address", "no brackets where the point is only read"


def reserved_fault(priority: int, stated: str | None) -> str:
    """Why a priority may not be taken; "": it may."""
    meant = RESERVED.get(priority)
    if meant is not None and stated != meant:
        return (
            f"3 to 5, 7 to 16; {priority} is kept for {meant}: `priority_is: {meant}` says that it is meant"
        )
    return ""
