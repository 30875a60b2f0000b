"""The comparison table: which run is better, how numbers are written, that parts add up."""

from dataclasses import replace

import pytest

from cli.report_text import savings_parts
from cli.result_table import Row, better_baseline, compare, number, result_rows
from tests.builders import site
from tests.unit.cli.runs import run


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ((1.0, 2.0, 3.0), "low", {0}),
        ((1.0, 2.0, 3.0), "high", {2}),
        ((1.0, 1.0, 3.0), "low", {0, 1}),
        ((1.0, 1.0, 1.0), "low", set()),
        ((1.0, 1.4, 1.3), "low", set()),  # equal as written
        ((None, 2.0, 3.0), "low", {1}),
        ((None, None, 3.0), "low", set()),
        ((1.0, 2.0, 3.0), "none", set()),
    ],
)
def test_row_best_is_what_a_reader_sees(values, better, best):
    assert Row(label="x", unit="", values=values, better=better).best() == best


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234567.891, 1, "1\u202f234\u202f567.9"),
        (-3.25, 1, "−3.2"),
        (-0.04, 1, "0.0"),
        (None, 2, "–"),
        (0.0, 0, "0"),
    ],
)
def test_number_is_written_for_readers(value, digits, text):
    assert number(value, digits) == text


def test_rows_money_parts_add_up_to_the_total():
    rows = result_rows(compare(site(), [run("mpc"), run("rules")]))
    total = rows[0]
    parts = rows[1:7]
    assert all(r.indent for r in parts)
    for i in range(2):
        assert sum(r.values[i] or 0.0 for r in parts) == pytest.approx(total.values[i])
    lost, whole = rows[7], rows[8]
    assert whole.values[0] == pytest.approx((total.values[0] or 0.0) + (lost.values[0] or 0.0))


def test_rows_of_a_cap_say_how_long_and_by_how_much():
    over = replace(
        run("mpc"), violation_s={"import_over_cap": 12.0}, violation_max={"import_over_cap": 18.25}
    )
    over = replace(over, counters=replace(over.counters, violations={"import_over_cap": 12}))
    rows = {r.label: r for r in result_rows(compare(site(), [over, run("rules")]))}
    long, most = rows["import over cap"], rows["import over cap, by at most"]
    assert (long.unit, long.values[0]) == ("s", 12.0)
    assert (most.unit, most.values[0]) == ("kW", 18.25)
    assert "export over cap, by at most" not in rows


def test_savings_parts_add_up_to_the_difference():
    ems, rival = compare(site(), [run("mpc"), run("rules")])
    *parts, (name, total) = savings_parts(ems, rival)
    assert name == "total"
    assert sum(v for _, v in parts) == pytest.approx(total)
    assert total == pytest.approx(rival.costs.total_with_voll_cost - ems.costs.total_with_voll_cost)


def test_better_baseline_counts_lost_load():
    cheap = run("rules")
    dark = replace(
        cheap, counters=replace(cheap.counters, unserved_kwh={"critical": 50.0}, import_cost=100.0)
    )
    _, first, second = compare(site(), [run("mpc"), cheap, replace(dark, controller="rules_tou")])
    assert second.costs.total_cost < first.costs.total_cost
    assert better_baseline((first, second)) is first


def test_rows_without_plans_show_none():
    rows = {r.label: r for r in result_rows(compare(site(), [run("mpc"), run("rules")]))}
    assert rows["Plans made"].values == (24.0, None)
