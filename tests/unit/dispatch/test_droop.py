"""A droop of its own: a unit that helps the frequency is not called deaf."""

from dataclasses import replace
from types import MappingProxyType

import pytest

from dispatch.layout import layout_of
from dispatch.writing.effect import _droop_kw, _off_kw, _Unit
from ems.assets import DroopParams
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site

OWN = DroopParams(dead_band_hz=0.2, droop_ratio=0.05)


def at_frequency(f_hz: float | None, point: str, droop: DroopParams | None) -> float:
    """What the droop of a unit of 100 kW may do at a measured frequency [kW]."""
    used = replace(site(), droop=MappingProxyType({} if droop is None else {"bess1": droop}))
    good = {} if f_hz is None else {
        point: Reading(point=point, value=f_hz, quality=Quality.GOOD, source_time=T0, arrived_s=0.0)
    }  # fmt: skip
    snapshot = Snapshot(at=T0, monotonic_s=0.0, readings=good)
    return _droop_kw(layout_of(used), snapshot, "bess1", 100.0)


@pytest.mark.parametrize("point", ["bus.f_hz", "grid1.f_hz"])
@pytest.mark.parametrize(
    ("f_hz", "droop", "kw"),
    [
        (50.0, OWN, 0.0),
        (49.8, OWN, 0.0),  # inside its dead band
        (49.3, OWN, 20.0),  # 0.5 Hz beyond, of 2.5 Hz
        (50.7, OWN, -20.0),
        (59.4, DroopParams(dead_band_hz=0.0, droop_ratio=0.05), 20.0),  # a 60 Hz grid
        (47.1, OWN, 100.0),  # never more than its rating
        (52.9, OWN, -100.0),
        (46.9, OWN, 0.0),  # nothing is connected at such a frequency: the reading is wrong
        (0.0, OWN, 0.0),
        (0.0, None, 0.0),
        (55.0, OWN, 0.0),
        (49.983, None, 0.0),
        (49.883, None, 10.0),  # of which nobody says anything: as much as any may
        (None, OWN, 0.0),
    ],
)
def test_droop_gives_at_low_frequency_and_takes_at_high(f_hz, droop, kw, point):
    assert at_frequency(f_hz, point, droop) == pytest.approx(kw, abs=1e-6)


@pytest.mark.parametrize(
    ("droop_kw", "p_kw", "off_kw"),
    [
        (0.0, 30.0, 20.0),
        (20.0, 30.0, 0.0),  # low frequency: it helps
        (20.0, 10.0, 0.0),  # or does not
        (20.0, 35.0, 5.0),
        (20.0, -10.0, 20.0),  # against the frequency is deaf as before
        (-20.0, -10.0, 0.0),
        (-20.0, 30.0, 20.0),
    ],
)
def test_judged_unit_that_helps_by_its_droop_follows(droop_kw, p_kw, off_kw):
    """A battery that helped a weak grid at 49.5 Hz was called not effective, and left out."""
    unit = _Unit(
        p_kw=p_kw,
        low_kw=-100.0,
        high_kw=100.0,
        rated_kw=100.0,
        is_limit=False,
        settle_s=3.0,
        droop_kw=droop_kw,
    )
    assert _off_kw(unit, ((0.0, 10.0),)) == pytest.approx(off_kw)


def test_limit_of_pv_lets_its_droop_raise_it():
    unit = _Unit(
        p_kw=30.0, low_kw=0.0, high_kw=100.0, rated_kw=100.0, is_limit=True, settle_s=3.0, droop_kw=20.0
    )
    assert _off_kw(unit, ((0.0, 10.0),)) == 0.0
    assert _off_kw(replace(unit, droop_kw=-20.0), ((0.0, 10.0),)) == 20.0
