"""Following a setpoint: by one judged unit, without a plant around it."""

import pytest

from dispatch.state import Written
from dispatch.writing.effect import _judged, _Unit
from dispatch.writing.effect_memory import Following


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
