"""30: what MQTT may bring: retained and stale, twice, overtaken, a megabyte. None of it becomes a setpoint.

The plant is simulated; meter and battery are told by messages, through what production makes of them. Against
a broker of another make: tests/contract/test_mqtt_peer.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.mqtt.book import Book, Message
from connectors.point_map import PointCodec
from connectors.raw_types import MQTT_TYPES
from connectors.readings import reading
from ems.json_place import JsonPlace
from ems.site import PointMap, Site
from ems.telemetry import Quality, Reading
from sim.rig import Rig

pytestmark = pytest.mark.scenario(30)
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
TOLD = ("grid1.p_kw", "bess1.soc", "bess1.p_kw")
BYTES_MAX = 65536
FROM_S, UNTIL_S, END_S, AGE_S = 10.0, 22.0, 26.0, 5.0
LIE = {"grid1.p_kw": 333.0, "bess1.soc": 0.031, "bess1.p_kw": -77.0}  # plausible, and never true here


class Told:
    """Some points of a rig, told by messages: each second the true ones, and in a window what is wrong.

    Parameters
    ----------
    stamped : messages tell when their values were sampled.
    wrong : what comes within the window, after the true message, or instead of it.
    """

    def __init__(self, rig: Rig, wrong: "Wrong", *, stamped: bool, instead: bool) -> None:
        self.rig, self.wrong, self.stamped, self.instead = rig, wrong, stamped, instead
        payload = JsonPlace(value="/v", time="/t" if stamped else None)
        rows = {m.point: m for c in rig.site.connections for m in c.points}
        codecs = [PointCodec(_row(rows[p], payload), MQTT_TYPES["number"]) for p in TOLD]
        self.book = Book(codecs, BYTES_MAX)
        self.before: dict[str, bytes] = {}
        self._inner = rig.io.read_all
        rig.io.read_all = self._read_all  # type: ignore[method-assign]

    async def _read_all(self) -> Sequence[Reading]:
        now, now_s = self.rig.clock.now(), self.rig.clock.monotonic_s()
        others = []
        is_wrong = FROM_S <= self.rig.t_s < UNTIL_S
        for r in await self._inner():
            if r.point not in TOLD:
                others.append(r)
                continue
            true = self.payload(r.point, r.value, 0.0)
            if not (is_wrong and self.instead):
                self.book.take(Message(r.point, true), now, now_s)
                self.before[r.point] = true
            for message in self.wrong(self, r.point) if is_wrong else ():
                self.book.take(message, now, now_s)
        told = self.book.values(now, now_s)
        mine = [
            reading(
                p,
                v.value,
                v.quality,
                now if v.source_time is None else v.source_time,
                now_s - (0.0 if v.age_s is None else v.age_s),
            )
            for p, v in told.items()
        ]
        return [*others, *mine]

    def payload(self, point: str, value: float | None, age_s: float) -> bytes:
        at = self.rig.clock.now() - timedelta(seconds=age_s)
        return json.dumps({"v": value, **({"t": at.isoformat()} if self.stamped else {})}).encode()


Wrong = Callable[[Told, str], Iterator[Message]]


def _row(row: PointMap, payload: JsonPlace) -> PointMap:
    return replace(row, address=row.point, table="topic", data_type="number", scale=1.0, offset=0.0, sign=1,
                   payload=payload)  # fmt: skip


def retained(told: Told, point: str) -> Iterator[Message]:
    yield Message(point, told.payload(point, LIE[point], 3600.0), retained=True)


def twice(told: Told, point: str) -> Iterator[Message]:
    yield Message(point, told.before[point], repeated=True)
    yield Message(point, told.before[point])


def twice_as_repeated(told: Told, point: str) -> Iterator[Message]:
    yield Message(point, told.payload(point, LIE[point], 0.0), repeated=True)


def overtaken(told: Told, point: str) -> Iterator[Message]:
    for age_s in (0.5, 30.0, 0.25):
        yield Message(point, told.payload(point, LIE[point], age_s))


def megabyte(told: Told, point: str) -> Iterator[Message]:
    yield Message(point, told.payload(point, LIE[point], 0.0)[:-1] + b" " * 1_000_000 + b"}")


def garbage(told: Told, point: str) -> Iterator[Message]:
    for raw in (b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"v": NaN}', b'{"v": "333"}', b'{"v": 1, "v": 333}'):
        yield Message(point, raw)


def elsewhere(told: Told, point: str) -> Iterator[Message]:
    yield Message(f"{point}/old", told.payload(point, LIE[point], 0.0))


def future(told: Told, point: str) -> Iterator[Message]:
    yield Message(point, told.payload(point, LIE[point], -3600.0))


def run(site: Site, wrong: Wrong, *, stamped: bool, instead: bool) -> tuple[Rig, Told]:
    connections = tuple(
        replace(
            c,
            stamps_sampled=stamped and any(m.point in TOLD for m in c.points),
            points=tuple(replace(m, age_s_max=AGE_S) if m.point in TOLD else m for m in c.points),
        )
        for c in site.connections
    )
    rig = Rig(replace(site, connections=connections), load_kw=LOAD, pv_kw=80.0)
    told = Told(rig, wrong, stamped=stamped, instead=instead)
    rig.run(END_S)
    return rig, told


def sent(rig: Rig) -> list[list[tuple[str, float]]]:
    return [[(c.point, c.value) for c in row.commands] for row in rig.rows()]


@pytest.mark.parametrize(
    ("wrong", "stamped", "counted"),
    [
        (retained, True, "reordered"),
        (retained, False, "retained"),
        (twice, True, "duplicates"),
        (twice_as_repeated, False, "duplicates"),
        (overtaken, True, "reordered"),
        (elsewhere, True, "unasked"),
    ],
)
def test_what_comes_beside_the_truth_changes_no_command(
    demo: Site, wrong: Wrong, stamped: bool, counted: str
):
    rig, told = run(demo, wrong, stamped=stamped, instead=False)
    plain, _ = run(demo, lambda told, point: iter(()), stamped=stamped, instead=False)
    assert sent(rig) == sent(plain)
    assert any(sent(rig))
    assert told.book.counted()[counted] >= len(TOLD) * (UNTIL_S - FROM_S)
    assert all(row.snapshot.readings[p].is_good for row in rig.rows(1.0) for p in TOLD)


@pytest.mark.parametrize(
    ("wrong", "stamped", "quality"),
    [
        (retained, True, Quality.STALE),
        (retained, False, Quality.STALE),
        (twice, True, Quality.STALE),
        (twice_as_repeated, False, Quality.STALE),
        (megabyte, True, Quality.DEVICE_BAD),
        (megabyte, False, Quality.DEVICE_BAD),
        (garbage, True, Quality.DEVICE_BAD),
        (garbage, False, Quality.DEVICE_BAD),
        (future, True, Quality.DEVICE_BAD),
    ],
)
def test_what_comes_instead_of_the_truth_is_no_value(
    demo: Site, wrong: Wrong, stamped: bool, quality: Quality
):
    """At the end of its maximum age nothing is known, what is wrong is never good, and every oracle holds."""
    rig, told = run(demo, wrong, stamped=stamped, instead=True)
    for row in rig.rows(FROM_S, UNTIL_S):
        for point in TOLD:
            told_now = row.snapshot.readings[point]
            assert not (told_now.is_good and told_now.value == LIE[point]), (row.t_s, point)
            if row.t_s >= FROM_S + AGE_S + 1.0:
                assert told_now.quality is quality, (row.t_s, point)
    assert [p for p in TOLD if not rig.last.snapshot.readings[p].is_good] == [], "the truth is believed again"
    assert rig.violations == [], rig.report()
    bounds = rig.site.authority.setpoints
    commands = [c for row in rig.rows() for c in row.commands if c.point in bounds]
    assert commands
    assert all(bounds[c.point].low <= c.value <= bounds[c.point].high for c in commands)
    if wrong is megabyte:
        assert told.book.counted()["oversized"] == len(TOLD) * (UNTIL_S - FROM_S)
