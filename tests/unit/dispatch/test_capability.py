"""No reactive setpoint outside a converter's P-Q polygon, whoever asks and however active power moves."""

import random
from dataclasses import replace

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import observe
from dispatch.protections.balancing_memory import ReactivePace
from dispatch.protections.bus import KVAR_PER_KW, PCS_P_RATIO, look_at
from dispatch.protections.reactive import reactive
from dispatch.state import EdgeState, ObserverMemory, Written
from dispatch.vocabulary import Source, Target, Targets
from dispatch.writing.capability import within_capability
from dispatch.writing.commands import Asked, gate_input_of, write
from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence, PcsParams
from ems.capability import capability_of
from ems.commands import Cause, Command, Proposal, Setpoint
from ems.control import ControlMode
from ems.points import BessState
from ems.reactive import ReactiveControl
from ems.site import Authority, GridMode, SetpointAuthority, Site
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import condition
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_last_line import RULING

P, Q, Q_PV = "bess1.p_set_kw", "bess1.q_set_kvar", "pv1.q_set_kvar"
KITE = capability_of([(-500.0, 0.0), (0.0, -200.0), (500.0, 0.0), (0.0, 400.0)])
SUNNY = capability_of([(0.0, 0.0), (200.0, -300.0), (600.0, -200.0), (600.0, 200.0), (200.0, 300.0)])


def cornered(ramp_per_s: float | None = None, low: float = -300.0) -> Site:
    """Battery and PV plant with polygons of their own and authority over their kvar."""
    plain = site()
    setpoints = dict(plain.authority.setpoints)
    for point in (Q, Q_PV):
        setpoints[point] = SetpointAuthority(
            point=point, low=low, high=400.0, ramp_per_s=ramp_per_s, deadband=5.0, refresh_s=60.0,
            safety=ActuatorSafety(
                grid_tied=0.0, islanded=0.0, black=None,
                behaviour=DeviceBehaviour(timeout_s=300.0, on_silence=OnSilence.VALUE, value=0.0),
            ),
        )  # fmt: skip
    unit, sun = plain.bess[0], plain.pv[0]
    return replace(
        plain,
        bess=(replace(unit, pcs=replace(unit.pcs, capability=KITE, reactive=ReactiveControl())),),
        pv=(replace(sun, s_kva=650.0, capability=SUNNY, reactive=ReactiveControl()),),
        authority=Authority(setpoints=setpoints),
    )


LAYOUT = layout_of(cornered())


def setpoint(value: float, point: str = Q, low: float = -300.0) -> Setpoint:
    return Setpoint(
        point=point, value=value, low=low, high=400.0, cause=Cause.PLAN, reason="r", owner="o",
        plan_id=None, protective=False, limits_hash="h",
    )  # fmt: skip


def at(kw: float) -> dict[str, Written]:
    return {P: Written(value=kw, at_s=0.0, known=True)}


@pytest.mark.parametrize(
    ("before_kw", "now_kw", "asked", "value"),
    [
        (250.0, 250.0, 300.0, 200.0),  # half of the 400 at 0 kW
        (250.0, 250.0, -300.0, -100.0),
        (-250.0, -250.0, 150.0, 150.0),
        (0.0, 400.0, 300.0, 80.0),  # power rises: the kvar are those of the new one
        (400.0, 0.0, 300.0, 80.0),  # and falls: until the device has heard of it, those of the old one
    ],
)
def test_within_capability_kvar_is_what_the_polygon_leaves(
    before_kw: float, now_kw: float, asked: float, value: float
):
    got = within_capability(LAYOUT, setpoint(asked), at(before_kw), at(now_kw), condition(True))
    assert got.value == pytest.approx(value)
    assert got.low <= got.value <= got.high
    assert ("limited to" in got.reason) == (value != asked)


