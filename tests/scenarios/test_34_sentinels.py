"""34: NaN, infinities, sentinels and numbers that are none, on every point, one after the other."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from dispatch.layout import layout_of
from dispatch.observing.process_image import ProcessImage
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.direct_io import mapped_points
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.builders import T0

pytestmark = pytest.mark.scenario(34)
VALUES = (math.nan, math.inf, -math.inf, 1e38, -1e38, 32768.0, -32768.0, 65535.0, 4294967295.0)
COUNTERS = ("run_h", "limits_heartbeat")  # any number is a count
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
EACH_S, MINUTE_S = 1.0, 65.0
DOUBTED = "device.reading.doubted"


def told(rig: Rig, point: str, value: float) -> None:
    """A driver that lets everything through: the reading arrives as good."""
    inner = rig.io.read_all

    async def read_all() -> Sequence[Reading]:
        stamp = {"source_time": rig.clock.now(), "arrived_s": rig.clock.monotonic_s()}
        lie = Reading(point=point, value=value, quality=Quality.GOOD, **stamp)  # type: ignore[arg-type]
        return [lie if r.point == point else r for r in await type(rig.io).read_all(rig.io)]

    assert inner is not None
    rig.io.read_all = read_all  # type: ignore[method-assign]


@pytest.mark.parametrize(("value", "islanded_by"), [*((v, None) for v in VALUES), (65535.0, "bess1")])
def test_sentinel_on_every_point_reaches_no_setpoint(small: Site, value: float, islanded_by: str | None):
    """Every oracle holds all the while (I1 limits, I3 finite); what was refused is bad within the cycle.

    What stands in for a reading that a decision needs is declared in the same cycle, in status and record.
    """
    points = mapped_points(small)
    options = RigOptions(islanded_by=islanded_by)
    rig = Rig(small, load_kw=LOAD, pv_kw=80.0, options=options).run(5.0)
    for point in points:
        start_s = rig.t_s
        told(rig, point, value)
        rig.run(start_s + EACH_S)
        rows = list(rig.rows(start_s))
        assert rows, point
        if not (point.endswith(COUNTERS) and math.isfinite(value)):
            assert not any(r.snapshot.readings[point].is_good for r in rows), point
        if needs_a_substitute(small, point):
            assert all(point in r.decisions.substituted for r in rows), point
            assert point in newly_declared(rows), point
    nothing_reached_a_setpoint(small, rig)


def needs_a_substitute(site: Site, point: str) -> bool:
    """Powers, charge and breakers: a decision is made with or without them."""
    asset, _, name = point.partition(".")
    units = [x.id for x in site.bess] + [x.id for x in site.gensets] + [x.id for x in site.pv]
    metered = {site.grid.id, *units, *(x.id for x in site.feeders)}
    return (name == "p_kw" and asset in metered) or name in ("soc", "closed")


def newly_declared(rows: Sequence[Row]) -> set[str]:
    """Points of the events that say so."""
    found = [e for r in rows for e in r.decisions.events if e.kind == "readings.substituted"]
    return {p for e in found for p in cast(Mapping[str, str], e.fields["points"])}


def nothing_reached_a_setpoint(site: Site, rig: Rig) -> None:
    authority = site.authority.setpoints
    for row in rig.rows():
        for c in row.commands:
            assert math.isfinite(c.value)
            if c.point in authority:  # else a heartbeat
                assert authority[c.point].low <= c.value <= authority[c.point].high


@pytest.mark.parametrize("value", [math.inf, pytest.param(1e38, marks=pytest.mark.soak)])
def test_sentinel_that_stays_for_a_minute_on_every_point_of_the_demonstration_site(demo: Site, value: float):
    """Read-backs and counters too: longer than any hold, so that what was known before no longer helps."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=80.0).run(5.0)
    for point in mapped_points(demo):
        start_s = rig.t_s
        told(rig, point, value)
        rig.run(start_s + MINUTE_S)
        rows = list(rig.rows(start_s))
        assert not any(r.snapshot.readings[point].is_good for r in rows), point
        declared = needs_a_substitute(demo, point)
        assert {point in r.decisions.substituted for r in rows} == {declared}, point
        assert (point in newly_declared(rows)) is declared, point
        if point in demo.authority.setpoints:
            continue  # a read-back: what was written is not taken for confirmed
        told_of = [a.text for a in rows[-1].decisions.alarm_book.standing() if a.code == DOUBTED]
        assert any(point in text for text in told_of), (point, told_of)
    nothing_reached_a_setpoint(demo, rig)


