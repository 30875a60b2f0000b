"""Where a point is in a DNP3 outstation (IEEE 1815), and who is spoken to there.

A place is written as the object group and the index: `g30/537` is analog input 537. An output names its
variation, too, `g41v3/5` or `g12v1/18`; its status is read at the same index of group 40 or 10, or where the
brackets say: `g41v1/508 [g30/618]`. A binary output is latched on and off; `g12v1/5 [close/trip 250 ms]`
sends one pulse of that length to either. Source: IEEE 1815-2012, annex A; IEEE 1815.2-2025 (outputs that are
read back as inputs).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ems.errors import BadValue

PORT = 20000
ADDRESS_MAX = 65519  # the ones above are broadcasts and reserved
INDEX_MAX = 65535
PULSE_MS_MAX = 60_000
BINARY_INPUT, DOUBLE_BIT, BINARY_STATUS, COUNTER, ANALOG_INPUT, ANALOG_STATUS = 1, 3, 10, 20, 30, 40
CROB, ANALOG_OUTPUT = 12, 41
# type of a point map -> variation with flags that is asked for, by group
VARIATIONS: dict[int, dict[str, int]] = {
    BINARY_INPUT: {"bit": 2},
    DOUBLE_BIT: {"bits2": 2},
    BINARY_STATUS: {"bit": 2},
    COUNTER: {"u32": 1, "u16": 2},
    ANALOG_INPUT: {"s32": 1, "s16": 2, "f32": 5, "f64": 6},
    ANALOG_STATUS: {"s32": 1, "s16": 2, "f32": 3, "f64": 4},
}
# static group -> group and variation of its events with a time; of analogs also by the types of the map
TIMED_EVENTS = {BINARY_INPUT: (2, 2), DOUBLE_BIT: (4, 2), BINARY_STATUS: (11, 2), COUNTER: (22, 5)}
ANALOG_EVENTS = {ANALOG_INPUT: 32, ANALOG_STATUS: 42}
COMMANDS: dict[int, dict[str, int]] = {
    CROB: {"bit": 1},
    ANALOG_OUTPUT: {"s32": 1, "s16": 2, "f32": 3, "f64": 4},
}
STATUS_OF = {CROB: BINARY_STATUS, ANALOG_OUTPUT: ANALOG_STATUS}
TYPES = ("bit", "bits2", "u16", "u32", "s16", "s32", "f32", "f64")
ATTRIBUTES = range(1, 254)  # variations of group 0
_FORM = re.compile(r"g(\d{1,3})(?:v(\d{1,3}))?/(\d{1,5})(?:\s*\[([^\[\]]+)\])?")
_INPUT = re.compile(r"g(\d{1,3})/(\d{1,5})")
_PULSE = re.compile(r"close/trip (\d{1,6}) ms")
_ATTRIBUTE = re.compile(r"g0v(\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dnp3:
    """Who is spoken to, by whom, and how."""

    outstation: int  # link address
    master: int = 1  # ours
    static: str = "points"  # | class0: what is asked for to read everything
    integrity_s: float | None = None  # how often that is; None: at each poll
    events: str | None = None  # | times: told with their times; None: as the outstation is set to
    operate: str = "direct"  # | select: before operate
    time_sync: bool = False  # its clock is set where it asks for it
    is_guest: bool = False  # beside the master that it belongs to: no events, and nothing of it is changed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point is read, and the output that is commanded for it."""

    group: int
    index: int
    command: int | None = None  # group of the output; None: it is only read
    variation: int = 0  # of the output
    output: int = 0  # its index
    pulse_ms: int | None = None  # of a binary output; None: it is latched

    def __str__(self) -> str:
        if self.command is None:
            return f"g{self.group}/{self.index}"
        return f"g{self.command}v{self.variation}/{self.output}"


def parse_place(text: str) -> Place:
    """The parts of a place.

    Raises
    ------
    BadValue : it is not written as one is; says what is wrong.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise BadValue("not gGROUP/INDEX, or gGROUPvVARIATION/INDEX of an output")
    group, index = int(found[1]), _index(found[3])
    if group in VARIATIONS:
        if found[2] is not None or found[4] is not None:
            raise BadValue(f"group {group} is read: no variation and no brackets")
        return Place(group, index)
    if group not in COMMANDS:
        known = ", ".join(str(g) for g in (*VARIATIONS, *COMMANDS))
        raise BadValue(f"group {group}; known: {known}")
    variation = int(found[2]) if found[2] is not None else 0
    if variation not in COMMANDS[group].values():
        allowed = ", ".join(f"g{group}v{v}" for v in COMMANDS[group].values())
        raise BadValue(f"an output names its variation: {allowed}")
    read, pulse_ms = (STATUS_OF[group], index), None
    for part in (found[4] or "").split(","):
        part = part.strip()
        if (place := _INPUT.fullmatch(part)) is not None and int(place[1]) in VARIATIONS:
            read = int(place[1]), _index(place[2])
        elif group == CROB and (pulse := _PULSE.fullmatch(part)) is not None:
            pulse_ms = int(pulse[1])
            if not 1 <= pulse_ms <= PULSE_MS_MAX:
                raise BadValue(f"a pulse of {pulse_ms} ms; allowed: 1 to {PULSE_MS_MAX} ms")
        elif part or found[4] is not None:
            pulses = ", or close/trip 250 ms" if group == CROB else ""
            raise BadValue(f"{part!r} in brackets; allowed: where it is read back, such as g30/618{pulses}")
    return Place(*read, group, variation, index, pulse_ms)


def _index(text: str) -> int:
    if int(text) > INDEX_MAX:
        raise BadValue(f"index {text}; allowed: 0 to {INDEX_MAX}")
    return int(text)


def parse_attribute(text: str) -> int:
    """The variation of a device attribute, `g0v250`. Raises BadValue."""
    found = _ATTRIBUTE.fullmatch(text.strip())
    if found is None or int(found[1]) not in ATTRIBUTES:
        raise BadValue("not g0vVARIATION, 1 to 253")
    return int(found[1])


def place_faults(address: str, data_type: str, *, writable: bool) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    try:
        place = parse_place(address)
    except BadValue as error:
        yield "address", f"such as g30/537, g41v3/5 or g12v1/18 [g1/70]: {error}"
        return
    if place.command is None and writable:
        yield "address", "an output, g41 or g12, where the point is writable"
    elif place.command is not None and not writable:
        yield "address", "an input or a status (g1, g3, g10, g20, g30, g40) where the point is only read"
    allowed = set(VARIATIONS[place.group])
    if place.command is not None:
        allowed &= {t for t, v in COMMANDS[place.command].items() if v == place.variation}
    if not allowed:
        yield "address", f"read back where {place} can be: its status, or an input of the same type"
    elif data_type not in allowed:
        yield "data_type", f"{' '.join(t for t in TYPES if t in allowed)} with {place}"
