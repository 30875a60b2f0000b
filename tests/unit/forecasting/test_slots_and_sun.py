"""Slot arithmetic, the local calendar and the sun."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.series import UniformSeries
from ems.timegrid import TimeGrid
from forecasting.slots import LocalCalendar, day_types, onto_grid, slot_of, slot_start, to_slots
from forecasting.sun import Sun, sin_elevation
from tests.builders import T0


@pytest.mark.parametrize(
    "zone", ["UTC", "Africa/Nairobi", "Asia/Kathmandu", "Europe/Lisbon", "Australia/Lord_Howe"]
)
def test_calendar_agrees_with_zoneinfo_through_a_year(zone):
    lo = slot_of(datetime(2026, 1, 1, tzinfo=UTC))
    local = LocalCalendar(zone).local(lo, lo + 366 * 96)
    for i in range(0, len(local), 61):
        there = slot_start(lo + i).astimezone(ZoneInfo(zone))
        assert local[i] % 96 == there.hour * 4 + there.minute // 15
        kind = 0 if there.weekday() < 5 else there.weekday() - 4
        assert day_types(local[i : i + 1] // 96)[0] == kind


@pytest.mark.parametrize("step_s", [60.0, 420.0, 900.0, 3600.0])
def test_to_slots_keeps_energy(step_s):
    values = np.random.default_rng(1).uniform(0, 10, int(86400 / step_s))
    series = UniformSeries(start=T0 + timedelta(seconds=300), step_s=step_s, values=values)
    slots = to_slots("x", series)
    inner = slots.values[1:90]
    grid = TimeGrid.uniform(slot_start(slots.first + 1), 900.0, 89)
    np.testing.assert_allclose(inner, series.mean_on(grid))


def test_to_slots_half_missing_slot_is_kept_and_more_is_not():
    values = np.ones(30)
    values[0:8] = np.nan  # 8 of the first 15 minutes
    values[15:22] = np.nan  # 7 of the second
    slots = to_slots("x", UniformSeries(start=T0, step_s=60.0, values=values))
    assert np.isnan(slots.values[0])
    assert slots.values[1] == pytest.approx(1.0)


def test_onto_grid_means_over_unequal_steps():
    got = onto_grid(
        np.array([0.0, 4.0, 8.0, 2.0]), slot_of(T0), TimeGrid(start=T0, step_s=(450.0, 1350.0, 1800.0))
    )
    np.testing.assert_allclose(got, [0.0, 4.0 * 900 / 1350, 5.0])


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(-1.3, 36.8), (60.0, 10.0), (-33.9, 18.4), (19.7, -155.1)]
)
def test_sun_agrees_with_pvlib(latitude, longitude):
    import pandas as pd
    from pvlib import solarposition

    stamps = pd.date_range("2026-01-01", "2026-12-31", freq="7h13min", tz="UTC")
    oracle = solarposition.get_solarposition(stamps, latitude, longitude)["elevation"].to_numpy()
    at_s = np.array([s.timestamp() for s in stamps])
    mine = np.rad2deg(np.arcsin(sin_elevation(latitude, longitude, at_s)))
    assert np.abs(mine - oracle).max() < 0.05


def test_sun_is_up_for_half_the_day_on_the_equator():
    lo = slot_of(T0)
    up = Sun(0.0, 0.0).is_up(np.arange(lo, lo + 96))
    assert 48 <= up.sum() <= 51
