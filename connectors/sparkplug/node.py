"""One session of a Sparkplug edge node: what was born, what is dead, and the order of its messages. No I/O.

Each asset of the plant is a device of the node, each of its points a metric. What is no reading (commands,
outcomes, refusals, events) is a text metric of the node itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from connectors.historian.audit.file import Opening
from connectors.historian.schema import SPOOLED
from connectors.historian.spool import Record
from connectors.json_codec import json_text
from connectors.sparkplug.payloads import (
    STRING,
    Definition,
    Metric,
    Told,
    birth_of_node,
    death_of_node,
    defined,
    numbered,
    valued,
)
from connectors.sqlite_file import to_ms
from ems.points import POINTS, PointSpec, split_point_id
from ems.site import Site
from ems.telemetry import Quality

SEQ_COUNT = 256
RECORDS = tuple(
    Definition(name=f"Record/{kind}", alias=i + 1, datatype=STRING)
    for i, kind in enumerate((*(k for k in SPOOLED if k != "readings"), "gone"))
)
FIRST_ALIAS = 100  # of a point
Reading = tuple[float | None, str, int]  # value, quality, age of the sample [ms]


class Message(NamedTuple):
    """What is published, and where."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class _Device:
    points: dict[str, Definition] = field(default_factory=dict)  # by name of the point, asset and all
    alive: bool = False
    last: Mapping[str, Reading] = field(default_factory=dict)  # as it is now
    last_ms: int = 0
    pending: list[Metric] = field(default_factory=list)


