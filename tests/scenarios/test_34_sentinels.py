"""34: NaN, infinities, sentinels and numbers that are none, on every point, one after the other."""

import math
from collections.abc import Sequence

import pytest

from dispatch.layout import layout_of
from dispatch.observing.process_image import ProcessImage
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.direct_io import mapped_points
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from tests.builders import T0

pytestmark = pytest.mark.scenario(34)
VALUES = (math.nan, math.inf, -math.inf, 1e38, -1e38, 32768.0, -32768.0, 65535.0, 4294967295.0)
COUNTERS = ("run_h", "limits_heartbeat")  # any number is a count
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
EACH_S = 1.0


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
    """Every oracle holds all the while (I1 limits, I3 finite); what was refused is bad within the cycle."""
    points = [p for p in mapped_points(small) if not p.endswith(COUNTERS)]
    options = RigOptions(islanded_by=islanded_by)
    rig = Rig(small, load_kw=LOAD, pv_kw=80.0, options=options).run(5.0)
    for point in points:
        start_s = rig.t_s
        told(rig, point, value)
        rig.run(start_s + EACH_S)
        read = [r.snapshot.readings[point] for r in rig.rows(start_s)]
        assert read, point
        assert not any(r.is_good for r in read), point
    authority = small.authority.setpoints
    for row in rig.rows():
        for c in row.commands:
            assert math.isfinite(c.value)
            assert authority[c.point].low <= c.value <= authority[c.point].high


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
