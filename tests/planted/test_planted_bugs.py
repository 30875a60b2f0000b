"""The oracles bite: each planted bug, kept as a patch beside this file, is caught by what stands here.

A patch is applied to a copy of the tree, and a probe (a short run of the production edge) or a named test is
run there. The probe finds nothing in the tree as it is.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.planted.patching import ROOT, PatchError, apply, copy_tree, hunks
from tests.planted.probes import PROBES, found

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug, what catches it, and the run or the test in which it does."""

    patch: str
    by: str  # an oracle, or "test"
    where: str  # a probe, or a test file
    quick: bool = False
    own: str | None = None  # the edge's own invariant that finds it too, in production


BUGS = (
    Bug("missing_finite_check", "I6", "infinity_arrives", quick=True, own="I6"),
    Bug("stale_reading_used", "I6", "nothing_new_arrives", own="I6"),
    Bug("shared_lease_timer", "I2", "two_wishes", own="I2"),
    Bug("limit_read_too_early", "I1", "limit_falls", quick=True),
    Bug("swapped_word_order", "test", "tests/unit/connectors/test_point_map.py"),
    Bug("heartbeat_while_held_safe", "I8", "held_safe", own="I8"),
    Bug("heartbeat_before_readiness", "I8", "nobody_answers_yet"),
    Bug("heartbeat_beside_the_loop", "I8", "quiet", own="I8"),
    Bug("ramp_free_upwards", "I4", "pv_limit_raised", own="I4"),
    Bug("deadband_before_protection", "I1", "limit_falls_a_little"),
    Bug("plan_of_another_grid_mode", "I2", "mains_lost_under_a_plan", own="I2"),
    Bug("sequence_stands_still", "I9", "quiet", own="I9"),
    Bug("intent_after_the_write", "I5", "quiet", own="I5"),
    Bug("minimum_down_time_forgotten", "I11", "restless_controller", own="I11"),
    Bug("reserve_alarm_lost", "I7", "island_at_its_limit", own="I7"),
    Bug("shed_feeder_forgotten", "I13", "back_from_black"),
)


def run_in(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=tree, capture_output=True, text=True, timeout=300)


def catches(bug: Bug, tree: Path) -> bool:
    """Whether the bug shows where it should."""
    if bug.by == "test":
        done = run_in(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", bug.where)
        return done.returncode == 1
    done = run_in(tree, "-m", "tests.planted.probes", bug.where)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return bug.by in said["oracles"] and (bug.own is None or said["own"].startswith(f"{bug.own}:"))


@pytest.mark.parametrize(
    "bug", [pytest.param(b, id=b.patch, marks=[] if b.quick else [pytest.mark.soak]) for b in BUGS]
)
def test_planted_bug_is_caught(bug: Bug, tmp_path: Path):
    tree = copy_tree(tmp_path)
    apply(HERE / f"{bug.patch}.patch", tree)
    assert catches(bug, tree), f"{bug.patch} went by unseen: {bug.by} in {bug.where}"


LONG = ("restless_controller",)


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(p, marks=[pytest.mark.soak] if p in LONG else [])
        for p in sorted({b.where for b in BUGS if b.by != "test"})
    ],
)
def test_probe_finds_nothing_in_the_tree_as_it_is(probe: str):
    assert found(probe) == []


def test_planted_bugs_every_patch_is_listed_and_fits():
    """A patch whose lines have changed says so here, in every run, not only in a long one."""
    assert {b.patch for b in BUGS} == {p.stem for p in HERE.glob("*.patch")}
    for bug in BUGS:
        assert hunks((HERE / f"{bug.patch}.patch").read_text())
        for file, old, _ in hunks((HERE / f"{bug.patch}.patch").read_text()):
            assert (ROOT / file).read_text().count(old) == 1, f"{bug.patch}: make it anew for {file}"


def test_apply_hunk_that_does_not_fit_is_refused(tmp_path: Path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    patch = tmp_path / "a.patch"
    patch.write_text("--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n")
    with pytest.raises(PatchError, match="2 places"):
        apply(patch, tmp_path)


def test_probes_are_all_used():
    assert set(PROBES) == {b.where for b in BUGS if b.by != "test"}