class Node:
    """From one connection to its end.

    Parameters
    ----------
    group, node : its place among the topics.
    bd_seq : which connection this is, 0 to 255.
    bytes_max : data of one message, unless it is one metric alone.
    """

    def __init__(self, site: Site, group: str, node: str, bd_seq: int, *, bytes_max: int) -> None:
        self._site, self._group, self._node = site, group, node
        self._bd_seq, self._bytes_max = bd_seq, bytes_max
        self._seq = 0
        self._devices: dict[str, _Device] = {}
        self._bad: set[int] = set()  # aliases that were told bad last
        self._newest: tuple[Opening | None, int] = (
            None,
            0,
        )  # told as it is now, by number: clocks are set back
        self._aliases = FIRST_ALIAS

    def topic(self, kind: str, device: str = "") -> str:
        """Of a kind of message, of the node or of one of its devices."""
        return "/".join(("spBv1.0", self._group, kind, self._node, *([device] if device else ())))

    def death(self, now_ms: int) -> bytes:
        """The will."""
        return death_of_node(self._bd_seq, now_ms)

    def births(
        self, points: Sequence[str], newest: tuple[Opening, Record] | None, now_ms: int
    ) -> Iterator[Message]:
        """The whole node, with what is known of it now; devices of which nothing is heard are not born.

        Parameters
        ----------
        points : all that were ever recorded.
        newest : the newest snapshot, and of which opening of the historian's file it is.
        """
        for point in points:
            self._definition(point)
        self._seq, self._bad = 0, set()
        yield Message(self.topic("NBIRTH"), birth_of_node(self._bd_seq, RECORDS, now_ms))
        opening, snapshot = (None, None) if newest is None else newest
        values = _by_asset(snapshot)
        at_ms = now_ms if snapshot is None or snapshot.at_ms is None else snapshot.at_ms
        self._newest = opening, 0 if snapshot is None else snapshot.seq
        for asset, device in self._devices.items():
            device.last, device.last_ms = values.get(asset, {}), at_ms
            device.alive = _is_heard(device.last)
            if device.alive:
                yield self._birth(asset, now_ms)

    def data(
        self, records: Sequence[Record], *, late: bool, origin: Mapping[str, str | int], now_ms: int
    ) -> list[Message]:
        """Messages of some records, in their order.

        Parameters
        ----------
        late : they are of the past.
        origin : which historian the records are of, for those that go as text.
        """
        opening = str(origin["store"]), int(origin["boot"]), int(origin["opened_ms"])
        out: list[Message] = []
        texts: list[Metric] = []
        for record in records:
            historical = late or (self._newest[0] == opening and record.seq <= self._newest[1])
            if record.values is not None and record.at_ms is not None:
                out += self._snapshot(record, record.at_ms, historical=historical, now_ms=now_ms)
                self._newest = self._newest if historical else (opening, record.seq)
                continue
            definition = next(d for d in RECORDS if d.name == f"Record/{record.kind}")
            at_ms = to_ms(datetime.fromisoformat(record.head["at"])) if "at" in record.head else now_ms
            told = Told(
                at_ms=at_ms,
                value=json_text({**origin, **record.head}),
                historical=historical,
            )
            texts.append(valued(definition, told, was_bad=False))
        out += [m for asset in self._devices for m in self._flush(asset, now_ms)]
        for chunk in _chunks(texts, self._bytes_max):
            out.append(self._message("NDATA", "", chunk, now_ms))
        return out

    def _snapshot(self, record: Record, at_ms: int, *, historical: bool, now_ms: int) -> Iterator[Message]:
        for asset, values in _by_asset(record).items():
            new = [p for p in values if p not in self._device(asset).points]
            for point in new:
                self._definition(point)
            device, heard = self._device(asset), _is_heard(values)
            if not historical:
                device.last, device.last_ms = values, at_ms
            if not historical and device.alive and not heard:
                yield from self._flush(asset, now_ms)
                device.alive = False
                yield self._message("DDEATH", asset, (), now_ms)
            elif not historical and heard and (new or not device.alive):
                yield from self._flush(asset, now_ms)
                device.alive = True
                yield self._birth(asset, now_ms)
            elif new and device.alive:  # that were recorded once
                yield from self._flush(asset, now_ms)
                yield self._birth(asset, now_ms)
            if device.alive or heard:  # of a dead device its death has told it
                self._append(device, values, at_ms, historical=historical)

    def _append(
        self, device: _Device, values: Mapping[str, Reading], at_ms: int, *, historical: bool
    ) -> None:
        for point, (value, word, _) in values.items():
            definition, quality = device.points[point], Quality(word)
            told = Told(at_ms=at_ms, value=value, quality=quality, historical=historical)
            was_bad = not device.alive or definition.alias in self._bad
            device.pending.append(valued(definition, told, was_bad=was_bad))
            if quality is Quality.GOOD:
                self._bad.discard(definition.alias)
            else:
                self._bad.add(definition.alias)

    def _flush(self, asset: str, now_ms: int) -> Iterator[Message]:
        """What waits of a device; the past of one that is dead between a birth and a death of its own."""
        device = self._device(asset)
        pending, device.pending = device.pending, []
        if not pending:
            return
        if not device.alive:
            yield self._birth(asset, now_ms)
        for chunk in _chunks(pending, self._bytes_max):
            yield self._message("DDATA", asset, chunk, now_ms)
        if not device.alive:
            yield self._message("DDEATH", asset, (), now_ms)

    def _birth(self, asset: str, now_ms: int) -> Message:
        metrics, device = [], self._device(asset)
        for point, definition in device.points.items():
            value, word, _ = device.last.get(point, (None, Quality.STALE.value, 0))
            quality = Quality(word)
            when_ms = device.last_ms if point in device.last else now_ms
            metrics.append(defined(definition, Told(at_ms=when_ms, value=value, quality=quality)))
            if quality is Quality.GOOD:
                self._bad.discard(definition.alias)
            else:
                self._bad.add(definition.alias)
        return self._message("DBIRTH", asset, metrics, now_ms)

    def _message(self, kind: str, asset: str, metrics: Sequence[Metric], now_ms: int) -> Message:
        self._seq = (self._seq + 1) % SEQ_COUNT
        return Message(self.topic(kind, asset), numbered(metrics, self._seq, now_ms))

    def _device(self, asset: str) -> _Device:
        return self._devices.setdefault(asset, _Device())

    def _definition(self, point: str) -> Definition:
        asset, name = split_point_id(point)
        known = self._device(asset).points
        if point not in known:
            spec = self._spec(asset, name)
            unit, sign = ("", "") if spec is None else (spec.unit, spec.meaning)
            known[point] = Definition(name=name, alias=self._aliases, unit=unit, sign=sign)
            self._aliases += 1
        return known[point]

    def _spec(self, asset: str, name: str) -> PointSpec | None:
        kind = self._site.asset_kinds().get(asset)
        return next((s for s in POINTS[kind] if s.name == name), None) if kind is not None else None


def _by_asset(record: Record | None) -> dict[str, dict[str, Reading]]:
    out: dict[str, dict[str, Reading]] = {}
    for point, reading in ((record.values if record is not None else None) or {}).items():
        out.setdefault(split_point_id(point)[0], {})[point] = reading
    return out


def _is_heard(values: Mapping[str, Reading]) -> bool:
    """Whether anything is heard of a device."""
    return any(word != Quality.COMM_FAILED for _, word, _ in values.values())


def _chunks(metrics: Sequence[Metric], bytes_max: int) -> Iterator[list[Metric]]:
    chunk: list[Metric] = []
    size = 0
    for metric in metrics:
        length = metric.ByteSize() + 4
        if chunk and size + length > bytes_max:
            yield chunk
            chunk, size = [], 0
        chunk.append(metric)
        size += length
    if chunk:
        yield chunk
