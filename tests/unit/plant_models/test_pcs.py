import pytest

from ems.points import BessState
from plant_models import pcs
from tests import builders

PCS = builders.bess().pcs


@pytest.mark.parametrize(
    ("q", "p"), [(0.0, 550.0), (330.0, 440.0), (-330.0, 440.0), (550.0, 0.0), (600.0, 0.0)]
)
def test_p_limit_lies_on_the_circle(q, p):
    assert pcs.p_limit_kw(PCS, q) == pytest.approx(p)


def test_tripped_keeps_the_energy_and_waits():
    unit = pcs.tripped(PCS, pcs.BessUnit(BessState.FORMING, 321.0, overload_s=3.0), fault=True)
    assert unit == pcs.BessUnit(BessState.TRIPPED, 321.0, 60.0, 0.0)
    assert not unit.on
