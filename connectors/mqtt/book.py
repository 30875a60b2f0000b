"""The newest that each point was told to be, and which messages do not count. No I/O.

A message that tells when its sample was taken is judged by that; one that does not is as old as its arrival,
and then what the broker retained, or sends for a second time, is of unknown age and ignored.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from connectors.json_document import Malformed, is_good, parsed, raw_value, stamp
from connectors.link import PointValue
from connectors.point_map import PointCodec
from ems.telemetry import Quality

AHEAD = timedelta(seconds=5)  # clocks differ; the edge refuses what is further ahead
NOT_HEARD = PointValue(None, Quality.COMM_FAILED, None)


class Message(NamedTuple):
    """A message as it came."""

    topic: str
    payload: bytes
    retained: bool = False
    repeated: bool = False  # the broker says that it may have sent it before


@dataclass(slots=True)
class Counts:
    """What became of the messages."""

    messages: int = 0
    retained: int = 0  # of unknown age: ignored
    duplicates: int = 0
    reordered: int = 0
    oversized: int = 0
    malformed: int = 0
    unasked: int = 0  # under a topic that nobody asked for


class _Known(NamedTuple):
    value: PointValue
    stamp: datetime | None
    arrived_s: float


class Book:
    """What is known of the points of one connection. Told by one thread, read by another.

    Parameters
    ----------
    codecs : its points.
    payload_bytes_max : a longer message is no value.
    """

    def __init__(self, codecs: Sequence[PointCodec], payload_bytes_max: int) -> None:
        self._of_topic: dict[str, list[PointCodec]] = {}
        for codec in codecs:
            self._of_topic.setdefault(codec.point.address, []).append(codec)
        self._points = {c.point.point: c for c in codecs}
        self._known: dict[str, _Known] = {}
        self._bytes_max = payload_bytes_max
        self.counts = Counts()

    @property
    def topics(self) -> list[str]:
        """Under which the points are told."""
        return list(self._of_topic)

    def take(self, message: Message, now: datetime, at_s: float) -> None:
        """A message has come.

        Parameters
        ----------
        now : record time, for values that tell no time of their own.
        at_s : the same moment on the wall clock that does not jump [s].
        """
        self.counts.messages += 1
        codecs = self._of_topic.get(message.topic)
        if codecs is None:
            self.counts.unasked += 1
            return
        if len(message.payload) > self._bytes_max:
            self.counts.oversized += 1
            self._distrust(codecs, now, at_s)
            return
        try:
            document = parsed(message.payload)
        except Malformed:
            self.counts.malformed += 1
            self._distrust(codecs, now, at_s)
            return
        for codec in codecs:
            try:
                self._take(codec, document, message, now, at_s)
            except Malformed:
                self.counts.malformed += 1
                self._distrust([codec], now, at_s)

    def _take(self, codec: PointCodec, document: Any, message: Message, now: datetime, at_s: float) -> None:
        told = stamp(document, codec)
        if told is None:
            if message.retained or message.repeated:
                self.counts.retained += message.retained
                self.counts.duplicates += not message.retained
                return
        elif self._is_overtaken(codec, told, at_s):
            return
        raw = raw_value(document, codec)
        source_time = now if told is None else told
        if raw is None or not is_good(document, codec):
            value = PointValue(None, Quality.DEVICE_BAD, source_time)
        else:
            number, quality = codec.from_raw(raw)
            value = PointValue(number, quality, source_time)
        sure = told is not None and told <= now + AHEAD  # samples of the future are no measure for the next
        self._known[codec.point.point] = _Known(value, told if sure else None, at_s)

    def _is_overtaken(self, codec: PointCodec, told: datetime, at_s: float) -> bool:
        """Whether this sample or a newer one is known.

        One that came so long ago that it is worth nothing now does not count: a device whose clock was set
        back is believed again after that.
        """
        known = self._known.get(codec.point.point)
        if known is None or known.stamp is None or at_s - known.arrived_s > codec.point.age_s_max:
            return False
        self.counts.duplicates += told == known.stamp
        self.counts.reordered += told < known.stamp
        return told <= known.stamp

    def _distrust(self, codecs: Sequence[PointCodec], now: datetime, at_s: float) -> None:
        """The last that was said cannot be read: nothing is known until something is said that can."""
        for codec in codecs:
            before = self._known.get(codec.point.point)
            known_stamp = before.stamp if before is not None else None
            bad = PointValue(None, Quality.DEVICE_BAD, now)
            self._known[codec.point.point] = _Known(bad, known_stamp, at_s)

    def values(self, now: datetime, at_s: float) -> dict[str, PointValue]:
        """Every point as it is known now; a sample older than its maximum age by its own stamp is stale."""
        return {point: self._value(codec, now, at_s) for point, codec in self._points.items()}

    def _value(self, codec: PointCodec, now: datetime, at_s: float) -> PointValue:
        known = self._known.get(codec.point.point)
        if known is None:
            return NOT_HEARD
        value = known.value._replace(age_s=max(0.0, at_s - known.arrived_s))
        if known.stamp is None or value.quality is not Quality.GOOD:
            return value
        old = (now - known.stamp).total_seconds() > codec.point.age_s_max
        return value._replace(quality=Quality.STALE) if old else value

    def counted(self) -> dict[str, int]:
        """The counts by name, for the status row."""
        return asdict(self.counts)