def test_within_capability_without_a_written_power_goes_by_the_measured_one():
    c = condition(True)
    bess = {"bess1": replace(c.bess["bess1"], p_kw=250.0)}
    got = within_capability(LAYOUT, setpoint(300.0), {}, {}, replace(c, bess=bess, pv_kw={"pv1": 100.0}))
    assert got.value == pytest.approx(200.0)
    got = within_capability(LAYOUT, setpoint(300.0, Q_PV), {}, {}, replace(c, pv_kw={"pv1": 100.0}))
    assert got.value == pytest.approx(150.0)


def test_within_capability_what_stands_outside_comes_back_free_of_ramp_and_deadband():
    stands = {**at(250.0), Q: Written(value=201.0, at_s=0.0, known=True)}
    assert within_capability(LAYOUT, setpoint(200.0), stands, stands, condition(True)).protective
    stands[Q] = Written(value=199.0, at_s=0.0, known=True)
    assert not within_capability(LAYOUT, setpoint(200.0), stands, stands, condition(True)).protective


@pytest.mark.parametrize("point", [P, "bess1.pf_set", "gen1.p_set_kw"])
def test_within_capability_leaves_every_other_setpoint(point: str):
    s = setpoint(400.0, point)
    assert within_capability(LAYOUT, s, {}, {}, condition(True)) is s
    plain = layout_of(site())
    assert within_capability(plain, setpoint(400.0), {}, {}, condition(True)) == setpoint(400.0)


def cycle(
    layout: Layout, state: EdgeState, wishes: list[Proposal], t: float, pv_kw: float, bess_kw: float
) -> tuple[EdgeState, tuple[Command, ...]]:
    shot = snapshot(T0, t, pv1__p_kw=pv_kw, bess1__p_kw=bess_kw)
    _, observed = observe(layout, ObserverMemory(mode=GridMode.GRID_TIED), shot, {}, 1.0, {})
    given = gate_input_of(layout, state, observed, shot, 1.0)
    ruling = replace(RULING, modes=dict.fromkeys(layout.control.points_of, ControlMode.AUTO))
    written, commands, _ = write(
        layout, state, observed, shot, Asked(proposals=wishes, bounds={}, ruling=ruling), given
    )
    return replace(state, written=written), commands


@pytest.mark.parametrize("seed", range(12))
def test_gate_never_lets_kvar_outside_the_polygon_pass(seed: int):
    """Wishes of plan, rules and protection, ramps, deadbands, powers that jump: asked after each cycle."""
    rng = random.Random(seed)
    layout = layout_of(cornered(ramp_per_s=rng.choice([None, 20.0, 300.0]), low=rng.choice([-300.0, -30.0])))
    state, seen, cut = EdgeState(epoch=1), 0, 0
    for k in range(60):
        pv_kw, bess_kw = rng.uniform(0.0, 600.0), rng.uniform(-500.0, 500.0)
        cause = rng.choice([Cause.PLAN, Cause.RULES, Cause.PROTECTION])
        wishes = [
            Proposal(point=p, value=rng.uniform(-w, w), cause=cause, reason="r", owner="o")
            for p, w, often in ((P, 600.0, 0.5), (Q, 450.0, 1.0), (Q_PV, 450.0, 1.0))
            if rng.random() < often
        ]
        state, commands = cycle(layout, state, wishes, 100.0 + k, pv_kw, bess_kw)
        p_kw = state.written[P].value if P in state.written else bess_kw
        assert KITE.over_kva(p_kw, state.written[Q].value) <= 1e-6
        assert SUNNY.over_kva(pv_kw, state.written[Q_PV].value) <= 1e-6
        seen += sum(c.point in (Q, Q_PV) for c in commands)
        cut += sum("by the P-Q capability" in c.reason for c in commands)
    assert seen > 20
    assert cut > 5


