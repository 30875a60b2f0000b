"""docs/optimizer.md names every family, every cost term and every rung of the ladder of prices."""

import re
from dataclasses import fields

import pytest

from optimizer import build
from optimizer.prices import Ladder, ladder
from tests.conftest import PROJECT_ROOT
from tests.unit.optimizer.posing import feeder, small_site

DOC = (PROJECT_ROOT / "docs" / "optimizer.md").read_text(encoding="utf-8")
FORMULATIONS = PROJECT_ROOT / "optimizer" / "formulations"
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FORMULATIONS.glob("*.py"))}


def rows(header: str) -> list[list[str]]:
    """Cells of the table of the page that begins with a header."""
    (table,) = re.findall(rf"^{re.escape(header)}\n\|[-|]+\n((?:\|.*\n)+)", DOC, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`([a-z0-9_]+)`", cell))


LADDER = {row[0].strip("`"): row for row in rows("| rung | price | what it is for | families |")}
SITE = small_site(feeders=[feeder("dear", 11.0), feeder("cheap", 3.0)])


def test_the_ladder_of_the_page_is_the_ladder():
    assert set(LADDER) == {f.name for f in fields(Ladder)}


@pytest.mark.parametrize("rung", LADDER)
def test_a_rung_costs_what_the_page_says(rung):
    factor, _, of = LADDER[rung][1].partition(" x ")
    figure = {"reserve": SITE.reserve.shortfall_per_kwh, "VOLL": 11.0}[of]
    assert figure > 0.0
    assert getattr(ladder(SITE), rung) == pytest.approx(float(factor) * figure)


@pytest.mark.parametrize("rung", LADDER)
def test_a_rung_is_read_by_the_families_the_page_names(rung):
    assert quoted(LADDER[rung][3]) == {name for name, text in SOURCES.items() if f".{rung}" in text}


def test_every_cost_term_is_on_the_page():
    named = set().union(*(quoted(row[1]) for row in rows("| what it is | terms |")))
    priced = r"n\.(?:price\(|constant\[)\s*\"([a-z0-9_]+)\""
    written = {term for text in SOURCES.values() for term in re.findall(priced, text)}
    assert len(written) > 40
    assert written <= named
    others = named - written  # a variable holds their names
    assert others == {"fuel", "unserved", "unserved_without_breaker", "risk"}
    everything = "".join(SOURCES.values()) + (FORMULATIONS.parent / "two_stage.py").read_text(
        encoding="utf-8"
    )
    assert all(f'"{term}"' in everything for term in others)


def test_every_family_is_on_a_page_of_the_table():
    table = rows("| part of the plant | page | families in `optimizer/formulations/` |")
    named = [family for row in table for family in quoted(row[2])]
    listed = [str(getattr(family, "__name__")).rsplit(".", 1)[1] for family in build.FAMILIES]  # noqa: B009
    assert sorted(named) == sorted(listed)
