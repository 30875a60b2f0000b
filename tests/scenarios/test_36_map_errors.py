"""36: byte and word order, signedness, addresses, scales: caught before anything is written in earnest."""

import math

import pytest

from connectors.map_doubts import doubts, signedness
from dispatch.commissioning.rows import Verdict
from ems.site import Site
from tests.scenarios.commissioning import changed, commission, with_engineer

pytestmark = pytest.mark.scenario(36)
BESS, P = "bess1.p_set_kw", "bess1.p_kw"
ORDERS = [("big", "little"), ("little", "big"), ("little", "little")]  # CDAB, BADC, DCBA


@pytest.fixture
def right(demo: Site) -> Site:
    return with_engineer(demo)


@pytest.mark.parametrize("point", [BESS, P])
@pytest.mark.parametrize(("byte_order", "word_order"), ORDERS)
def test_byte_and_word_order_is_caught(right: Site, point: str, byte_order: str, word_order: str):
    c = commission(right, changed(right, point, byte_order=byte_order, word_order=word_order), [BESS])
    assert Verdict.FAIL in {c.rows[BESS].verdict, c.rows.get(P, c.rows[BESS]).verdict}, c.rows[BESS]
    assert math.isclose(c.rig.world.setpoints.values[BESS], 0.0, abs_tol=0.05)


def test_signedness_of_a_reading_is_caught(right: Site):
    c = commission(right, changed(right, P, data_type="u32"), [BESS])
    assert c.rows[BESS].verdict is Verdict.FAIL, c.rows[BESS]


@pytest.mark.parametrize(
    ("point", "address"),
    [(P, "101"), (P, "99"), ("bess1.soc", "105"), ("bess1.soc", "103"), (BESS, "201")],
)
def test_address_off_by_one_or_swapped_is_caught(right: Site, point: str, address: str):
    """Something is not shown then, and without it there is no record to write by."""
    used = changed(right, point, address=address)
    c = commission(right, used, [BESS])
    assert {r.verdict for r in c.rows.values()} != {Verdict.PASS}


def test_reading_that_cannot_be_is_told_with_the_mistake_that_explains_it(demo: Site):
    (pcs,) = [c for c in demo.connections if c.id == "pcs"]
    used = next(c for c in changed(demo, P, word_order="little").connections if c.id == "pcs")
    swapped = -float(275 << 16) * 0.1  # 27.5 kW, its two registers exchanged
    assert any(d.startswith("word_order big would read") for d in doubts(used, P, swapped))
    assert doubts(pcs, P, 100.0) == []


def test_type_that_cannot_hold_its_range_is_told_before_anything_is_read(demo: Site):
    used = next(c for c in changed(demo, P, data_type="u32").connections if c.id == "pcs")
    assert "cannot hold" in signedness(used, P)
    assert all(signedness(c, m.point) == "" for c in demo.connections for m in c.points)
