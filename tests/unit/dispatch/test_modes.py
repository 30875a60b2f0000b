"""Two of three witnesses; a lost grid is believed at once, a regained one when all agree or after a while."""

import pytest

from dispatch.modes import Evidence, ModeState, confirm, judge, unanimous
from ems.site import GridMode

TIED, ISLANDED, BLACK, UNKNOWN = (
    GridMode.GRID_TIED, GridMode.ISLANDED, GridMode.BLACK, GridMode.UNKNOWN
)  # fmt: skip

# breaker closed, mains ok, bus alive, battery forms, genset on load -> mode
TABLE = [
    (True, True, True, False, False, TIED),
    (True, True, True, None, False, TIED),
    (True, True, None, False, False, TIED),
    (True, None, True, False, False, TIED),
    (None, True, True, False, False, TIED),
    (False, False, True, True, False, ISLANDED),
    (False, True, True, True, False, ISLANDED),  # mains back, not yet reconnected
    (False, None, None, True, False, ISLANDED),
    (False, False, None, None, True, ISLANDED),
    (True, False, True, True, False, ISLANDED),  # auxiliary contact stuck
    (None, False, True, True, False, ISLANDED),
    (None, None, True, True, False, ISLANDED),
    (True, True, False, False, False, BLACK),
    (False, False, False, True, True, BLACK),
    (True, True, True, True, False, UNKNOWN),  # forms with the breaker closed on good mains
    (True, False, True, False, False, UNKNOWN),  # brown-out, nobody has opened yet
    (None, None, True, False, False, UNKNOWN),  # meter lost
    (None, True, True, None, False, UNKNOWN),
    (False, False, None, None, False, UNKNOWN),
    (None, None, None, None, False, UNKNOWN),
]


@pytest.mark.parametrize("row", TABLE)
def test_judge_evidence_gives_mode(row):
    breaker, mains, alive, forming, genset, expected = row
    e = Evidence(
        breaker_closed=breaker, mains_ok=mains, bus_alive=alive, forming=forming, genset_on_load=genset
    )
    assert judge(e) is expected


def test_unanimous_needs_every_witness():
    full = Evidence(breaker_closed=True, mains_ok=True, bus_alive=True, forming=False, genset_on_load=False)
    assert unanimous(full)
    partial = Evidence(breaker_closed=True, mains_ok=True, bus_alive=True, forming=None, genset_on_load=False)
    assert not unanimous(partial)


def state(mode: GridMode) -> ModeState:
    return ModeState(mode=mode, since_s=0.0, candidate=mode, candidate_since_s=0.0)


@pytest.mark.parametrize(
    ("believed", "seen", "after_s"),
    [(TIED, ISLANDED, 0), (TIED, BLACK, 0), (ISLANDED, TIED, 2), (TIED, UNKNOWN, 1), (UNKNOWN, TIED, 2)],
)
def test_confirm_mode_is_believed_after_its_time(believed, seen, after_s):
    s, t = state(believed), 10.0
    for _ in range(after_s):
        s = confirm(s, seen, t, 1.0, at_once=False)
        assert s.mode is believed
        t += 1.0
    assert confirm(s, seen, t, 1.0, at_once=False).mode is seen


def test_confirm_flicker_changes_nothing():
    s = state(TIED)
    for i in range(100):
        s = confirm(s, UNKNOWN if i % 2 else TIED, float(i), 1.0, at_once=False)
        assert s.mode is TIED


def test_confirm_long_step_believes_one_sighting():
    assert confirm(state(ISLANDED), TIED, 0.0, 900.0, at_once=False).mode is TIED
