"""docs/modes.md says what the code does."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from dispatch.transitions.table import RULES, TRANSITION, Facts, Step, next_rule
from ems.condition import Prime, UnitState
from ems.poi import Supervision, TransitionPolicy
from ems.site import GridMode
from ems.telemetry import UtcState

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "modes.md").read_text()
SITE_FILE = (Path(__file__).resolve().parents[3] / "docs" / "site-file.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    part = PAGE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    heads = {i for i, row in enumerate(cells[1:]) if set(row) == {"---"}}
    return [row for i, row in enumerate(cells) if i not in heads and i - 1 not in heads]


def test_page_every_prime():
    told = [r[0] for r in rows("Which mode")]
    assert told[-len(Prime) :] == [p.value for p in Prime]


def test_page_every_state_of_a_unit_and_whether_it_blocks():
    told = {r[0]: r[1] == "yes" for r in rows("Units")}
    assert told == {s.value: s.blocks for s in UnitState}


def test_page_every_key_of_modes_and_transitions_is_documented():
    keys = (*fields(Supervision), *fields(TransitionPolicy))
    missing = [f.name for f in keys if f"`{f.name}`" not in SITE_FILE]
    assert missing == []


def test_page_every_step_and_its_transition():
    assert [(r[0], r[1]) for r in rows("Transitions")] == [(s.value, TRANSITION[s]) for s in Step]


def test_page_every_rule_in_order():
    told = [tuple(r) for r in rows("Steps")]
    assert told == [(r.at.value, r.to.value, r.why, "yes" if r.failed else "") for r in RULES]


def facts(**changes: object) -> Facts:
    quiet = Facts(
        mode=GridMode.GRID_TIED, was_tied=True, ordered=False, able=True, mains_ok=True, dwell_over=False,
        in_step_s=0.0, in_planned_s=0.0, balanced=False, near=True, confirmed=False, ramped=False,
        helpless=False, restored=False, policy=TransitionPolicy(),
    )  # fmt: skip
    return replace(quiet, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", Step)
def test_rules_no_step_survives_a_dead_bus_but_those_of_black_start(step: Step):
    rule = next_rule(step, facts(mode=GridMode.BLACK, mains_ok=False))
    after = step if rule is None else rule.to
    assert after in (Step.DEAD, Step.STARTING)


@pytest.mark.parametrize("step", Step)
def test_rules_breaker_that_closed_ends_every_island_and_every_black_start(step: Step):
    rule = next_rule(step, facts(mode=GridMode.GRID_TIED))
    after = step if rule is None else rule.to
    assert after in (Step.RAMPING, Step.STEADY)


@pytest.mark.parametrize("step", [Step.DWELL, Step.CLOSING])
def test_rules_mains_that_fail_again_end_the_reconnection(step: Step):
    rule = next_rule(step, facts(mode=GridMode.ISLANDED, mains_ok=False, dwell_over=True))
    assert rule is not None
    assert (rule.to, rule.failed) == (Step.STEADY, True)


def test_page_every_event_of_genset_requests():
    told = {r[1].strip("`") for r in rows("Genset requests")}
    text = (
        Path(__file__).resolve().parents[3] / "dispatch" / "transitions" / "genset_requests.py"
    ).read_text()
    in_code = set(re.findall(r'"(genset\.[a-z_.]+)"', text))
    assert told == in_code - {"genset.start.requested", "genset.stop.requested"}


def test_page_every_state_of_record_time():
    assert [r[0] for r in rows("Without valid time")] == [s.value for s in UtcState]
