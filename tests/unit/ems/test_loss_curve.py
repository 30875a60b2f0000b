"""Points of efficiency: the loss they say, what of it stands, and what is refused."""

import math

import pytest

from ems.loss_curve import loss_curve, point_faults, standing_loss_kw
from tests import builders

CHARGE = [(20.0, 0.9), (100.0, 0.92)]  # 2 and 8 kW lost
DISCHARGE = [(20.0, 0.8), (100.0, 0.8)]  # 5 and 25 kW lost


def test_loss_curve_is_what_a_point_loses_less_the_no_load_loss():
    charge = loss_curve(CHARGE, 1.0, charge=True)
    assert charge is not None
    assert charge.p_kw == (0.0, 20.0, 100.0)
    assert charge.loss_kw == pytest.approx((0.0, 1.0, 7.0))
    discharge = loss_curve(DISCHARGE, 1.0, charge=False)
    assert discharge is not None
    assert discharge.loss_kw == pytest.approx((0.0, 4.0, 24.0))
    assert loss_curve([], 1.0, charge=True) is None


@pytest.mark.parametrize(
    ("charge", "discharge", "kw"),
    [
        (CHARGE, [], 0.5),  # 2 - 20 (8 - 2) / 80
        (CHARGE, DISCHARGE, 0.5),  # 5 - 20 (25 - 5) / 80 = 0
        ([], DISCHARGE, 0.0),
        ([(20.0, 0.9)], [], 0.0),  # a single point says nothing of it
        ([(20.0, 0.95), (100.0, 0.9)], [], 0.0),  # 1 - 20 (10 - 1) / 80 is less than nothing
        ([(20.0, 0.9), (100.0, 0.98)], [(20.0, 0.95), (40.0, 0.95)], 1.0 / 0.95),  # 2, and 1.05 lost at 20 kW
        ([], [], 0.0),
    ],
)
def test_standing_loss_is_the_higher_extension_and_at_most_a_first_point(charge, discharge, kw):
    assert standing_loss_kw(charge, discharge) == pytest.approx(kw, abs=1e-12)


@pytest.mark.parametrize(
    ("points", "charge", "fault"),
    [
        (CHARGE, True, None),
        (DISCHARGE, False, None),
        ([(50.0, 1.0), (100.0, 1.0)], True, None),
        ([(0.0, 0.9)], True, (0, "p_kw", "more than 0 kW")),
        ([(20.0, 0.9), (20.0, 0.9)], True, (1, "p_kw", "more than 20 kW, ascending")),
        ([(20.0, math.nan)], True, (0, "eta_ratio", "more than 0, up to 1")),
        ([(20.0, 1.01)], False, (0, "eta_ratio", "more than 0, up to 1")),
        ([(20.0, 0.9), (40.0, 0.96)], True, (1, "eta_ratio", "at most 0.95,")),  # 2 kW lost, then 1.6
        ([(20.0, 0.8), (40.0, 0.9)], False, (1, "eta_ratio", "at most 0.888889,")),  # 5, then 4.4
        ([(20.0, 0.9), (40.0, 0.44)], True, (1, "eta_ratio", "more than 0.45,")),  # 18 stored, then 17.6
    ],
)
def test_point_faults_name_row_key_and_what_is_allowed(points, charge, fault):
    found = list(point_faults(points, charge=charge))
    if fault is None:
        assert not found
        return
    ((k, key, value, allowed),) = found
    assert (k, key) == fault[:2]
    assert allowed.startswith(fault[2])
    row = dict(zip(("p_kw", "eta_ratio"), points[k], strict=True))
    assert value == row[key] or math.isnan(value)


def test_battery_with_curves_is_valued_by_their_best_whatever_its_eta_says():
    charge, discharge = loss_curve(CHARGE, 0.5, charge=True), loss_curve(DISCHARGE, 0.5, charge=False)
    b = builders.battery(charge_curve=charge, discharge_curve=discharge, no_load_loss_kw=0.5)
    assert (b.eta_charge, b.eta_discharge) == pytest.approx((0.92, 0.8))
    assert (b.loss_charge_pu, b.loss_discharge_pu) == (0.0, 0.0)
    one = builders.battery(discharge_curve=discharge, no_load_loss_kw=0.5)
    assert (one.eta_charge, one.loss_charge_pu) == (0.975, 0.0173)
