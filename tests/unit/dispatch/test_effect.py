"""Following a setpoint: by one judged unit, without a plant around it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import layout_of
from dispatch.observing.condition import observe
from dispatch.state import ObserverMemory, Written
from dispatch.writing.effect import (
    RETRIES,
    WELL_S,
    WELL_S_MAX,
    _judged,
    _Unit,
    _well,
    check_effect,
    effect_alarms,
    marks_of,
)
from dispatch.writing.effect_memory import EffectMemory, Following
from ems.condition import UnitState
from ems.points import BessState, GensetState
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import snapshot


def judged_for(power_kw, seconds: int, settle_s: float = 3.0) -> tuple[list[Following], int]:
    """A limit of 0 kW is written to a plant of 100 kW at 0 s; (memory of each second, writes sent again)."""
    memory, out, again = Following(), [], 0
    held = Written(value=100.0, at_s=-60.0, known=True)
    for t in range(-10, seconds):
        held = Written(value=0.0, at_s=0.0, known=True) if t >= 0 else held
        unit = _Unit(
            p_kw=power_kw(t), low_kw=0.0, high_kw=100.0, rated_kw=100.0, is_limit=True, settle_s=settle_s
        )
        before, memory = memory, _judged(memory, unit, held, float(t))
        again += memory.retries > before.retries
        out.append(memory)
    return out, again


@pytest.mark.parametrize("ramp_s", [2.0, 30.0, 60.0, 200.0])
def test_judged_slow_unit_on_its_way_is_not_marked(ramp_s: float):
    memories, again = judged_for(lambda t: 100.0 if t < 0 else max(0.0, 100.0 * (1.0 - t / ramp_s)), 260)
    assert again == 0
    assert not any(m.marked for m in memories)


def test_judged_unit_that_stops_halfway_is_marked():
    memories, again = judged_for(lambda t: 100.0 if t < 0 else max(50.0, 100.0 - 5.0 * t), 60)
    assert again == 3
    assert memories[-1].marked


def test_judged_power_on_the_edge_of_the_band_wears_no_register():
    _, again = judged_for(lambda t: 100.0 if t < 0 else (3.0 if t % 2 else 6.0), 600)
    assert again == 0


def test_judged_power_polled_seldom_is_waited_for():
    """Read each 20 s: the power of before the write is no disobedience."""
    memories, again = judged_for(lambda t: 100.0 if t < 20 else 0.0, 60, settle_s=23.0)
    assert again == 0
    assert not any(m.marked for m in memories)


BESS, PV = "bess1.p_set_kw", "pv1.p_limit_kw"
LAYOUT = layout_of(site())
GIVES: dict[str, Any] = {"bess1__p_kw": 0.0, "pv1__p_kw": 0.0}


def checked(
    memory: Mapping[str, Following],
    *,
    written: Mapping[str, Written] | None = None,
    asked: Sequence[str] = ("bess1", "pv1"),
    suspect: bool = False,
    **changes: Any,
) -> tuple[Mapping[str, Following], Mapping[str, Written]]:
    """One look: (memory by point, what is written)."""
    shot = snapshot(T0, 100.0, **(GIVES | changes))
    _, observed = observe(LAYOUT, ObserverMemory(), shot, {}, 1.0, {})
    stands = {BESS: Written(value=100.0, at_s=0.0, known=True)} if written is None else written
    before = EffectMemory(following=memory)
    after, out = check_effect(LAYOUT, before, stands, shot, replace(observed, suspect=suspect), asked)
    return after.following, out


OFF = Following(held=((0.0, 100.0),), off_since_s=90.0, off_kw=100.0)


def test_effect_write_that_is_not_followed_counts_as_not_confirmed():
    following, out = checked({BESS: OFF})
    assert following[BESS].retries == 1
    assert out[BESS] == Written(value=100.0, at_s=0.0, known=False)
    following, out = checked({BESS: OFF}, bess1__p_kw=100.0)
    assert following[BESS].retries == 0
    assert out[BESS].known


@pytest.mark.parametrize("limit_kw", [0.0, -20.0])
def test_effect_live_limit_is_what_it_may_be_asked_for(limit_kw: float):
    """A battery that may not discharge follows by giving nothing, whatever its setpoint says."""
    following, out = checked({BESS: OFF}, bess1__p_discharge_kw_max=limit_kw)
    assert following[BESS].off_since_s is None
    assert out[BESS].known


@pytest.mark.parametrize(
    "changes",
    [
        {"suspect": True},
        {"asked": ("pv1",)},
        {"written": {}},
        {"bess1__p_kw": None},
        {"bess1__p_charge_kw_max": None},
        {"bess1__p_discharge_kw_max": None},
        {"bess1__state": 0.0},
    ],
)
def test_effect_what_cannot_be_judged_is_forgotten_but_not_its_mark(changes):
    marked = replace(OFF, marked=True, times=2, retries=RETRIES, well_since_s=1.0)
    following, out = checked({BESS: marked}, **changes)
    assert following[BESS] == Following(off_kw=100.0, marked=True, times=2)
    assert all(w.known for w in out.values())
    assert BESS not in checked({}, **changes)[0]  # nothing is remembered of nothing


def test_effect_battery_that_forms_has_no_mark_and_its_times_are_kept():
    following, _ = checked({BESS: replace(OFF, marked=True, times=2)}, bess1__state=2.0)
    assert following[BESS] == Following(times=2)


def test_effect_write_in_doubt_is_not_judged_and_nothing_is_forgotten():
    doubt = {BESS: Written(value=100.0, at_s=0.0, known=False)}
    following, out = checked({BESS: OFF}, written=doubt)
    assert following[BESS] == OFF
    assert out == doubt


@pytest.mark.parametrize(("gives_kw", "off"), [(100.0, False), (129.9, False), (130.1, True), (0.0, False)])
def test_effect_pv_limit_is_a_limit_and_below_it_all_is_well(gives_kw: float, off: bool):
    """5 % of 600 kW are 30 kW."""
    stands = {PV: Written(value=100.0, at_s=0.0, known=True)}
    held = Following(held=((0.0, 100.0),))
    following, _ = checked({PV: held}, written=stands, pv1__p_kw=gives_kw)
    assert (following[PV].off_since_s is not None) is off


GEN = "gen1.p_set_kw"
RUNNING: dict[str, Any] = {"gen1__state": float(GensetState.RUNNING.code), "gen1__p_kw": 150.0}
BESS_ISLAND: dict[str, Any] = {
    "grid1__breaker_closed": 0.0, "grid1__v_pu": 0.0, "bess1__state": float(BessState.FORMING.code),
    "bess1__p_kw": 100.0, "bess1__p_charge_kw_max": 400.0, "bess1__p_discharge_kw_max": 400.0,
}  # fmt: skip
GEN_ISLAND: dict[str, Any] = {**BESS_ISLAND, "bess1__state": float(BessState.FOLLOWING.code)}
SET_OFF = Following(held=((0.0, 300.0),), off_since_s=90.0, off_kw=150.0)


def set_checked(
    before: Following = SET_OFF, run: float | None = 1.0, p_set_kw: float = 300.0, **changes: Any
) -> Following | None:
    """The first set, which is asked for 300 kW and gives 150, looked at once."""
    stands = {GEN: Written(value=p_set_kw, at_s=0.0, known=True)}
    if run is not None:
        stands["gen1.run_request"] = Written(value=run, at_s=0.0, known=True)
    return checked({GEN: before}, written=stands, asked=("gen1",), **(RUNNING | changes))[0].get(GEN)


@pytest.mark.parametrize("where", [{}, BESS_ISLAND], ids=["beside the mains", "beside a battery"])
def test_effect_genset_that_does_not_follow_is_written_to_again(where):
    after = set_checked(**where)
    assert after is not None
    assert after.retries == 1
    after = set_checked(**{**where, "gen1__p_kw": 285.0})
    assert after is not None
    assert (after.retries, after.off_since_s) == (0, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": 0.0},
        {"run": None},
        {"gen1__p_kw": None},
        BESS_ISLAND | {"bess1__p_kw": 399.0},
        BESS_ISLAND | {"bess1__p_kw": -399.0},
        {"grid1__breaker_closed": None, "grid1__v_pu": None},
    ],
    ids=["on its way out", "run request unknown", "unread", "battery full out", "battery full in", "no mode"],
)
def test_effect_genset_is_not_judged_where_its_power_need_not_follow(changes):
    after = set_checked(replace(SET_OFF, marked=True, times=1), **changes)
    assert after is not None
    assert (after.off_since_s, after.marked, after.retries) == (None, True, 0)


def test_effect_genset_just_on_load_has_time_to_ramp(monkeypatch: pytest.MonkeyPatch):
    """400 kW at 20 kW/s: 20 s, and the time a read takes."""
    age = [22.0]

    real = observe

    def on_load(*args: Any) -> Any:
        memory, observed = real(*args)
        sets = observed.condition.gensets
        young = {**sets, "gen1": replace(sets["gen1"], age_s=age[0])}
        return memory, replace(observed, condition=replace(observed.condition, gensets=young))

    monkeypatch.setattr("tests.unit.dispatch.test_effect.observe", on_load)
    young = set_checked()
    assert young is not None
    assert young.off_since_s is None
    age[0] = 30.0
    old = set_checked()
    assert old is not None
    assert old.retries == 1


def test_effect_genset_that_forms_has_no_mark_and_its_times_are_kept():
    assert set_checked(replace(SET_OFF, marked=True, times=2), **GEN_ISLAND) == Following(times=2)


def test_effect_genset_that_is_off_is_tried_again_after_a_while():
    """It cannot follow while it stands still, and would never be asked again."""
    off = {"gen1__state": float(GensetState.STOPPED.code), "gen1__p_kw": 0.0}
    marked = replace(SET_OFF, marked=True, times=1, well_since_s=None)
    first = set_checked(marked, **off)
    assert first is not None
    assert (first.marked, first.well_since_s) == (True, 100.0)
    later = set_checked(replace(first, well_since_s=100.0 - WELL_S), **off)
    assert later is not None
    assert (later.marked, later.times) == (False, 1)
    assert set_checked(Following(), **off) is None


def test_effect_breakers_and_run_requests_are_not_judged():
    stands = {
        p: Written(value=1.0, at_s=0.0, known=True) for p in ("gen1.run_request", "essential.close_request")
    }
    assert checked({}, written=stands, asked=("gen1", "essential"))[0] == {}


@pytest.mark.parametrize(
    ("times", "needed_s"),
    [(0, WELL_S), (1, WELL_S), (2, 120.0), (3, 240.0), (7, WELL_S_MAX), (99, WELL_S_MAX)],
)
def test_effect_each_further_mark_takes_twice_as_long_to_lose(times: int, needed_s: float):
    marked = Following(marked=True, times=times, well_since_s=10.0, retries=3, off_since_s=5.0)
    assert _well(marked, 10.0 + needed_s - 0.1).marked
    well = _well(marked, 10.0 + needed_s)
    assert (well.marked, well.retries, well.off_since_s, well.well_since_s) == (False, 0, None, 10.0)
    assert _well(replace(marked, well_since_s=None), 70.0).well_since_s == 70.0


def test_effect_mark_is_told_and_known_against_the_unit():
    memory = EffectMemory(following={BESS: Following(marked=True), PV: Following(times=3)})
    assert marks_of(memory) == {"bess1": (UnitState.NOT_EFFECTIVE,)}
    (alarm,) = effect_alarms(memory)
    assert (alarm.code, alarm.asset) == ("setpoint.not_effective", BESS)
    assert marks_of(EffectMemory()) == {}


def test_judged_goes_off_is_tried_three_times_and_then_marked():
    """Each step at its second: settled after 3 s, off for 5 s, a write each 3 s, then the mark."""
    memories, again = judged_for(lambda t: 100.0, 30)
    by_s = dict(zip(range(-10, 30), memories, strict=True))
    assert [t for t in range(30) if by_s[t].retries > by_s[t - 1].retries] == [8, 11, 14]
    assert by_s[2].off_since_s is None
    assert by_s[3].off_since_s == 3.0
    assert min(t for t in by_s if by_s[t].marked) == 17
    assert (again, memories[-1].times) == (3, 1)
