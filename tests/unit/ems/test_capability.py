"""The P-Q polygon of a converter, against corners by hand and points at random."""

import math

import numpy as np
import pytest

from ems.capability import Corner, capability_of
from ems.errors import BadValue

KITE = ((-300.0, 0.0), (0.0, -100.0), (400.0, 0.0), (0.0, 200.0))  # counterclockwise


def hull(points: list[Corner]) -> list[Corner]:
    """Corners of the convex hull, counterclockwise (Andrew, 1979)."""

    def chain(ordered: list[Corner]) -> list[Corner]:
        out: list[Corner] = []
        for p in ordered:
            while len(out) > 1 and _left(out[-2], out[-1], p) <= 0.0:
                out.pop()
            out.append(p)
        return out[:-1]

    return chain(sorted(points)) + chain(sorted(points, reverse=True))


def _left(a: Corner, b: Corner, c: Corner) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def around(rng: np.random.Generator, s_kva: float = 500.0) -> list[Corner]:
    """Corners of a random polygon around the origin, inside a circle."""
    while True:
        angles, radii = rng.uniform(-math.pi, math.pi, 7), rng.uniform(0.3, 1.0, 7) * s_kva
        corners = hull(
            [(float(r * math.cos(a)), float(r * math.sin(a))) for a, r in zip(angles, radii, strict=True)]
        )
        pairs = zip(corners, [*corners[1:], corners[0]], strict=True)
        if len(corners) > 2 and all(_left(a, b, (0.0, 0.0)) > 1.0 for a, b in pairs):
            return corners


@pytest.mark.parametrize(
    ("q_kvar", "low_kw", "high_kw"),
    [
        (0.0, -300.0, 400.0),
        (100.0, -150.0, 200.0),
        (-50.0, -150.0, 200.0),
        (200.0, 0.0, 0.0),
        (250.0, 0.0, 0.0),
    ],
)
def test_active_power_beside_reactive_power_of_a_kite(q_kvar: float, low_kw: float, high_kw: float):
    assert capability_of(KITE).p_range_kw(q_kvar) == pytest.approx((low_kw, high_kw))


@pytest.mark.parametrize(
    ("p_kw", "low_kvar", "high_kvar"),
    [
        (0.0, -100.0, 200.0),
        (200.0, -50.0, 100.0),
        (-150.0, -50.0, 100.0),
        (400.0, 0.0, 0.0),
        (999.0, 0.0, 0.0),
    ],
)
def test_reactive_power_beside_active_power_of_a_kite(p_kw: float, low_kvar: float, high_kvar: float):
    assert capability_of(KITE).q_range_kvar(p_kw) == pytest.approx((low_kvar, high_kvar))


def test_sides_of_a_box_with_a_flat_top_are_its_edges():
    box = capability_of([(-3.0, -1.0), (4.0, -1.0), (4.0, 2.0), (-3.0, 2.0)])
    assert box.half_planes == ((0.0, -1.0, 1.0), (1.0, 0.0, 4.0), (0.0, 1.0, 2.0), (-1.0, 0.0, 3.0))
    assert box.p_range_kw(2.0) == (-3.0, 4.0)
    assert box.q_range_kvar(4.0) == (-1.0, 2.0)
    assert (box.over_kva(6.0, 0.0), box.over_kva(0.0, 0.0)) == (2.0, -1.0)
    assert (box.along_kw(1.0, 0.25), box.along_kw(1.0, 1.0), box.along_kw(-1.0, 0.0)) == (4.0, 2.0, 3.0)


def test_corners_in_either_order_and_on_a_side_are_the_same_polygon():
    middle = [*KITE[:3], (200.0, 100.0), KITE[3]]
    for same in (reversed(KITE), [KITE[3], *KITE[:3]]):
        assert sorted(capability_of(same).half_planes) == sorted(capability_of(KITE).half_planes)
    assert capability_of(middle) == capability_of(KITE)
    assert capability_of(KITE).scaled(2.0).p_range_kw(0.0) == pytest.approx((-600.0, 800.0))


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        (KITE[:2], "2 corners; three"),
        ((*KITE, KITE[1]), "the corner 0 kW, -100 kvar twice"),
        ((*KITE[:3], (90.0, 20.0), KITE[3]), "a dent at 90 kW, 20 kvar; convex"),
        ((KITE[0], KITE[2], KITE[1], KITE[3]), "a dent at"),
        ([(math.cos(a), math.sin(a)) for a in 0.8 * math.pi * np.arange(5)], "a dent at"),  # a star
        ([(-1.0, 0.0), (0.0, 0.0), (2.0, 0.0)], "a dent at"),  # no area
        ([(10.0, 0.0), (20.0, 0.0), (20.0, 5.0)], "no room for 0 kW, 0 kvar"),
        ((*KITE[:3], (0.0, math.nan)), "a corner that is no number"),
    ],
)
def test_capability_that_is_no_convex_polygon_around_the_origin_is_refused(corners: list[Corner], words: str):
    with pytest.raises(BadValue, match=words):
        capability_of(corners)


@pytest.mark.parametrize("seed", range(20))
def test_ranges_sides_and_rays_of_random_polygons_agree(seed: int):
    rng = np.random.default_rng(seed)
    own = capability_of(around(rng))
    for _ in range(50):
        p, q = (float(x) for x in rng.uniform(-600.0, 600.0, 2))
        low, high = own.q_range_kvar(p)
        span = [x for x, _ in own.corners]
        if min(span) <= p <= max(span) and abs(q - low) > 1e-6 and abs(q - high) > 1e-6:
            assert (own.over_kva(p, q) <= 0.0) == (low <= q <= high)
        p = min(max(p, min(span)), max(span))
        assert own.over_kva(p, low) <= 1e-9
        assert own.over_kva(p, high) <= 1e-9
        slope, way = float(rng.uniform(-2.0, 2.0)), float(rng.choice([-1.0, 1.0]))
        most = own.along_kw(way, slope)
        assert abs(own.over_kva(way * most, slope * most)) <= 1e-9
