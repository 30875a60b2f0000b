"""Whether it is watched that the powers add up, within what, and that the edge says so where it is not."""

from dataclasses import replace

from dispatch.layout import layout_of
from dispatch.observing.plausibility import BalanceSeen, balance_words, check_balance
from tests.builders import T0, site
from tests.unit.dispatch.controlled import loop
from tests.unit.dispatch.test_condition import BASE, LAYOUT, snapshot


def looked(ratio: float, off_kw: float) -> BalanceSeen:
    """A minute in which all adds up, then 20 s in which the meter at the POI is off by so much."""
    own = site()
    layout = layout_of(replace(own, grid=replace(own.grid, balance_tolerance_ratio=ratio)))
    seen = BalanceSeen()
    for s in range(82):
        told = {"grid1.p_kw": BASE["grid1.p_kw"] + (off_kw if s > 61 else 0.0)}
        seen = check_balance(layout, seen, snapshot(T0, float(s), **told))
    return seen


def test_powers_add_up_within_what_the_site_has_measured():
    """5 % of 350 kW is 17.5 kW; a site whose meters are better, or worse, says so."""
    assert not looked(0.05, 17.0).suspect
    assert looked(0.05, 18.0).suspect
    assert looked(0.01, 4.0).suspect
    assert not looked(0.2, 60.0).suspect


def test_watch_that_is_off_says_why():
    assert balance_words(LAYOUT, looked(0.05, 0.0)) == "on"
    assert balance_words(LAYOUT, looked(0.05, 50.0)) == "suspect: one of the powers lies"
    early = check_balance(LAYOUT, BalanceSeen(), snapshot(T0, 0.0))
    assert "have not added up for 60 s" in balance_words(LAYOUT, early)
    for told, words in (
        ({"essential.p_kw": None}, "off: essential.p_kw is not read"),
        ({"essential.p_kw": None, "pv1.p_kw": None}, "off: pv1.p_kw, essential.p_kw are not read"),
    ):
        seen = check_balance(LAYOUT, looked(0.05, 0.0), snapshot(T0, 90.0, **told))
        assert balance_words(LAYOUT, seen) == words
    bare = layout_of(replace(site(), feeders=()))
    assert balance_words(bare, BalanceSeen()) == "off: the site has no feeder whose load is metered"


def test_decisions_carry_the_watch_for_the_status():
    one = loop()
    assert one.run(70.0).balance_watch == "on"
    one.world.silent = frozenset({"essential.p_kw"})
    assert one.run(1.0).balance_watch == "off: essential.p_kw is not read"
