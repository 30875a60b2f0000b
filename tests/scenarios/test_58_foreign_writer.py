"""58: a foreign controller writes our register: told, yielded to, written against once a minute, no fight."""

from itertools import pairwise

import pytest

from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from ems.commands import Cause
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

pytestmark = pytest.mark.scenario(58)
BESS, PV = "bess1.p_set_kw", "pv1.p_limit_kw"
LOAD = {"critical": 110.0, "essential": 160.0, "deferrable": 80.0}
AT_S = 60.0


class Steady:
    """Wants the same in every cycle, as a plan does."""

    name = "steady"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        want = Target(value=-40.0, cause=Cause.RULES, reason="steady")
        return Targets(source=Source.RULES, bess_p_kw={"bess1": want}), context.memory


def fought(demo: Site, point: str, value: float, every_s: float = 1.0, until_s: float = 300.0) -> Rig:
    """Somebody writes `value` every second from AT_S until a minute before the end."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=30.0, controller=Steady())
    t_s = AT_S
    while t_s < until_s - 60.0:
        rig.at(t_s, lambda r: r.foreign_write(point, value))
        t_s += every_s
    return rig


def alarms(row: Row) -> set[tuple[str, str | None]]:
    return {(a.code, a.asset) for a in row.decisions.alarms}


def test_foreign_writer_told_yielded_to_and_not_fought(demo: Site):
    rig = fought(demo, BESS, -10.0).run(240.0)
    told = rig.after(
        AT_S, lambda r: any((a.code, a.asset) == ("setpoint.contention", BESS) for a in r.decisions.alarms)
    )
    assert told <= 2.0
    writes = [r.t_s for r in rig.rows(AT_S + 2.0) if r.wrote(BESS) is not None]
    assert writes  # it does not give up
    assert all(b - a >= 60.0 for a, b in pairwise(writes))
    assert len(writes) <= 3
    assert "contended" in {x.code for r in rig.rows(AT_S) for x in r.decisions.refusals}


def test_foreign_writer_gone_the_plan_is_followed_again_within_a_minute(demo: Site):
    rig = fought(demo, BESS, -10.0, until_s=180.0).run(240.0)
    assert rig.last.held[BESS] == pytest.approx(-40.0, abs=1.0)
    assert not rig.last.alarmed("setpoint.contention")


def test_foreign_writer_once_is_overwritten_after_a_minute(demo: Site):
    rig = Rig(demo, load_kw=LOAD, pv_kw=30.0, controller=Steady())
    rig.at(AT_S, lambda r: r.foreign_write(BESS, -10.0)).run(200.0)
    back = rig.after(AT_S, lambda r: abs(r.held[BESS] + 40.0) <= 1.0)
    assert 60.0 <= back <= 64.0


def test_foreign_writer_who_asks_for_more_is_corrected_at_once(demo: Site):
    """Less power than the other master wants is the protective direction."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=30.0, controller=Steady())
    rig.at(AT_S, lambda r: r.foreign_write(BESS, -90.0)).run(AT_S + 10.0)
    assert rig.after(AT_S, lambda r: abs(r.held[BESS] + 40.0) <= 1.0) <= 2.0
    assert rig.first(AT_S, lambda r: ("setpoint.contention", BESS) in alarms(r)).t_s <= AT_S + 2.0


def test_foreign_writer_protection_is_written_all_the_same(demo: Site):
    """Somebody discharges into a grid that may take nothing."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=400.0, controller="rules")
    rig.at(AT_S, lambda r: r.foreign_write(BESS, 200.0)).run(AT_S + 30.0)
    cap_kw = demo.grid.p_export_kw_max
    export_kw = [-r.flows.grid_p_kw for r in rig.rows(AT_S + 5.0)]
    assert max(export_kw) <= cap_kw + 0.05 * max(cap_kw, 100.0)


def test_own_writes_late_read_back_and_deaf_device_are_no_contention(demo: Site):
    rig = Rig(demo, load_kw=LOAD, pv_kw=30.0, controller="rules").run(300.0)
    assert rig.raised("setpoint.contention") == 0


def test_own_limit_whose_read_back_is_frozen_rises_by_its_ramp_from_what_was_sent(demo: Site):
    """Seed 6 of the soak: the registers of a PV plant stood still at a high limit while a lower one was sent.

    The read-back looks like another master's. Ramps that started there let the limit jump upwards (I4).
    """
    frozen = Fault(kind="device_frozen", target="pv1", from_s=95.0, until_s=300.0)
    rig = Rig(
        demo,
        load_kw={"critical": lambda t_s: 160.0 if t_s < 100.0 else 40.0, "essential": 5.0, "deferrable": 5.0},
        pv_kw=300.0,
        mains=[(10.0, 400.0)],
        faults=[frozen],
        options=RigOptions(soc=0.93),
    ).run(125.0)
    sent = [row.held["pv1.p_limit_kw"] for row in rig.rows(100.0)]
    rises = [b - a for a, b in pairwise(sent) if b > a]
    ramp_kw = demo.authority.setpoints["pv1.p_limit_kw"].ramp_per_s
    assert ramp_kw is not None
    assert len(rises) >= 3
    assert max(rises) <= ramp_kw + 0.1
    told_kw = rig.last.snapshot.value("pv1.p_limit_kw")
    assert told_kw is not None
    assert told_kw - sent[-1] > 10.0 * ramp_kw
