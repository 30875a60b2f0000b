"""What the edge counts of a genset's life: hours at low load, burn-offs, through a restart."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.json_codec import dumps, loads
from dispatch.layout import layout_of
from dispatch.observing.condition import observe
from dispatch.state import ObserverMemory
from ems.assets import BurnOff, LowLoad
from ems.condition import GensetDuty, GensetHour, PlantCondition
from ems.points import GensetState
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import snapshot

LOW = LowLoad(
    below_ratio=0.5, budget_h=4.0, window_h=3.0, burn_off=BurnOff(after_h=8.0, for_h=0.5, above_ratio=0.75)
)  # gen1 is of 400 kW: low below 200 kW, burning from 300 kW
PLAIN = site()
SITE = replace(PLAIN, gensets=(replace(PLAIN.gensets[0], low_load=LOW), PLAIN.gensets[1]))
LAYOUT = layout_of(SITE)


def walk(loads_kw: Sequence[float | None], dt_s: float = 600.0, memory: ObserverMemory | None = None):
    """gen1 at each load for `dt_s`, or off (None)."""
    memory, seen = ObserverMemory() if memory is None else memory, None
    begin_s = 0.0 if memory.last_s is None else memory.last_s
    for i, kw in enumerate([*loads_kw[:1], *loads_kw] if begin_s == 0.0 else loads_kw):
        now_s = begin_s + (i if begin_s == 0.0 else i + 1) * dt_s
        state = GensetState.STOPPED if kw is None else GensetState.RUNNING
        shot = snapshot(
            T0 + timedelta(seconds=now_s), now_s, gen1__state=float(state.code), gen1__p_kw=kw or 0.0
        )
        memory, seen = observe(LAYOUT, memory, shot, {}, dt_s)
    assert seen is not None
    return memory, seen.condition


def test_duty_low_load_is_counted_by_hour_of_the_clock():
    """50 min at 150 kW, 30 min at 250, 40 min off, 20 min at 150: from T0 on."""
    _, c = walk([150.0] * 5 + [250.0] * 3 + [None] * 4 + [150.0] * 2)
    duty = c.gensets["gen1"].duty
    assert [h.start for h in duty.hours] == [T0, T0 + timedelta(hours=2)]
    assert [h.low_load_h for h in duty.hours] == pytest.approx([5 / 6, 1 / 3])
    assert duty.low_load_h == pytest.approx(7 / 6)
    assert duty.burning_h == 0.0
    assert c.gensets["gen2"].duty == GensetDuty()  # nothing asks for it


def test_duty_burn_off_clears_the_count_once_it_has_lasted():
    memory, c = walk([150.0] * 3 + [320.0] * 2)
    assert c.gensets["gen1"].duty.burning_h == pytest.approx(1 / 3)
    assert c.gensets["gen1"].duty.low_load_h == pytest.approx(0.5)
    _, broken_off = walk([250.0, 320.0], memory=memory)
    assert broken_off.gensets["gen1"].duty.low_load_h == pytest.approx(0.5)
    _, whole = walk([320.0], memory=memory)
    assert whole.gensets["gen1"].duty.low_load_h == 0.0


def test_duty_hours_that_no_window_reaches_are_forgotten():
    _, c = walk([150.0] * 6 + [None] * 40)
    assert c.gensets["gen1"].duty.hours == ()
    assert c.gensets["gen1"].duty.low_load_h == pytest.approx(1.0)


def test_duty_one_long_step_is_split_over_the_hours():
    _, c = walk([150.0], dt_s=5400.0)
    assert [h.low_load_h for h in c.gensets["gen1"].duty.hours] == pytest.approx([1.0, 0.5])


def test_duty_survives_the_way_through_the_historian_and_an_old_row_has_none():
    _, c = walk([150.0] * 3)
    text = dumps(c)
    assert loads(PlantCondition, text).gensets["gen1"].duty == c.gensets["gen1"].duty
    hour = GensetHour(start=T0, low_load_h=0.5)
    assert c.gensets["gen1"].duty.hours == (hour,)
