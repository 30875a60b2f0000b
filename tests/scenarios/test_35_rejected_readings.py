"""35: out of range, too fast, stale, bad, and stamps that cannot be: rejected, and seen within a cycle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatch.layout import layout_of
from dispatch.observing.process_image import ProcessImage
from ems.site import PointMap, Site
from ems.telemetry import Quality, Reading
from sim.direct_io import mapped_points
from sim.rig import Rig

pytestmark = pytest.mark.scenario(35)
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
METER, BESS = "grid1.p_kw", "bess1.p_set_kw"
POWERS = ("bess1.p_kw", "gen1.p_kw", "pv1.p_kw", METER, "critical.p_kw", "essential.p_kw")
RATE = 0.1  # of the span of its range, in a second
LIE_S = 3.0  # shorter than any maximum age: nothing here is found by age alone but what is stale

Lie = Callable[[Reading, Reading | None], Reading]  # (true reading, the one before the lie) -> what is told


def stamped(site: Site) -> Site:
    """Every server stamps its samples, and powers say how fast they move."""

    def mapped(m: PointMap) -> PointMap:
        fast = RATE * (m.high - m.low) if m.point in POWERS else None
        return replace(m, rate_per_s_max=fast)

    connections = (
        replace(c, stamps_sampled=True, points=tuple(map(mapped, c.points))) for c in site.connections
    )
    return replace(site, connections=tuple(connections))


def lying(rig: Rig, lie: Lie, of: Callable[[str], bool], from_s: float, until_s: float) -> None:
    """A driver that lets everything through, in [from, until)."""
    inner, before = rig.io.read_all, dict[str, Reading]()

    async def read_all() -> Sequence[Reading]:
        readings = await inner()
        if not from_s <= rig.t_s < until_s:
            if rig.t_s < from_s:
                before.update({r.point: r for r in readings})
            return readings
        return [lie(r, before.get(r.point)) if of(r.point) else r for r in readings]

    rig.io.read_all = read_all  # type: ignore[method-assign]


def ahead(r: Reading, before: Reading | None) -> Reading:
    return replace(r, source_time=r.source_time + timedelta(seconds=60))


def overtaken(r: Reading, before: Reading | None) -> Reading:
    """Each sample older than the one before it: a queue that is emptied from its end."""
    return replace(r, source_time=r.source_time - 2.0 * (r.source_time - at(before)))


def doubled(r: Reading, before: Reading | None) -> Reading:
    """The stamp of a sample that was served already, over another value."""
    value = 0.0 if r.value is None else r.value
    return replace(r, source_time=at(before), value=0.5 if value == 1.0 else value + 0.0123)


def at(before: Reading | None) -> datetime:
    assert before is not None
    return before.source_time


def stale(r: Reading, before: Reading | None) -> Reading:
    return replace(r, arrived_s=r.arrived_s - 3600.0)


STAMPS: dict[str, tuple[Lie, Quality]] = {
    "future": (ahead, Quality.DEVICE_BAD),
    "older": (overtaken, Quality.STALE),
    "duplicate": (doubled, Quality.DEVICE_BAD),
    "bad": (lambda r, _: replace(r, quality=Quality.DEVICE_BAD), Quality.DEVICE_BAD),
    "failed": (lambda r, _: replace(r, value=None, quality=Quality.COMM_FAILED), Quality.COMM_FAILED),
    "text": (lambda r, _: replace(r, value="12"), Quality.DEVICE_BAD),  # type: ignore[arg-type]
    "beyond": (lambda r, _: replace(r, value=1e30), Quality.OUT_OF_RANGE),
}


@pytest.mark.parametrize("kind", STAMPS)
def test_rejected_reading_is_seen_within_a_cycle_and_moves_no_setpoint(demo: Site, kind: str):
    """On one device after the other. Oracles hold all the while (I1 limits, I3 finite, I6 nothing bad)."""
    lie, quality = STAMPS[kind]
    site = stamped(demo)
    rig = Rig(site, load_kw=LOAD, pv_kw=80.0)
    points = frozenset(mapped_points(site))
    begin_s = 5.0
    spans: list[tuple[float, set[str]]] = []
    for connection in site.connections:
        mine = {m.point for m in connection.points if not m.writable} & points
        lying(rig, lie, mine.__contains__, begin_s, begin_s + LIE_S)
        spans.append((begin_s, mine))
        begin_s += LIE_S + 3.0
    rig.run(begin_s)
    for from_s, mine in spans:
        first = next(rig.rows(from_s))
        other = {
            p: first.snapshot.readings[p] for p in mine if first.snapshot.readings[p].quality is not quality
        }
        assert other == {}, (kind, from_s)
        for row in rig.rows(from_s, from_s + LIE_S):
            assert not [p for p in mine if row.snapshot.readings[p].is_good], (kind, row.t_s)
        after = next(rig.rows(from_s + LIE_S + 2.0))  # a stamp that jumped costs one reading more
        assert [p for p in mine if not after.snapshot.readings[p].is_good] == []
    bounds = site.authority.setpoints
    sent = [c for row in rig.rows() for c in row.commands if c.point in bounds]
    assert sent
    assert all(
        math.isfinite(c.value) and bounds[c.point].low <= c.value <= bounds[c.point].high for c in sent
    )


def test_value_that_arrived_too_long_ago_is_no_newer_one_and_grows_stale(demo: Site):
    site = stamped(demo)
    ages = {m.point: m.age_s_max for c in site.connections for m in c.points}
    lasting = max(ages[p] for p in POWERS) + 3.0
    rig = Rig(site, load_kw=LOAD, pv_kw=80.0)
    lying(rig, stale, POWERS.__contains__, 5.0, 5.0 + lasting)
    rig.run(5.0 + lasting + 2.0)
    for p in POWERS:
        late = next(r for r in rig.rows(5.0) if not r.snapshot.readings[p].is_good)
        assert late.snapshot.readings[p].quality is Quality.STALE
        assert ages[p] - 1e-6 <= late.t_s - 4.0 <= ages[p] + 1.0 + 1e-6
        assert rig.last.snapshot.readings[p].is_good


def test_sample_served_again_is_as_old_as_it_was(demo: Site):
    """A server that answers from its cache: the value stands still, and so does its stamp."""
    site = stamped(demo)
    age_s = next(m.age_s_max for c in site.connections for m in c.points if m.point == "bess1.soc")
    rig = Rig(site, load_kw=LOAD, pv_kw=80.0)
    lying(
        rig,
        lambda r, b: replace(r, source_time=at(b), value=b.value if b else None),
        "bess1.soc".__eq__,
        5.0,
        1e9,
    )
    rig.run(5.0 + age_s + 2.0)
    late = rig.first(5.0, lambda r: not r.snapshot.readings["bess1.soc"].is_good)
    assert late.snapshot.readings["bess1.soc"].quality is Quality.STALE
    assert late.t_s - 4.0 <= age_s + 1.0 + 1e-6


def more_kw(site: Site) -> float:
    """How much more the battery is asked for because of one wrong reading of the meter."""
    rig = Rig(site, load_kw=LOAD, pv_kw=0.0)
    lying(rig, lambda r, _: replace(r, value=500.0), METER.__eq__, 20.0, 21.0)
    rig.run(23.0)
    before = next(rig.rows(19.0)).held[BESS]
    return max(row.held[BESS] - before for row in rig.rows(20.0))


def test_measurement_that_jumps_further_than_it_can_asks_nothing_of_the_battery(demo: Site):
    """Import of 500 kW that nobody draws: the battery was to carry it. Refused, it is asked for no more."""

    def with_rate(kw: float | None) -> Site:
        def mapped(m: PointMap) -> PointMap:
            return replace(m, rate_per_s_max=kw) if m.point == METER else m

        return replace(
            demo,
            connections=tuple(replace(c, points=tuple(map(mapped, c.points))) for c in demo.connections),
        )

    assert more_kw(with_rate(None)) > 100.0
    assert more_kw(with_rate(300.0)) < 5.0


def test_true_step_is_believed_as_soon_as_there_was_time_for_it(demo: Site):
    site = stamped(demo)
    rig = Rig(site, load_kw=LOAD, pv_kw=0.0).run(5.0)
    m = next(m for c in site.connections for m in c.points if m.point == METER)
    assert m.rate_per_s_max is not None
    step_kw = 2.5 * m.rate_per_s_max
    before_kw = rig.last.snapshot.readings[METER].value
    assert before_kw is not None
    rig.tell(METER, before_kw + step_kw)
    rig.run(9.0, judge=False)
    good = [r.snapshot.readings[METER].is_good for r in rig.rows(5.0)]
    assert good == [False, False, True, True]  # two seconds and a half, and the time of a reading
    assert next(rig.rows(5.0)).snapshot.readings[METER].quality is Quality.OUT_OF_RANGE


def test_two_samples_served_by_turns_grow_old_like_one(demo: Site):
    """A cache before the device serves its last two samples again and again: neither is a new one."""
    site = stamped(demo)
    image, layout = ProcessImage.of(layout_of(site)), layout_of(site)
    age_s, start = layout.age_s_max[METER], datetime(2025, 1, 1, tzinfo=UTC)

    def served(stamp_s: float, now_s: float, kw: float) -> Quality:
        reading = Reading(
            point=METER, value=kw, quality=Quality.GOOD, arrived_s=now_s,
            source_time=start + timedelta(seconds=stamp_s),
        )  # fmt: skip
        image.update([reading])
        return image.latch(start + timedelta(seconds=now_s), now_s).readings[METER].quality

    assert served(0.0, 0.0, 50.0) is Quality.GOOD
    assert served(1.0, 1.0, 51.0) is Quality.GOOD
    last_s = 1.0 + age_s + 5.0
    for now_s in range(2, int(last_s)):
        assert served(0.0, float(now_s), 50.0) is Quality.STALE
        quality = served(1.0, now_s + 0.5, 51.0)
        assert (quality is Quality.GOOD) is (now_s + 0.5 - 1.0 <= age_s)
    assert served(last_s, last_s, 52.0) is Quality.GOOD
    # a device whose clock is set back is believed from its second sample on
    assert [served(s, last_s + 1.0 + s, 52.0 + s) for s in (2.0, 3.0, 4.0)] == [
        Quality.STALE,
        Quality.GOOD,
        Quality.GOOD,
    ]
