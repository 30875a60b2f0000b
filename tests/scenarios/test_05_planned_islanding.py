"""5: planned islanding: next to no power at the POI for 10 s before it opens; given up after 60 s."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from ems.commands import Cause
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.outage import OutageNotice
from ems.requests import Operate, Select, SwitchMode
from ems.site import GridMode, Site
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import MONDAY, Power
from tests.scenarios.poi import with_breaker

pytestmark = pytest.mark.scenario(5)
AT_S = 60.0
OPEN, CLOSE = "grid1.open_request", "grid1.close_permit"
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def site_of(small: Site) -> Site:
    return replace(with_breaker(small), control=ControlParams(users={"ann": frozenset({Role.OPERATOR})}))


def operated(rig: Rig, at_s: float, point: str, value: float) -> Rig:
    """ann selects and operates at the desk, so that it is done at `at_s`."""

    def operate(rig: Rig) -> None:
        token = next(str(a.token) for row in reversed(rig.log) for a in row.decisions.answers if a.token)
        rig.ask("ann", Operate(token=token), reason="work on the feeder")

    rig.at(at_s - 1.0, lambda r: r.ask("ann", Select(point=point, value=value)))
    return rig.at(at_s, operate)


def ordered(rig: Rig) -> Rig:
    """She takes the breaker in manual and orders it to be opened at AT_S."""
    rig.at(AT_S - 5.0, lambda r: r.ask("ann", SwitchMode(device="grid1", mode=ControlMode.MANUAL)))
    return operated(rig, AT_S, OPEN, 1.0)


def pairs(rig: Rig, twin: Rig, from_s: float) -> Iterator[tuple[Row, Row]]:
    """The same ticks of two runs."""
    return zip(rig.rows(from_s), twin.rows(from_s), strict=True)


def powers_kw(row: Row) -> list[float]:
    """Every power of the plant, by the truth."""
    f = row.flows
    return [f.grid_p_kw, *f.bess_p_kw.values(), *f.genset_p_kw.values(), *f.pv_p_kw.values()]


def opened_s(rig: Rig) -> float:
    return AT_S + rig.after(AT_S, lambda r: not r.flows.grid_closed)


@pytest.fixture(scope="module")
def run(small: Site) -> Rig:
    """SoC under the reserve: the rules import 200 kW and charge: there is much to balance.

    After 200 s the order is withdrawn, and the breaker permitted to close.
    """
    rig = ordered(Rig(site_of(small), load_kw=LOAD, pv_kw=30.0, options=RigOptions(soc=0.38)))
    operated(rig, AT_S + 200.0, OPEN, 0.0)
    return operated(rig, AT_S + 202.0, CLOSE, 1.0).run(500.0)


def test_planned_islanding_no_power_at_the_poi_before_it_opens(run: Rig):
    open_s, limit_kw = opened_s(run), 0.02 * run.site.grid.p_import_kw_max
    before = [abs(r.flows.grid_p_kw) for r in run.rows(open_s - 10.0, open_s)]
    assert len(before) == 10
    assert max(before) <= limit_kw
    assert run.log[int(AT_S) - 5].flows.grid_p_kw > 10.0 * limit_kw  # there was much to balance
    assert open_s - AT_S <= run.site.grid.transitions.planned_s_max


def test_planned_islanding_serves_every_load_and_is_an_island(run: Rig):
    assert run.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert run.after(opened_s(run), lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0


def test_planned_islanding_lasts_as_long_as_its_order_and_then_reconnects(run: Rig):
    assert run.held(lambda r: not r.flows.grid_closed, opened_s(run), AT_S + 199.0)
    closed_s = run.after(AT_S + 200.0, lambda r: r.flows.grid_closed)
    assert closed_s <= run.site.grid.reconnect_dwell_s + 3.0
    steps = [e["now"] for e in run.events("transition.step")]
    assert steps == ["balancing", "opening", "settling", "steady", "dwell", "closing", "ramping", "steady"]


def test_planned_islanding_what_is_written_is_whose_order_it_is(run: Rig):
    """Opened and closed in ann's name, once the plant is ready: select, operate, and the gate."""
    mine = [(r.t_s, c) for r in run.rows() for c in r.commands if c.point in (OPEN, CLOSE) and c.value == 1.0]
    assert {(c.point, c.cause, c.owner) for _, c in mine} == {
        (OPEN, Cause.OPERATOR, "ann"), (CLOSE, Cause.OPERATOR, "ann")
    }  # fmt: skip
    assert all(c.request_id and c.state_hash for _, c in mine)
    assert min(t for t, c in mine if c.point == OPEN) >= AT_S + 10.0  # not before the power was next to none
    assert min(t for t, c in mine if c.point == CLOSE) >= AT_S + 202.0