def test_authority_that_leaves_no_room_in_the_polygon_is_refused():
    """At least 150 kvar by the site file, none at full power: neither is written."""
    layout = layout_of(cornered(low=150.0))
    wishes = [
        Proposal(point=p, value=v, cause=Cause.PLAN, reason="r", owner="o")
        for p, v in ((P, 500.0), (Q, 200.0))
    ]
    state, commands = cycle(layout, EdgeState(epoch=1, written=at(500.0)), wishes, 100.0, 0.0, 500.0)
    assert Q not in state.written
    assert not [c for c in commands if c.point == Q]


# --- the choice of kvar -------------------------------------------------------------------------------------


def paced(known: ReactivePace | None, p_kw: float, now_s: float, wish: float = 300.0) -> ReactivePace:
    shot = snapshot(T0, now_s, bess1__p_kw=p_kw, pv1__p_kw=0.0)
    _, observed = observe(LAYOUT, ObserverMemory(mode=GridMode.GRID_TIED), shot, {}, 1.0, {})
    wishes = Targets(
        source=Source.PLAN, plan_id="p", q_kvar={"bess1": Target(value=wish, cause=Cause.PLAN, reason="plan")}
    )
    before = {} if known is None else {"bess1": known}
    paces, targets = reactive(LAYOUT, before, observed, wishes, (now_s, 1.0))
    assert targets["q_kvar"]["bess1"].value == paces["bess1"].value
    return paces["bess1"]


def test_chosen_kvar_give_way_to_power_at_once_and_stay_until_the_next_choice():
    first = paced(None, 0.0, 100.0)
    assert first.q_kvar == pytest.approx(300.0)
    second = paced(first, 375.0, 101.0)
    assert second.q_kvar == pytest.approx(100.0)
    assert "outside the converter's capability" in second.why
    third = paced(second, 0.0, 102.0)
    assert (third.q_kvar, third.why) == (second.q_kvar, second.why)
    fourth = paced(replace(third, chosen_s=40.0, mean_kw=0.0), 125.0, 103.0)
    assert fourth.q_kvar == pytest.approx(300.0), "of the mean there is room, and beside the power of now"
    fifth = paced(replace(third, chosen_s=40.0, mean_kw=0.0), 250.0, 103.0)
    assert fifth.q_kvar == pytest.approx(200.0)


def test_chosen_kvar_of_a_converter_without_corners_stand_still():
    plain = layout_of(replace(cornered(), bess=(replace(cornered().bess[0], pcs=_round()),)))
    shot = snapshot(T0, 101.0, bess1__p_kw=500.0)
    _, observed = observe(plain, ObserverMemory(mode=GridMode.GRID_TIED), shot, {}, 1.0, {})
    known = ReactivePace(q_kvar=300.0, value=300.0, why="w", cause=Cause.PLAN, chosen_s=100.0)
    paces, _ = reactive(plain, {"bess1": known}, observed, Targets(source=Source.RULES), (101.0, 1.0))
    assert paces["bess1"].q_kvar == 300.0


def _round() -> PcsParams:
    return replace(cornered().bess[0].pcs, capability=None)


# --- an island ----------------------------------------------------------------------------------------------


def test_forming_battery_counts_on_what_its_polygon_leaves_beside_the_kvar_of_a_load():
    """At power factor 0.95: a p + 0.3287 b p = c on the sides of the kite, not 95 % of the rating."""
    shot = snapshot(
        T0, 100.0, grid1__breaker_closed=0.0, bess1__state=float(list(BessState).index(BessState.FORMING))
    )
    rooms = []
    for layout in (LAYOUT, layout_of(site())):
        _, observed = observe(layout, ObserverMemory(mode=GridMode.ISLANDED), shot, {}, 1.0, {})
        bus = look_at(layout, observed, {}, 1.0)
        assert bus.forming_bess == ("bess1",)
        rooms.append((bus.up_later_kw, bus.down_kw))
    most_kw = 1.0 / (1.0 / 500.0 + KVAR_PER_KW / 400.0)
    assert PCS_P_RATIO * 550.0 > 500.0
    assert rooms[0] == pytest.approx((most_kw, most_kw))
    assert min(rooms[1]) > most_kw
