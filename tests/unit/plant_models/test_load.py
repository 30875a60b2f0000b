import pytest

from plant_models import load
from tests import builders

CRITICAL, ESSENTIAL, _ = builders.feeders()


def test_tan_phi_of_095():
    assert load.tan_phi(ESSENTIAL) == pytest.approx(0.32868, abs=1e-5)


def test_switch_without_breaker_never_opens():
    assert load.switch(CRITICAL, load.CLOSED, False, False).closed


@pytest.mark.parametrize(("asked", "alive"), [(False, True), (True, False)])
def test_switch_opens_on_request_and_on_a_dead_bus(asked, alive):
    assert not load.switch(ESSENTIAL, load.CLOSED, asked, alive).closed


def test_step_closes_after_the_dwell_only():
    f = load.OPEN
    for _ in range(59):
        f = load.step(ESSENTIAL, f, True, 1.0)
    assert not f.closed
    assert load.step(ESSENTIAL, f, True, 1.0).closed
