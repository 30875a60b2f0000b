"""58: a foreign controller writes our register: told, yielded to, written against once a minute, no fight."""

from itertools import pairwise

import pytest

from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from ems.commands import Cause, Command
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

pytestmark = pytest.mark.scenario(58)
BESS, PV, GENSET = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.p_set_kw"
GENSET_KW = 250.0
LOAD = {"critical": 110.0, "essential": 160.0, "deferrable": 80.0}
AT_S = 60.0


class Steady:
    """Wants the same in every cycle, as a plan does; of a genset only where it is said how much."""

    name = "steady"

    def __init__(self, genset_kw: float | None = None) -> None:
        self.genset_kw = genset_kw

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        def want(value: float) -> Target:
            return Target(value=value, cause=Cause.RULES, reason="steady")

        runs = {} if self.genset_kw is None else {"gen1": want(1.0)}
        gives = {} if self.genset_kw is None else {"gen1": want(self.genset_kw)}
        bess = {"bess1": want(-40.0)}
        targets = Targets(source=Source.RULES, bess_p_kw=bess, genset_run=runs, genset_p_kw=gives)
        return targets, context.memory


def fought(
    demo: Site, point: str, value: float, every_s: float = 1.0, until_s: float = 300.0, pv_kw: float = 30.0
) -> Rig:
    """Somebody writes `value` every second from AT_S until a minute before the end."""
    genset_kw = GENSET_KW if point == GENSET else None
    options = RigOptions(gensets_on_kw={} if genset_kw is None else {"gen1": genset_kw}, soc=0.5)
    rig = Rig(demo, load_kw=LOAD, pv_kw=pv_kw, controller=Steady(genset_kw), options=options)
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


def rewrites(rig: Rig, point: str) -> list[tuple[float, Command]]:
    """(time, command) of each write to the point while somebody else writes there."""
    return [(r.t_s, c) for r in rig.rows(AT_S + 1.0, 240.0) for c in r.commands if c.point == point]


@pytest.mark.parametrize(
    ("point", "value", "pv_kw"),
    [
        (BESS, 20.0, 30.0),
        (BESS, 250.0, 30.0),
        (PV, 10.0, 30.0),
        (PV, 10.0, 400.0),
        (PV, 300.0, 30.0),
        (PV, 300.0, 400.0),  # what the protection allows is more
        (PV, 0.0, 400.0),
        (GENSET, 160.0, 30.0),
        (GENSET, 200.0, 30.0),
    ],
)
def test_foreign_writer_is_not_fought_whatever_he_writes_and_whoever_wants_more(
    demo: Site, point: str, value: float, pv_kw: float
):
    """Story: a protection raised a PV limit again each second that another master had lowered."""
    rig = fought(demo, point, value, pv_kw=pv_kw).run(240.0)
    assert rig.after(AT_S, lambda r: ("setpoint.contention", point) in alarms(r)) <= 2.0
    wrote = rewrites(rig, point)
    assert wrote
    assert not any(c.protective for _, c in wrote)
    assert all(b - a >= 60.0 for (a, _), (b, _) in pairwise(wrote)), [t for t, _ in wrote]
    if point == PV:
        assert {c.cause for _, c in wrote} == {Cause.PROTECTION}
        assert rig.held(lambda r: r.flows.pv_p_kw["pv1"] <= min(pv_kw, value + 7.5), AT_S + 3.0)


@pytest.mark.parametrize(("point", "value"), [(BESS, -90.0), (BESS, -300.0), (GENSET, 450.0), (PV, 439.0)])
def test_foreign_writer_never_keeps_what_protects_from_being_written(demo: Site, point: str, value: float):
    """Less than the other master wants is the protective direction: in each cycle, and told."""
    rig = fought(demo, point, value, pv_kw=400.0 if point == PV else 30.0).run(240.0)
    assert rig.after(AT_S, lambda r: ("setpoint.contention", point) in alarms(r)) <= 2.0
    wrote = rewrites(rig, point)
    assert len(wrote) >= 170
    assert all(c.protective and abs(c.value) < abs(value) for _, c in wrote)
    assert rig.held(lambda r: abs(r.held[point]) < abs(value), AT_S + 1.0, AT_S + 25.0)


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