def test_planned_islanding_in_manual_nobody_reconnects_before_a_person_permits(small: Site):
    """The order is withdrawn, the mains are good: the breaker stays open until it is permitted or in auto."""
    rig = ordered(Rig(site_of(small), load_kw=LOAD, pv_kw=30.0, options=RigOptions(soc=0.6, horizon_s=500.0)))
    operated(rig, AT_S + 60.0, OPEN, 0.0).at(
        AT_S + 200.0, lambda r: r.ask("ann", SwitchMode(device="grid1", mode=ControlMode.AUTO))
    )
    rig.run(300.0)
    assert rig.held(lambda r: not r.flows.grid_closed, AT_S + 40.0, AT_S + 200.0)
    assert rig.after(AT_S + 200.0, lambda r: r.flows.grid_closed) <= 130.0
    assert rig.last.flows.grid_closed


def test_planned_islanding_that_cannot_balance_is_given_up(small: Site):
    """Load that jumps by 80 kW in every cycle: connected before, connected after, asked to open never.

    What it is after, once the load is calm again, is judged by a twin that nobody orders anything.
    """
    jumping: dict[str, Power] = {**LOAD, "critical": lambda t: 40.0 + 80.0 * (int(t) % 2) * (t < 150.0)}

    def plant() -> Rig:
        return Rig(site_of(small), load_kw=jumping, pv_kw=30.0, options=RigOptions(soc=0.5, horizon_s=300.0))

    rig, twin = ordered(plant()).run(240.0), plant().run(240.0)
    (given_up,) = rig.events("transition.given_up")
    assert (given_up["transition"], given_up["why"]) == ("T1", "not done in time")
    ended_s = AT_S + rig.after(AT_S, lambda r: r.alarmed("islanding.given_up"))
    assert ended_s - AT_S <= rig.site.grid.transitions.planned_s_max + 1.0
    assert rig.held(lambda r: r.flows.grid_closed and r.wrote(OPEN) in (0.0, None), 0.0)
    assert rig.held(lambda r: r.decisions.transition == "steady", ended_s)
    calm = {e["now"] for e in rig.events("transition.step")}
    assert calm == {"balancing"}
    moved_kw = [a.flows.bess_p_kw["bess1"] - b.flows.bess_p_kw["bess1"] for a, b in pairs(rig, twin, AT_S)]
    assert max(abs(kw) for kw in moved_kw) > 50.0  # there was something to take back
    for after, without in pairs(rig, twin, 210.0):
        for mine, other in zip(powers_kw(after), powers_kw(without), strict=True):
            assert mine == pytest.approx(other, abs=5.0), f"{after.t_s}"
        assert set(after.held) - set(without.held) <= {OPEN}
        assert after.held["pv1.p_limit_kw"] == pytest.approx(without.held["pv1.p_limit_kw"], abs=5.0)


def test_planned_islanding_that_nobody_could_carry_is_not_begun(small: Site):
    rig = ordered(Rig(site_of(small), load_kw=LOAD, options=RigOptions(soc=0.1))).run(AT_S + 70.0)
    assert rig.events("transition.step") == []
    assert rig.held(lambda r: r.flows.grid_closed)
    assert rig.held(lambda r: r.alarmed("islanding.given_up"), AT_S + 1.0)


def test_planned_islanding_ahead_of_an_announced_outage_only_tells_who_opens(small: Site):
    """The site gives the edge no say in the breaker but a permit to the controller that opens."""
    policy = replace(small.grid.transitions, island_before_s=120.0)
    site = with_breaker(small, "open_permit", transitions=policy)
    start = MONDAY + timedelta(seconds=180.0)
    notice = OutageNotice(id="work", issued_at=MONDAY, start=start, end=start + timedelta(seconds=60.0))
    rig = Rig(site, load_kw=LOAD, pv_kw=30.0, options=RigOptions(notices=(notice,))).run(100.0)
    permitted_s = rig.after(0.0, lambda r: r.wrote("grid1.open_permit") == 1.0)
    assert 60.0 + 10.0 <= permitted_s <= 60.0 + 60.0
    assert not any(c.point == OPEN for r in rig.rows() for c in r.commands)
