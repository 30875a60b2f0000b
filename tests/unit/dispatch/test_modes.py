"""Two of three witnesses; a lost grid is believed at once, a regained one when all agree or after a while."""

from dataclasses import replace

import pytest

from dispatch.observing.evidence import mains_usable, phase_lost
from dispatch.observing.modes import Evidence, ModeState, confirm, judge, still_islanded, unanimous
from ems.poi import Supervision
from ems.site import GridMode
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site

TIED, ISLANDED, BLACK, UNKNOWN = (
    GridMode.GRID_TIED, GridMode.ISLANDED, GridMode.BLACK, GridMode.UNKNOWN
)  # fmt: skip

RULES = Supervision()

# breaker closed, mains ok, bus alive, battery forms, genset on load -> mode
TABLE = [
    (True, True, True, False, False, TIED),
    (True, True, True, None, False, TIED),
    (True, True, None, False, False, TIED),
    (True, None, True, False, False, TIED),
    (None, True, True, False, False, TIED),
    (False, False, True, True, False, ISLANDED),
    (False, True, True, True, False, ISLANDED),  # mains back, not yet reconnected
    (False, True, True, False, True, ISLANDED),  # the same, carried by gensets
    (False, True, True, None, False, ISLANDED),
    (False, False, True, False, False, ISLANDED),  # two witnesses of three; the converter is late
    (False, None, True, False, False, ISLANDED),
    (False, True, True, False, False, UNKNOWN),  # nobody of ours carries the bus: contact stuck open
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
        s = confirm(RULES, s, seen, t, 1.0, at_once=False)
        assert s.mode is believed
        t += 1.0
    assert confirm(RULES, s, seen, t, 1.0, at_once=False).mode is seen


def test_confirm_flicker_changes_nothing():
    s = state(TIED)
    for i in range(100):
        s = confirm(RULES, s, UNKNOWN if i % 2 else TIED, float(i), 1.0, at_once=False)
        assert s.mode is TIED


def test_confirm_unknown_that_was_known_is_held_until_evidence_has_settled():
    s = confirm(RULES, state(TIED), UNKNOWN, 10.0, 1.0, at_once=False)
    s = confirm(RULES, s, UNKNOWN, 11.0, 1.0, at_once=False)
    assert (s.mode, s.held) == (UNKNOWN, True)
    back_s = None
    for t in range(12, 90):
        s = confirm(RULES, s, TIED, float(t), 1.0, at_once=True)
        back_s = float(t) if back_s is None and s.mode is TIED else back_s
    assert back_s == pytest.approx(11.0 + RULES.unknown_hold_s, abs=1.0)


def test_confirm_flapping_evidence_never_settles_and_a_lost_grid_is_not_held():
    s = state(TIED)
    changes = 0
    for t in range(600):
        before = s.mode
        seen = UNKNOWN if t // 3 % 2 == 0 else TIED
        s = confirm(RULES, s, seen, float(t), 1.0, at_once=seen is TIED)
        changes += s.mode is not before
    assert changes == 1
    assert confirm(RULES, s, ISLANDED, 600.0, 1.0, at_once=False).mode is ISLANDED


def test_confirm_unknown_at_start_is_not_held():
    s = ModeState(mode=UNKNOWN, since_s=0.0, candidate=UNKNOWN, candidate_since_s=0.0)
    assert confirm(RULES, s, TIED, 5.0, 1.0, at_once=True).mode is TIED


@pytest.mark.parametrize(("dt_s", "believed_s"), [(1.0, 1.0), (0.1, 0.3), (60.0, 0.0)])
def test_confirm_dead_bus_waits_for_a_source_that_takes_over(dt_s, believed_s):
    """0.2 s of transfer and a cycle; with long steps the transfer is over before the decision begins."""
    s, t = state(TIED), 0.0
    while (s := confirm(RULES, s, BLACK, t, dt_s, at_once=False, transfer_s=0.2)).mode is not BLACK:
        assert s.mode is UNKNOWN  # the mode it was in is over at once
        assert not s.held
        t += dt_s
    assert t == pytest.approx(believed_s)


@pytest.mark.parametrize(("seen", "after_s"), [(ISLANDED, 0), (TIED, 2)])
def test_confirm_bus_that_lives_again_is_believed_as_ever(seen, after_s):
    s = confirm(RULES, state(TIED), BLACK, 10.0, 1.0, at_once=False, transfer_s=0.2)
    for k in range(after_s):
        s = confirm(RULES, s, seen, 11.0 + k, 1.0, at_once=False)
        assert s.mode is UNKNOWN
    assert confirm(RULES, s, seen, 11.0 + after_s, 1.0, at_once=False).mode is seen


def test_confirm_dead_bus_that_nobody_takes_over_is_believed_at_once():
    assert confirm(RULES, state(ISLANDED), BLACK, 10.0, 1.0, at_once=False).mode is BLACK


def test_confirm_transfer_does_not_end_the_hold_of_an_unknown_mode():
    s = confirm(RULES, state(TIED), UNKNOWN, 10.0, 1.0, at_once=False)
    held = confirm(RULES, s, UNKNOWN, 11.0, 1.0, at_once=False)
    s = confirm(RULES, held, BLACK, 12.0, 1.0, at_once=False, transfer_s=0.2)
    assert (s.mode, s.held, s.since_s) == (UNKNOWN, True, 11.0)


# breaker closed, mains ok, bus alive, battery forms, genset on load -> an island that was believed goes on
STILL = [
    (None, None, True, False, True, True),  # the device at the POI is silent, a set carries the load
    (None, None, None, None, True, True),  # it measures the bus as well
    (None, False, True, False, True, True),
    (None, True, True, False, True, True),  # mains back, not yet reconnected
    (None, True, True, True, False, True),
    (None, None, True, False, False, False),  # nobody says that he carries it
    (None, None, False, False, True, False),
    (True, False, True, False, True, False),  # a contradiction is none
    (False, False, True, False, True, False),  # told: no need to go on by itself
]


@pytest.mark.parametrize("row", STILL)
def test_still_islanded_only_without_the_breaker_and_with_a_source(row):
    breaker, mains, alive, forming, genset, expected = row
    e = Evidence(
        breaker_closed=breaker, mains_ok=mains, bus_alive=alive, forming=forming, genset_on_load=genset
    )
    assert still_islanded(e) is expected


def poi(**values: float) -> Snapshot:
    readings = {
        f"grid1.{n}": Reading(
            point=f"grid1.{n}", value=v, quality=Quality.GOOD, source_time=T0, arrived_s=0.0
        )
        for n, v in values.items()
    }
    return Snapshot(at=T0, monotonic_s=0.0, readings=readings)


@pytest.mark.parametrize(
    ("given", "usable", "lost"),
    [
        (poi(), None, False),
        (poi(v_pu=1.0), True, False),
        (poi(v_pu=0.80), False, False),  # brown-out
        (poi(v_pu=1.25), False, False),  # over-voltage
        (poi(v_pu=1.0, f_hz=48.9), False, False),
        (poi(v_pu=1.0, f_hz=50.2), True, False),
        (poi(f_hz=50.0), None, False),
        (poi(v_pu=1.0, v1_pu=1.0, v2_pu=0.05, v3_pu=1.0), False, True),  # mean or one phase alone looks good
        (poi(v1_pu=1.0, v2_pu=1.0, v3_pu=1.0), True, False),
        (poi(v1_pu=0.0, v2_pu=0.0, v3_pu=0.0), False, False),  # all gone: no lost phase
    ],
)
def test_mains_usable_voltage_of_each_phase_and_frequency(given, usable, lost):
    grid = replace(site().grid, supervision=Supervision(f_min_hz=49.0, f_max_hz=51.0))
    assert mains_usable(grid, given) is usable
    assert phase_lost(grid, [given.value(f"grid1.v{n}_pu") for n in (1, 2, 3)]) is lost


def test_confirm_long_step_believes_one_sighting():
    assert confirm(RULES, state(ISLANDED), TIED, 0.0, 900.0, at_once=False).mode is TIED
