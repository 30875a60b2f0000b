"""The authority matrix as data, and its table in the documentation."""

import re
from itertools import product
from pathlib import Path

import pytest

from ems.commands import Cause
from ems.control import MATRIX, Act, ControlMode, Party, Role, may_act, may_write, strictest

DOC = (Path(__file__).parents[3] / "docs" / "authority.md").read_text()


def test_matrix_documented_table_is_the_one_in_force():
    (start,) = [m.end() for m in re.finditer(r"\| Mode \| optimizer .*\n\|---.*\n", DOC)]
    rows = DOC[start:].split("\n\n")[0].splitlines()
    shown = {}
    for row in rows:
        mode, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        for party, cell in zip(Party, cells, strict=True):
            shown[ControlMode(mode), party] = {Act(a.strip()) for a in cell.split(",") if a.strip()}
    assert shown == {(m, p): set(MATRIX[m][p]) for m in ControlMode for p in Party}


@pytest.mark.parametrize(
    ("mode", "causes"),
    [
        (ControlMode.OFF, {Cause.EMERGENCY_STOP, Cause.SAFE_TABLE}),
        (ControlMode.LOCAL, set()),
        (ControlMode.TEST, {Cause.EMERGENCY_STOP, Cause.SAFE_TABLE, Cause.PROTECTION, Cause.OPERATOR}),
        (
            ControlMode.MANUAL,
            {Cause.EMERGENCY_STOP, Cause.SAFE_TABLE, Cause.PROTECTION, Cause.OPERATOR},
        ),
        (ControlMode.AUTO, set(Cause) - {Cause.OPERATOR}),
    ],
)
def test_may_write_each_mode_lets_its_own_causes_through(mode, causes):
    assert {c for c in Cause if may_write(mode, c)} == causes


def test_may_act_viewer_and_nobody_may_nothing():
    for mode, act in product(ControlMode, Act):
        assert not may_act(mode, frozenset(), act)
        assert not may_act(mode, frozenset({Role.VIEWER}), act)


def test_may_act_several_roles_have_the_rights_of_all():
    both = frozenset({Role.OPERATOR, Role.ENGINEER})
    assert may_act(ControlMode.MANUAL, both, Act.SET)
    assert may_act(ControlMode.MANUAL, both, Act.LOOSEN)
    assert not may_act(ControlMode.MANUAL, frozenset({Role.ENGINEER}), Act.SET)
    assert not may_act(ControlMode.LOCAL, both, Act.SWITCH)


@pytest.mark.parametrize(
    ("modes", "found"),
    [
        ((ControlMode.AUTO, ControlMode.MANUAL), ControlMode.MANUAL),
        ((ControlMode.TEST, ControlMode.MANUAL), ControlMode.TEST),
        ((ControlMode.AUTO, ControlMode.AUTO, ControlMode.LOCAL), ControlMode.LOCAL),
        ((ControlMode.LOCAL, ControlMode.OFF), ControlMode.OFF),
        ((ControlMode.AUTO,), ControlMode.AUTO),
    ],
)
def test_strictest_off_local_test_manual_auto(modes, found):
    assert strictest(*modes) is found
