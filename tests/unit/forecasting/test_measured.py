"""What is known of the past: means of what was read, from a historian or from a run's own samples."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from ems.records import Sample
from ems.series import UniformSeries
from ems.telemetry import Quality, Reading, Snapshot
from forecasting.measured import LOOK_BACK_S, MeasuredHistory, MemorySamples, held_mean, quarter_hours
from tests.builders import T0, site
from tests.unit.sim.sim_builders import flat

NAN = float("nan")
Row = tuple[float, float | None]  # [s after T0], value


def at(seconds: float):
    return T0 + timedelta(seconds=seconds)


def samples(rows: Sequence[Row], quality: Quality = Quality.GOOD) -> list[Sample]:
    return [Sample(at=at(t), value=v, quality=quality) for t, v in rows]


@pytest.mark.parametrize(
    ("rows", "hold_s_max", "mean"),
    [
        ([], 60.0, NAN),
        ([(0.0, 3.0), (300.0, 6.0), (600.0, 9.0)], 900.0, 6.0),  # equal distances: the plain mean
        ([(0.0, 1.0), (1.0, 10.0), (11.0, 10.0)], np.inf, (1.0 + 899.0 * 10.0) / 900.0),  # long cycles
        ([(0.0, 5.0), (600.0, 7.0)], 60.0, 6.0),  # a gap: neither sample stands for it
        ([(0.0, None), (10.0, 4.0), (20.0, None)], 60.0, 4.0),
    ],
)
def test_held_mean_weighs_each_sample_by_how_long_it_stood(rows, hold_s_max, mean):
    assert held_mean(samples(rows), at(900.0), hold_s_max) == pytest.approx(mean, nan_ok=True)


def test_held_mean_values_of_bad_quality_do_not_count():
    mixed = samples([(0.0, 100.0)], Quality.STALE) + samples([(10.0, 4.0), (20.0, 4.0)])
    assert held_mean(mixed, at(900.0), 60.0) == 4.0


def snapshot(t_s: float, values: dict[str, float]) -> Snapshot:
    readings = {
        point: Reading(point=point, value=v, quality=Quality.GOOD, source_time=at(t_s), arrived_s=t_s)
        for point, v in values.items()
    }
    return Snapshot(at=at(t_s), monotonic_s=t_s, readings=readings)


def measured(rows: Sequence[tuple[float, dict[str, float]]]) -> tuple[MeasuredHistory, MemorySamples]:
    kept = MemorySamples(site())
    for t_s, values in rows:
        kept.add(snapshot(t_s, values))
    before = {"essential": flat(50.0, T0 - timedelta(hours=1), 1.0)}
    return MeasuredHistory(site=site(), reader=kept, before=before), kept


def feeder(t_s: float, p_kw: float, closed: float) -> tuple[float, dict[str, float]]:
    return t_s, {"essential.p_kw": p_kw, "essential.closed": closed}


def test_measured_history_shed_feeder_has_no_demand_that_anybody_saw():
    rows = [feeder(10.0 * i, 80.0, 1.0) for i in range(90)]
    rows += [feeder(900.0 + 10.0 * i, 0.0 if i > 40 else 80.0, 0.0 if i > 40 else 1.0) for i in range(90)]
    history, _ = measured(rows)
    series = history.series("essential", at(1810.0))
    assert series.values[:4].tolist() == [50.0] * 4
    assert series.values[4:] == pytest.approx([80.0, NAN], nan_ok=True)


def test_measured_history_open_interval_is_not_known_yet():
    history, _ = measured([feeder(10.0 * i, 80.0, 1.0) for i in range(100)])
    assert len(history.series("essential", at(899.0)).values) == 4
    assert len(history.series("essential", at(900.0)).values) == 5


def test_measured_history_pv_means_what_was_available_else_what_was_fed_in():
    both = {"pv1.p_kw": 20.0, "pv1.p_available_kw": 70.0}
    rows = [(10.0 * i, both if i < 90 else {"pv1.p_kw": 20.0}) for i in range(180)]
    history, _ = measured(rows)
    history.series("pv1", at(0.0))  # a plant without a past: its history begins a day before
    series = history.series("pv1", at(1800.0))
    assert series.start == at(-LOOK_BACK_S)
    assert series.values.tolist() == pytest.approx([NAN] * 96 + [70.0, 20.0], nan_ok=True)


def test_measured_history_late_samples_are_taken_when_they_come():
    """A recorder that was held up writes a quarter of an hour that had been asked for already."""
    history, kept = measured([])
    assert history.series("essential", at(905.0)).values.tolist() == pytest.approx(
        [50.0] * 4 + [NAN], nan_ok=True
    )
    for i in range(90):
        kept.add(snapshot(*feeder(10.0 * i, 80.0, 1.0)))
    assert history.series("essential", at(910.0)).values.tolist() == [50.0] * 4 + [80.0]


def test_measured_history_known_is_where_another_one_goes_on():
    history, kept = measured([feeder(10.0 * i, 80.0, 1.0) for i in range(200)])
    first = history.series("essential", at(905.0))
    other = MeasuredHistory(site=site(), reader=kept, before=history.known(3))
    assert other.before["essential"].end == first.end
    assert other.series("essential", at(1805.0)).values.tolist() == [50.0, 50.0, 80.0, 80.0]


def test_memory_samples_forgotten_rows_stay_in_the_means_made_of_them():
    history, kept = measured([feeder(10.0 * i, 80.0, 1.0) for i in range(100)])
    first = history.series("essential", at(905.0)).values
    kept.forget(at(900.0))
    assert [t for t, _ in kept.rows] == [at(10.0 * i) for i in range(90, 100)]
    assert history.series("essential", at(990.0)).values.tolist() == first.tolist()


@pytest.mark.parametrize(
    ("step_s", "from_s", "expected"),
    [
        (60.0, -1800.0, [7.0, 22.0]),  # each quarter of an hour by itself
        (1800.0, -3600.0, [0.0, 0.0, 1.0, 1.0]),  # a coarse series is held
        (60.0, -1500.0, [4.5, 17.0]),  # begins in the middle of one
    ],
)
def test_quarter_hours_are_means_of_what_had_ended(step_s, from_s, expected):
    series = UniformSeries(start=at(from_s), step_s=step_s, values=np.arange(200.0))
    got = quarter_hours("load", series, T0)
    assert got.end == T0
    assert got.values == pytest.approx(expected)


def test_quarter_hours_gap_leaves_the_mean_of_the_rest():
    values = np.arange(30.0)
    values[3] = NAN
    got = quarter_hours("load", UniformSeries(start=at(-1800.0), step_s=60.0, values=values), T0)
    assert got.values == pytest.approx([(105.0 - 3.0) / 14.0, 22.0])
