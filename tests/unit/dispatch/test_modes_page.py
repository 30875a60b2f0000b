"""docs/modes.md says what the code does."""

from dataclasses import fields
from pathlib import Path

from ems.condition import UnitState
from ems.poi import Supervision

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "modes.md").read_text()
SITE_FILE = (Path(__file__).resolve().parents[3] / "docs" / "site-file.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines[2:]]


def test_page_every_state_of_a_unit_and_whether_it_blocks():
    told = {r[0]: r[1] == "yes" for r in rows("Units")}
    assert told == {s.value: s.blocks for s in UnitState}


def test_page_every_key_of_supervision_is_documented():
    missing = [f.name for f in fields(Supervision) if f"`{f.name}`" not in SITE_FILE]
    assert missing == []
