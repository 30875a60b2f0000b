"""What one sender on a CAN bus says now, and what of it does not count. No I/O."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from connectors.j1939.messages import ANNOUNCE, CLAIM, EVERYBODY, PART, Assembly, fault_codes, identifier_of
from connectors.link import PointValue
from connectors.point_map import PointCodec
from ems.j1939 import BITS, DM1, Can, Place, parse_place
from ems.telemetry import Quality

NOT_HEARD = PointValue(None, Quality.COMM_FAILED, None)


@dataclass(slots=True)
class Counts:
    """What became of the messages."""

    messages: int = 0  # of the wanted groups
    others: int = 0  # of other senders, to somebody else, or of groups that nobody asked for
    torn: int = 0  # long messages that were not told to their end
    claims: int = 0  # of the address we listen to
    not_available: int = 0  # values of the last poll that the sender says it has none for
    errors: int = 0  # or that there is an error


class Engine:
    """One sender. Told by one thread, read by another.

    Parameters
    ----------
    can : who is listened to.
    codecs : its points; each address is a place in a parameter group.
    """

    def __init__(self, can: Can, codecs: Sequence[PointCodec]) -> None:
        self._can = can
        self._places = [(codec, parse_place(codec.point.address)) for codec in codecs]
        self._wanted = {place.pgn for _, place in self._places} | {DM1}
        self._known: dict[int, tuple[bytes, float]] = {}  # PGN -> its last message, and when it came
        self._assembly = Assembly()
        self._claimed: int | None = None
        self.counts = Counts()

    def take(self, frame: tuple[int, bytes], at_s: float) -> None:
        """A frame has come: 29-bit identifier and data; `at_s` on the wall clock that does not jump [s]."""
        number, data = frame
        told = identifier_of(number)
        if told is None or told.source != self._can.source or told.destination != EVERYBODY:
            self.counts.others += 1
        elif told.pgn == CLAIM:
            self._claim(data)
        elif told.pgn == ANNOUNCE:
            self._assembly.announced(data, at_s)
        elif told.pgn != PART:
            self._take(told.pgn, data, at_s)
        elif (whole := self._assembly.part(data, at_s)) is not None:
            self._take(*whole, at_s)

    def _take(self, pgn: int, data: bytes, at_s: float) -> None:
        if pgn not in self._wanted:
            self.counts.others += 1
            return
        self.counts.messages += 1
        self._known[pgn] = (data, at_s)

    def _claim(self, data: bytes) -> None:
        """Somebody takes this address: what was said before may be another's."""
        self.counts.claims += 1
        name = int.from_bytes(data, "little") if len(data) == 8 else None
        if name != self._claimed:
            self._known = {}
            self._claimed = name

    @property
    def stranger(self) -> str:
        """Why the sender is not the one of the site file; "": nothing says so."""
        wanted = self._can.name
        if wanted is None or self._claimed in (None, wanted):
            return ""
        return f"source {self._can.source} is NAME {self._claimed:#018x}, {wanted:#018x} in the site file"

    @property
    def faults(self) -> tuple[str, ...]:
        """Active fault codes, as they were told last."""
        known = self._known.get(DM1)
        return () if known is None else fault_codes(known[0])

    def lives(self, at_s: float) -> bool:
        """Whether any message still counts."""
        known = dict(self._known)
        return any(at_s - then_s <= self._can.lives_s(pgn) for pgn, (_, then_s) in known.items())

    def forget_faults(self, at_s: float) -> None:
        """Fault codes that are not repeated any more are not active any more (SAE J1939-73)."""
        known = self._known.get(DM1)
        if known is not None and at_s - known[1] > self._can.lives_s(DM1) and self._lives_beside(at_s):
            self._known.pop(DM1, None)

    def _lives_beside(self, at_s: float) -> bool:
        known = dict(self._known)
        return any(at_s - s <= self._can.lives_s(p) for p, (_, s) in known.items() if p != DM1)

    def values(self, at_s: float) -> dict[str, tuple[PointValue, str]]:
        """Each point now, and why it has no good value."""
        self.counts.not_available = self.counts.errors = 0
        stranger = self.stranger
        out: dict[str, tuple[PointValue, str]] = {}
        for codec, place in self._places:
            if stranger:
                out[codec.point.point] = PointValue(None, Quality.DEVICE_BAD, None), stranger
            else:
                out[codec.point.point] = self._value(codec, place, at_s)
        return out

    def _value(self, codec: PointCodec, place: Place, at_s: float) -> tuple[PointValue, str]:
        known = self._known.get(place.pgn)
        if known is None:
            return NOT_HEARD, f"PGN {place.pgn} was not heard"
        data, then_s = known
        age_s, lives_s = max(0.0, at_s - then_s), self._can.lives_s(place.pgn)
        if age_s > lives_s:
            return NOT_HEARD, f"PGN {place.pgn} was not heard for {age_s:.1f} s, more than {lives_s:g} s"
        raw = raw_at(data, place, codec.raw.name)
        if raw is None:
            return PointValue(None, Quality.DEVICE_BAD, None), f"PGN {place.pgn} has {len(data)} bytes"
        if raw > codec.raw.raw_max:
            return PointValue(None, Quality.DEVICE_BAD, None), self._none(raw, codec.raw.name)
        return PointValue(*codec.from_raw(raw), None, age_s), ""

    def _none(self, raw: int, data_type: str) -> str:
        """What a count says that is no value."""
        bits = BITS[data_type]
        top = raw >> max(0, bits - 8) if bits >= 8 else raw
        highest = 0xFF if bits >= 8 else (1 << bits) - 1
        if top == highest:
            self.counts.not_available += 1
            return "the sender says: not available"
        if top == highest - 1:
            self.counts.errors += 1
            return "the sender says: error"
        return f"count {raw:#x} is reserved, no value"

    def counted(self) -> dict[str, int]:
        """The counts by name."""
        self.counts.torn = self._assembly.torn
        return asdict(self.counts)


def raw_at(data: bytes, place: Place, data_type: str) -> int | None:
    """The count at a place; None where the message is too short."""
    bits, begin = BITS[data_type], place.byte - 1
    if place.bit is not None:
        return data[begin] >> (place.bit - 1) & ((1 << bits) - 1) if begin < len(data) else None
    end = begin + bits // 8
    return int.from_bytes(data[begin:end], "little") if end <= len(data) else None
