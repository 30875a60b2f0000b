"""PV that may come back is reckoned with no sooner than its limit lets it in."""

import pytest

from dispatch.layout import layout_of
from dispatch.observing.condition import observe
from dispatch.observing.pv_return import within_ramps
from dispatch.state import ObserverMemory, Written
from ems.frozen import replace
from sim.rig import Rig, RigOptions
from tests import builders
from tests.scenarios.plants import with_ramps
from tests.unit.dispatch.test_condition import snapshot

RAMPED = layout_of(with_ramps(builders.site(), {"pv1.p_limit_kw": 6.0}))
FREE = layout_of(builders.site())


@pytest.mark.parametrize(
    ("layout", "written_kw", "told_kw", "dt_s", "reckoned_kw"),
    [
        (RAMPED, 100.0, None, 1.0, 106.0),
        (RAMPED, 100.0, None, 10.0, 160.0),
        (RAMPED, 100.0, 200.0, 1.0, 106.0),  # what was sent, before what is read back of it
        (RAMPED, None, 200.0, 1.0, 206.0),  # nothing was sent yet
        (RAMPED, None, None, 1.0, 300.0),  # nobody knows where it stands
        (RAMPED, 299.0, None, 1.0, 300.0),  # no more than there is
        (FREE, 100.0, None, 1.0, 300.0),
    ],
)
def test_pv_is_reckoned_with_what_its_limit_can_rise_to(layout, written_kw, told_kw, dt_s, reckoned_kw):
    shot = snapshot(builders.T0, 100.0, pv1__p_available_kw=300.0, pv1__p_limit_kw=told_kw)
    _, observed = observe(layout, ObserverMemory(), shot, {}, 1.0)
    written = (
        {} if written_kw is None else {"pv1.p_limit_kw": Written(value=written_kw, at_s=99.0, known=True)}
    )
    seen = within_ramps(layout, written, shot, observed, dt_s)
    assert seen.pv_available_kw == {"pv1": reckoned_kw}
    unread = replace(observed, pv_available_kw={"pv1": None})
    assert within_ramps(layout, written, shot, unread, dt_s).pv_available_kw == {"pv1": None}


def sun(t_s: float) -> float:
    return 60.0 if 40.0 <= t_s < 80.0 else 400.0


def test_battery_charges_no_faster_than_the_limit_lets_pv_in():
    """The limit was lowered with the sun, and the sun is back in one second."""
    site = with_ramps(builders.site(), {"pv1.p_limit_kw": 6.0})
    load = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
    rig = Rig(site, load_kw=load, pv_kw=sun, options=RigOptions(noise_ratio=0.0)).run(110.0)
    assert max(r.flows.grid_p_kw for r in rig.rows(45.0)) <= 30.0
    assert rig.last.flows.pv_p_kw["pv1"] > 200.0
