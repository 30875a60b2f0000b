"""What the messages of one GOOSE control block say now, and which of them do not count. No I/O.

Sources: IEC 61850-8-1 (2011), 18.1 (stNum, sqNum, timeAllowedToLive); IEC 61850-7-2 (2010), 18.2 (simulation,
ndsCom); IEC 62351-6 (2020), 8.2 (a stNum that goes back counts again after timeAllowedToLive).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from open61850 import data as iec

from connectors.iec61850.goose_frame import UINT32_MAX, Message
from connectors.iec61850.values import AccessFault, quality_of, raw_of, stamp_of
from connectors.link import PointValue
from connectors.point_map import PointCodec
from connectors.raw_types import Raw
from ems.goose import GooseBlock, Leaf, Spots, leaves, spots_of
from ems.iec61850_reference import parse_reference
from ems.telemetry import Quality

NOT_HEARD = PointValue(None, Quality.COMM_FAILED, None)


@dataclass(slots=True)
class Counts:
    """What became of the messages of a control block."""

    messages: int = 0  # taken
    states: int = 0  # changes told
    states_missed: int = 0  # gaps of stNum
    sequence_gaps: int = 0  # messages missing by sqNum
    duplicates: int = 0
    reordered: int = 0  # an older sqNum of the same state
    set_back: int = (
        0  # an older stNum while the newer one lives: late, replayed, or a publisher that restarts
    )
    lapses: int = 0  # times that nothing came for timeAllowedToLive
    unannounced: int = 0  # values that changed without a new stNum
    simulated: int = 0  # simulated messages that were not taken, or real ones beside those that were
    not_as_agreed: int = 0  # refused for confRev, ndsCom, data set, goID or its values
    times_not_believed: int = 0


class _Known(NamedTuple):
    message: Message
    arrived_s: float

    def lives(self, at_s: float) -> bool:
        return at_s - self.arrived_s <= self.message.alive_s


class Stream:
    """One control block: told by one thread, read by another.

    Parameters
    ----------
    block : what its messages must be.
    codecs : those points that it tells.
    """

    def __init__(self, block: GooseBlock, codecs: Sequence[PointCodec]) -> None:
        self.block, self.counts = block, Counts()
        told = leaves(block.members)
        self._points: list[tuple[PointCodec, Spots]] = []
        for codec in codecs:
            spots = spots_of(parse_reference(codec.point.address), told)
            if spots is not None:
                self._points.append((codec, spots))
        self._known: _Known | None = None
        self._problem = ""
        self._is_in_simulation = False
        self._simulated_s = -math.inf

    def take(self, message: Message, at_s: float) -> None:
        """A message of this control block has come; `at_s` on the wall clock that does not jump [s]."""
        if message.is_simulated is not self._is_in_simulation:
            if not (message.is_simulated and self.block.simulation):
                self.counts.simulated += 1
                self._simulated_s = at_s if message.is_simulated else self._simulated_s
                return
            self._is_in_simulation, self._known = True, None  # from here on the real ones do not count
        if fault := self._fault(message):
            self.counts.not_as_agreed += 1
            self._known, self._problem = None, fault
            return
        if self._known is not None and self._is_overtaken(self._known, message, at_s):
            return
        self.counts.messages += 1
        self.counts.times_not_believed += bool(_doubt(message.time))
        self._known, self._problem = _Known(message, at_s), ""

    def _fault(self, message: Message) -> str:
        """How a message is not what was agreed; "": it is."""
        block = self.block
        if message.conf_rev != block.conf_rev:
            return f"confRev {message.conf_rev}, {block.conf_rev} in the site file: it was configured anew"
        if message.needs_commissioning:
            return "ndsCom is set: the publisher says that it needs commissioning"
        if block.data_set is not None and message.data_set != block.data_set:
            return f"data set {message.data_set!r}, {block.data_set!r} in the site file"
        if block.go_id is not None and message.go_id != block.go_id:
            return f"goID {message.go_id!r}, {block.go_id!r} in the site file"
        if len(message.values) != len(block.members):
            return f"{len(message.values)} values, {len(block.members)} members in the site file"
        return "" if message.alive_s > 0.0 else "timeAllowedToLive is 0"

    def _is_overtaken(self, known: _Known, message: Message, at_s: float) -> bool:
        """Whether a message is not the next one. After a silence whatever comes begins anew."""
        counts, before = self.counts, known.message
        if not known.lives(at_s):
            counts.lapses += 1
            return False
        if message.state != before.state:
            ahead = _ahead(message.state, before.state)
            if ahead < 0:
                counts.set_back += 1
                return True
            counts.states += 1
            counts.states_missed += ahead - 1
            counts.sequence_gaps += message.sequence
            return False
        if message.sequence == before.sequence:
            counts.duplicates += 1
            return True
        ahead = _ahead(message.sequence, before.sequence)
        if ahead < 0:
            counts.reordered += 1
            return True
        counts.sequence_gaps += ahead - 1
        counts.unannounced += message.values != before.values
        return False

    def lives(self, at_s: float) -> bool:
        """Whether its last message still counts."""
        known = self._known
        return known is not None and known.lives(at_s)

    def silence(self, at_s: float) -> str:
        """Why its last message does not count; "": it does."""
        known, name = self._known, self.block.control_block
        if known is None and self._problem:
            return f"{name}: {self._problem}"
        if known is None and at_s - self._simulated_s < 60.0:
            return f"{name}: simulated messages alone are heard, and not taken"
        if known is None:
            return f"{name}: nothing heard"
        if known.lives(at_s):
            return ""
        return (
            f"{name}: nothing heard for {at_s - known.arrived_s:.1f} s, "
            f"timeAllowedToLive was {known.message.alive_s:g} s"
        )

    def values(self, at_s: float) -> dict[str, tuple[PointValue, str]]:
        """Each of its points now, and why it has no good value."""
        known = self._known
        if known is None or not known.lives(at_s):
            refused = known is None and bool(self._problem)
            value = PointValue(None, Quality.DEVICE_BAD, None) if refused else NOT_HEARD
            why = self.silence(at_s)
            return {codec.point.point: (value, why) for codec, _ in self._points}
        age_s = max(0.0, at_s - known.arrived_s)
        out: dict[str, tuple[PointValue, str]] = {}
        for codec, spots in self._points:
            value, why = _value(codec, spots, known.message)
            out[codec.point.point] = value._replace(age_s=age_s), why
        return out

    def counted(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self.counts)


def _ahead(number: int, before: int) -> int:
    """How many steps a counter went on; less than 0: back. After its last number comes 1, of some makes 0."""
    if before == UINT32_MAX and number in (0, 1):
        return 1
    return number - before


def _doubt(time: iec.TimestampData) -> str:
    stamp = stamp_of(time)
    return "" if stamp is None else stamp.doubt


def _value(codec: PointCodec, spots: Spots, message: Message) -> tuple[PointValue, str]:
    """A point of a message that counts, and why it is not good."""
    time = message.time if spots.time is None else _down(message, spots.time)
    stamp = None if time is None else stamp_of(time)
    if stamp is None:
        return _bad(f"{spots.value.reference}: t is no time")
    raw = _raw(codec, _down(message, spots.value))
    if raw is None:
        return _bad(f"{spots.value.reference}: no {codec.raw.name}, as there should be")
    if spots.quality is not None:
        held = _down(message, spots.quality)
        told = None if held is None else quality_of(held)
        if told is None:
            return _bad(f"{spots.value.reference}: q is no quality")
        if told.quality is Quality.DEVICE_BAD:
            return PointValue(None, Quality.DEVICE_BAD, stamp.at), told.reason
        if told.quality is not Quality.GOOD:
            return PointValue(codec.from_raw(raw).value, told.quality, stamp.at), told.reason
    if isinstance(raw, float) and not math.isfinite(raw):
        return PointValue(None, Quality.NOT_FINITE, stamp.at), "not a finite number"
    return PointValue(*codec.from_raw(raw), stamp.at), ""


def _bad(why: str) -> tuple[PointValue, str]:
    return PointValue(None, Quality.DEVICE_BAD, None), why


def _raw(codec: PointCodec, held: iec.IECData | None) -> Raw | None:
    """The raw value; None where it is none of its type. Nobody has said what it would be, as MMS does."""
    if held is None:
        return None
    name = codec.raw.name
    if name.startswith("INT") and isinstance(held, iec.IntData if name.endswith("U") else iec.UIntData):
        return None
    raw = raw_of(held, name)
    if isinstance(raw, int) and not codec.raw.raw_min <= raw <= codec.raw.raw_max:
        return None
    return raw


def _down(message: Message, leaf: Leaf) -> iec.IECData | None:
    """What is at a place; None where something on the way is not built as the site file says."""
    held: iec.IECData | AccessFault = message.values[leaf.member]
    for index, count in leaf.way:
        if not isinstance(held, iec.StructureData) or len(held.members) != count:
            return None
        held = held.members[index]
    return held if isinstance(held, iec.DATA_TYPES) else None
