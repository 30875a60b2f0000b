"""The image of a plant as information objects: the list by data, or an automatic one that is always the same.

Stale never looks fresh: what is not good is *invalid*, and *not topical* where it is old.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from connectors.iec104.asdu import Type
from connectors.iec104.times import time_bytes
from connectors.iec104.values import IV, KINDS, NT, OV, element, told
from connectors.northbound.image import Image
from ems.northbound_iec104 import Iec104Command, Iec104Row, Iec104Server
from ems.northbound_names import (
    ANSWER,
    CAP,
    EMS,
    EVENTS_LOST,
    FRESH,
    LIMIT,
    MAP_ID,
    OF_A_STATION,
    names,
)
from ems.points import is_binary, split_point_id
from ems.site import Site
from ems.telemetry import Quality

SERVER_AT, EMS_AT, CAPS_AT, LIMITS_AT, ANSWERS_AT, COMMANDS_AT = 1, 101, 201, 1001, 2001, 3001
POINTS_AT = 10_001
BITS = frozenset(["breaker_closed", "closed", "sync_ok", "alive", "emergency_stop", "remote"])
QUALITIES = {
    Quality.GOOD: 0,
    Quality.STALE: IV | NT,
    Quality.OUT_OF_RANGE: IV | OV,
    Quality.NOT_FINITE: IV,
    Quality.COMM_FAILED: IV | NT,
    Quality.DEVICE_BAD: IV,
    Quality.FROZEN: IV | NT,
}


def rows_of(site: Site, server: Iec104Server) -> tuple[Iec104Row, ...]:
    """The objects of a station: its own list, or the automatic one."""
    return server.rows if server.rows else tuple(_automatic(site))


def commands_of(server: Iec104Server) -> tuple[Iec104Command, ...]:
    """Its set-point commands: as declared, or one for each limit that may be told."""
    if server.commands or server.writes is None:
        return server.commands
    return tuple(Iec104Command(limit=x, address=COMMANDS_AT + i) for i, x in enumerate(server.writes.limits))


def _automatic(site: Site) -> Iterator[Iec104Row]:
    """Each kind of value from an address of its own on, so that one more of a kind moves no other kind."""
    for i, name in enumerate(OF_A_STATION):
        yield Iec104Row(point=name, address=SERVER_AT + i, kind="float" if name == MAP_ID else "single_point")
    for i, x in enumerate(site.control.limits):
        yield Iec104Row(point=f"{LIMIT}{x.id}", address=LIMITS_AT + i)
        yield Iec104Row(point=f"{ANSWER}{x.id}", address=ANSWERS_AT + i)
    next_at = {EMS: EMS_AT, CAP: CAPS_AT, "": POINTS_AT}
    for n in names(site):
        if not n.name.startswith(LIMIT):
            begin = next((k for k in (EMS, CAP) if n.name.startswith(k)), "")
            yield Iec104Row(point=n.name, address=next_at[begin], kind=_kind(n.name, n.unit))
            next_at[begin] += 1


def _kind(name: str, unit: str) -> str:
    if unit == "kWh":
        return "counter"
    if name in (f"{EMS}held_safe", f"{EMS}shadow"):
        return "single_point"
    short = split_point_id(name)[1]
    return "single_point" if short in BITS or short.startswith("contact_") or is_binary(short) else "float"


def map_id(rows: Iterable[Iec104Row], commands: Iterable[Iec104Command]) -> int:
    """16 bits that change with the list."""
    text = "\n".join(sorted(repr(r) for r in (*rows, *commands)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big")


@dataclass(frozen=True, slots=True)
class Shown:
    """One object as it stands at one moment."""

    row: Iec104Row
    value: float | None  # the last one known, good or not
    element: bytes  # value and quality
    at: datetime  # of the value where it is good, else when it was seen not to be
    clock_valid: bool = True

    def object(self, *, timed: bool, zone: tzinfo = UTC) -> tuple[Type, int, bytes]:
        """(type, address, element), with its time if it is told by itself."""
        kind = KINDS[self.row.kind]
        if not timed:
            return kind.plain, self.row.address, self.element
        return kind.timed, self.row.address, self.element + time_bytes(self.at, zone, valid=self.clock_valid)


class ObjectList:
    """The list of one station, ready for images."""

    def __init__(self, rows: Sequence[Iec104Row], commands: Sequence[Iec104Command]) -> None:
        self.rows, self.id = tuple(rows), map_id(rows, commands)
        self.commands = {c.address: c for c in commands}

    def shown(self, image: Image, answers: Mapping[str, int], now: datetime) -> tuple[Shown, ...]:
        """Everything as it is shown now, in the order of the list."""
        return tuple(self._row(row, image, answers, now) for row in self.rows)

    def _row(self, row: Iec104Row, image: Image, answers: Mapping[str, int], now: datetime) -> Shown:
        name, quality, at = row.point, 0, now
        if name == FRESH:
            value: float | None = float(image.fresh)
        elif name == MAP_ID:
            value = float(self.id)
        elif name == EVENTS_LOST:
            value = 0.0  # of nobody in particular: each client is told its own
        elif name.startswith(ANSWER):
            value = float(answers.get(name.removeprefix(ANSWER), 0))
        else:
            found = image.get(name)
            value, quality = found.value, QUALITIES[found.quality]
            if found.at is not None and found.quality is Quality.GOOD:
                at = found.at
        raw = None if value is None else (value - row.offset) / row.scale
        content = element(row.kind, raw, quality)
        return Shown(row, value, content, at, image.clock_valid)


def changed(before: Shown, after: Shown) -> bool:
    """Whether a client should be told of it: another quality, or a value beyond the deadband."""
    if before.element == after.element or after.row.kind == "counter":
        return False
    if before.element[-1] != after.element[-1] or before.value is None or after.value is None:
        return True  # its last byte has the quality
    return not abs(after.value - before.value) < after.row.deadband


def told_kw(command: Iec104Command, content: bytes) -> float:
    """The bound that a set-point command tells [kW]; NaN where it is none."""
    value = told(command.kind, content) * command.scale_kw
    return value if math.isfinite(value) else math.nan
