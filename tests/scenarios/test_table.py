"""docs/scenarios.md tells the truth about which scenario has a test."""

from tests.scenarios.table import COUNT, PAGE, marked, page, scenarios


def test_scenarios_list_is_whole_and_in_order():
    assert [r.number for r in scenarios()] == list(range(1, COUNT + 1))


def test_scenarios_every_number_has_a_test_or_a_reason():
    numbers = {m.number for m in marked()}
    assert [r.number for r in scenarios() if r.number not in numbers and not r.why_not] == []


def test_scenarios_no_marker_names_a_number_that_is_not_listed():
    assert [m for m in marked() if not 1 <= m.number <= COUNT] == []


def test_scenarios_page_is_what_the_markers_say():
    assert PAGE.read_text() == page(), "run: python -m tests.scenarios.table"