def test_substitute_is_told_once_and_as_over_when_the_reading_has_been_good_for_a_minute(small: Site):
    rig = Rig(small, load_kw=LOAD, pv_kw=80.0).run(5.0)
    for t_s in (10.0, 20.0, 30.0):  # it comes and goes
        rig.at(t_s, lambda r: told(r, "pv1.p_kw", math.nan))
        rig.at(t_s + 3.0, lambda r: told(r, "none", math.nan))
    rig.run(120.0)
    kinds = [
        (r.t_s, e.kind) for r in rig.rows() for e in r.decisions.events if e.kind.startswith("readings.")
    ]
    assert [k for _, k in kinds] == ["readings.substituted", "readings.back"]
    assert kinds[1][0] == pytest.approx(92.0, abs=2.0)
    assert edge_status(rig, "pv1.p_kw") == [10.0, 11.0, 12.0, 20.0, 21.0, 22.0, 30.0, 31.0, 32.0]


def edge_status(rig: Rig, point: str) -> list[float]:
    """When the status names a point."""
    return [r.t_s for r in rig.rows() if point in r.decisions.substituted]


@pytest.mark.parametrize("point", ["bess1.p_kw", "gen1.p_kw"])
def test_power_of_what_forms_the_island_that_is_not_read_is_what_the_others_leave(small: Site, point: str):
    """It was taken for 0 kW: a source that carries the island counted as reserve whole."""
    forming = point.partition(".")[0]
    options = RigOptions(islanded_by=forming, gensets_on_kw={"gen1": 200.0} if forming == "gen1" else {})
    load: dict[str, Power] = {"critical": 60.0, "essential": lambda t_s: 100.0 + t_s, "deferrable": 40.0}
    rig = Rig(small, load_kw=load, options=options).run(30.0)
    held_kw = rig.last.decisions.reserve_held_kw
    told(rig, point, math.inf)
    for _ in range(60):
        rig.step()
        flows, condition = rig.last.flows, rig.last.decisions.condition
        assert rig.last.snapshot.value(point) is None
        true_kw = {**flows.bess_p_kw, **flows.genset_p_kw}[forming]
        known = condition.bess[forming] if forming == "bess1" else condition.gensets[forming]
        assert known.p_kw == pytest.approx(true_kw, abs=0.05 * 260.0)
        assert rig.last.decisions.reserve_held_kw <= held_kw + 15.0


@pytest.mark.parametrize("value", ["12", None, b"\x00", [1.0], 10**400])
def test_value_that_is_no_number_is_bad_whatever_its_type(small: Site, value: object):
    layout = layout_of(small)
    image = ProcessImage(layout.age_s_max, layout.range_of)
    points = mapped_points(small)
    image.update(
        Reading(point=p, value=value, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)  # type: ignore[arg-type]
        for p in points
    )
    snapshot = image.latch(T0, 0.0)
    assert [p for p in points if snapshot.value(p) is not None] == []


def test_default_ranges_hold_what_a_plant_really_reads(small: Site):
    rig = Rig(small, load_kw=LOAD, pv_kw=80.0).run(10.0)
    assert not [r for r in rig.last.snapshot.readings.values() if r.quality is Quality.OUT_OF_RANGE]
