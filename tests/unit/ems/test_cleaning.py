"""A clean series: which readings count, which do not and why, and what stands for them."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.cleaning import KEPT, CleanRules, CleanSample, Mark, cleaned, cleaned_long, rules_of
from ems.points import POINTS, AssetKind
from ems.records import Sample
from ems.site import Protocol
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.plants import point_map

GOOD = Quality.GOOD
POWER = CleanRules(low=-500.0, high=500.0, rate_per_s_max=300.0, spike=100.0, frozen_s=1800.0, fill_s=60.0)
ENERGY = CleanRules(low=0.0, counts=True, counts_to=1000.0, fill_s=60.0)


def series(*values: float | None, every_s: float = 1.0, quality: Quality = GOOD) -> list[Sample]:
    """Readings one after the other; None is one that was not answered."""
    return [
        Sample(
            at=T0 + timedelta(seconds=i * every_s),
            value=v,
            quality=quality if v is not None else Quality.COMM_FAILED,
        )
        for i, v in enumerate(values)
    ]


def marks(told: list[CleanSample]) -> list[str]:
    return [str(s.mark) for s in told]


def values(told: list[CleanSample]) -> list[float | None]:
    return [s.value for s in told]


def test_good_readings_stay_as_they_are():
    told = cleaned(series(1.0, 2.0, 3.0), POWER)
    assert values(told) == [1.0, 2.0, 3.0]
    assert {s.mark for s in told} == {Mark.MEASURED}
    assert not any(s.substituted for s in told)


def test_what_was_bad_when_it_was_read_is_stood_in_for_on_the_line():
    told = cleaned(series(10.0, None, None, 40.0), POWER)
    assert values(told) == [10.0, 20.0, 30.0, 40.0]
    assert marks(told) == ["measured", "bad", "bad", "measured"]
    assert [s.substituted for s in told] == [False, True, True, False]
    assert told[1].raw is None
    assert told[1].quality is Quality.COMM_FAILED


def test_long_gap_and_the_ends_have_nothing_that_stands_for_them():
    told = cleaned(series(None, 10.0, None, None, 40.0, None, every_s=30.0), POWER)
    assert values(told) == [None, 10.0, None, None, 40.0, None]
    assert not any(s.substituted for s in told)


@pytest.mark.parametrize(("spike", "mark"), [(300.0, "spike"), (-300.0, "spike"), (90.0, "measured")])
def test_single_reading_far_from_two_that_agree_is_a_spike(spike, mark):
    told = cleaned(series(10.0, 12.0, spike, 11.0, 10.0), POWER)
    assert told[2].mark == mark
    assert told[2].raw == spike
    assert told[2].value == (pytest.approx(11.5) if mark == "spike" else spike)


def test_step_that_stays_is_no_spike():
    told = cleaned(series(10.0, 10.0, 250.0, 251.0, 252.0), POWER)
    assert {s.mark for s in told} == {Mark.MEASURED}


def test_faster_than_the_point_can_move_until_enough_time_has_passed():
    told = cleaned(series(0.0, 450.0, 451.0, 452.0), POWER)
    assert marks(told) == ["measured", "too_fast", "measured", "measured"]


def test_outside_its_range_whoever_said_it():
    told = cleaned([*series(1.0, 501.0), *series(2.0, quality=Quality.OUT_OF_RANGE)], POWER)
    assert marks(told) == ["measured", "out_of_range", "out_of_range"]


def test_same_to_the_last_bit_for_half_an_hour_is_frozen_but_for_nothing():
    still = cleaned(series(1.0, *[7.25] * 40, 8.0, every_s=60.0), POWER)
    assert marks(still) == ["measured", "measured", *["frozen"] * 39, "measured"]
    assert {s.mark for s in cleaned(series(*[0.0] * 100, every_s=60.0), POWER)} == {Mark.MEASURED}
    assert {s.mark for s in cleaned(series(*[7.25] * 30, every_s=60.0), POWER)} == {Mark.MEASURED}


def test_counter_goes_on_over_the_end_of_its_register_and_over_a_reset():
    told = cleaned(series(980.0, 999.0, 4.0, 20.0, 0.5, 3.0), ENERGY)
    assert marks(told) == ["measured", "measured", "rollover", "measured", "reset", "measured"]
    assert values(told) == [980.0, 999.0, 1004.0, 1020.0, 1020.5, 1023.0]


def test_single_low_reading_of_a_counter_is_no_reset():
    told = cleaned(series(100.0, 0.0, 102.0, 103.0), ENERGY)
    assert marks(told) == ["measured", "spike", "measured", "measured"]
    assert values(told) == [100.0, 101.0, 102.0, 103.0]


def test_rules_come_from_the_kind_of_point_and_the_row_of_its_map():
    specs = {s.name: s for s in POINTS[AssetKind.GRID]}
    row = point_map("grid1", "p_kw", Protocol.MODBUS_TCP)
    power = rules_of(specs["p_kw"], row)
    assert (power.low, power.high, power.spike) == (row.low, row.high, 0.1 * (row.high - row.low))
    counter = point_map("grid1", "soc", Protocol.MODBUS_TCP)  # 16 bits, a thousandth each
    energy = rules_of(specs["import_kwh"], counter)
    assert energy.counts
    assert energy.counts_to == pytest.approx(65.536)
    breaker = rules_of(specs["breaker_closed"], None)
    assert breaker == CleanRules()
    assert rules_of(specs["p_kw"], None).spike is None


SAMPLES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(-600.0, 600.0), st.sampled_from([0.0, 100.0, math.nan])),
        st.sampled_from([1.0, 5.0, 60.0, 1200.0]),
        st.sampled_from([GOOD, GOOD, GOOD, Quality.STALE, Quality.FROZEN, Quality.OUT_OF_RANGE]),
    ),
    max_size=60,
)


def drawn(rows: list[tuple[float | None, float, Quality]]) -> list[Sample]:
    at, out = T0, []
    for value, after_s, quality in rows:
        at += timedelta(seconds=after_s)
        out.append(Sample(at=at, value=value, quality=quality))
    return out


@given(SAMPLES, st.sampled_from([POWER, ENERGY, CleanRules()]))
def test_every_reading_is_there_once_and_says_what_became_of_it(rows, rules):
    samples = drawn(rows)
    told = cleaned(samples, rules)
    assert [(s.at, s.quality) for s in told] == [(s.at, s.quality) for s in samples]
    assert [repr(s.raw) for s in told] == [repr(s.value) for s in samples]
    for s in told:
        assert s.substituted <= (s.mark not in KEPT)
        assert (s.value is not None) is (s.mark in KEPT or s.substituted)
        assert s.value is None or math.isfinite(s.value)
        assert s.mark not in KEPT or s.quality is GOOD
    if rules.counts:
        kept = [s.value for s in told if s.value is not None]
        assert kept == sorted(kept)
    else:
        assert all(s.value == s.raw for s in told if s.mark in KEPT)


@given(st.lists(st.floats(0.0, 1000.0), min_size=2, max_size=40), st.integers(1, 40))
def test_counter_in_pieces_of_a_day_goes_on_where_it_stood(steps, every_min):
    """Some days of a counter that is now and then set back: each piece continues the one before."""
    at, count, out = T0, 0.0, []
    for n in range(3000 // every_min):
        count = 0.0 if n % 97 == 96 else count + steps[n % len(steps)]
        out.append(Sample(at=at + timedelta(minutes=n * every_min), value=count, quality=GOOD))
    rules = CleanRules(counts=True, fill_s=60.0)
    whole, pieces = cleaned(out, rules), list(cleaned_long(out, rules))
    assert [(s.at, s.mark) for s in pieces] == [(s.at, s.mark) for s in whole]
    assert values(pieces) == pytest.approx(values(whole))


def test_long_series_is_cleaned_as_in_one_piece_where_an_hour_is_enough_to_judge_by():
    wave = [100.0 * math.sin(i / 50.0) + (400.0 if i % 701 == 700 else 0.0) for i in range(12_000)]
    samples = series(*(None if i % 333 == 7 else v for i, v in enumerate(wave)), every_s=20.0)
    assert list(cleaned_long(samples, POWER)) == cleaned(samples, POWER)
