"""Properties of authority over sequences of cycles, everything hostile on its inputs and in its requests.

What must hold is worked out here anew, from what was read and asked alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.authority.layers import resolve
from dispatch.authority.ruling import Ruling
from dispatch.authority.stage import Given, rule
from dispatch.authority.state import AuthorityMemory, memory_of
from dispatch.layout import layout_of
from dispatch.observing.process_image import ProcessImage
from dispatch.state import Written
from dispatch.writing.gate import gate
from ems.commands import Bound, Cause, Command, Proposal
from ems.control import ControlMode
from ems.control_site import ControlParams, Interlock, InterlockEffect, LimitKind, UtilityLimit
from ems.requests import (
    Bypass,
    Confirm,
    Operate,
    Received,
    Release,
    Request,
    Select,
    SetLimit,
    SetSetpoint,
    SwitchMode,
    TellLimit,
)
from ems.telemetry import Quality, Reading
from tests.unit.dispatch.controlled import P_LIMIT, P_SET, RUN, USERS
from tests.unit.dispatch.loop import site_with
from tests.unit.dispatch.test_authority_gate import NOW, condition, gate_input

CAP, CONTACT, STOP = "grid1.p_pv_kw_max", "bus.contact_1", "bus.emergency_stop"
DEMANDS = {P_SET: 0.0, P_LIMIT: 0.0}
DOOR = Interlock(
    id="door", point=CONTACT, low=0.5, high=None, cause="open",
    effects=(
        InterlockEffect(point=P_SET, low=-20.0, high=20.0), InterlockEffect(point=RUN, low=None, high=None),
    ),
)  # fmt: skip
DSO = UtilityLimit(id="dso", kind=LimitKind.PV, watchdog_s=10.0, on_loss_kw=60.0, point=CAP)
TOLD = UtilityLimit(id="told", kind=LimitKind.BESS_DISCHARGE, watchdog_s=10.0, on_loss_kw=100.0)
PARAMS = ControlParams(users=USERS, emergency_stop=DEMANDS, interlocks=(DOOR,), limits=(DSO, TOLD))
LAYOUT = layout_of(site_with(control=PARAMS))
MAPPED = replace(LAYOUT, control=replace(LAYOUT.control, mapped=frozenset(LAYOUT.control.inputs)))
POINTS = sorted(LAYOUT.setpoints)
PEOPLE = ("ann", "bob", "eve", "dan", "dso", "guest", "mallory")
SELECTORS = {"bess1": "bess1.remote", "pv1": "pv1.remote", "gen1": "gen1.remote"}

odd = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, -1.0, 65535.0, 0.5])
number = st.one_of(odd, st.floats(-700.0, 700.0), st.just(0.0))
contact = st.one_of(st.just(1.0), st.just(1.0), st.just(0.0), st.none(), odd)
inputs = st.fixed_dictionaries(
    {STOP: st.one_of(st.just(1.0), contact), CONTACT: contact, CAP: st.one_of(st.none(), number)},
    optional={**dict.fromkeys([*SELECTORS.values(), "bus.remote"], contact), P_SET: number, P_LIMIT: number},
)
subjects = st.sampled_from(["import", "pv", "bess_charge", f"{P_SET}.high", f"{P_SET}.low", "nothing"])
modes = st.sampled_from(ControlMode)
times = st.one_of(st.none(), st.sampled_from([3.0, 20.0, 600.0, math.nan, -1.0, 1e9]))
tokens = st.sampled_from(["last", "00000000"])
points = st.sampled_from([*POINTS, "nobody.p_set_kw"])
asks = st.one_of(
    st.builds(SetSetpoint, point=points, value=number, for_s=times),
    st.builds(SwitchMode, device=st.sampled_from([None, "bess1", "pv1", "gen1"]), mode=modes, for_s=times),
    st.builds(SwitchMode, device=st.none(), mode=st.sampled_from([ControlMode.MANUAL, ControlMode.AUTO])),
    st.builds(
        SetLimit, subject=subjects, value=st.one_of(st.none(), number), break_glass=st.booleans(), for_s=times
    ),
    st.builds(SetLimit, subject=subjects, value=st.floats(0.0, 300.0)),
    st.builds(Confirm, proposal=tokens),
    st.builds(Operate, token=tokens),
    st.builds(Select, point=points, value=st.one_of(number, st.sampled_from([0.0, 1.0]))),
    st.builds(Release, point=points),
    st.builds(Bypass, interlock=st.just("door"), for_s=st.sampled_from([10.0, 1e9, math.nan])),
    st.builds(TellLimit, limit=st.sampled_from(["dso", "told"]), value_kw=number),
)  # fmt: skip
wishes = st.lists(st.tuples(points, number, st.sampled_from(Cause)), max_size=5)


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "inputs": draw(inputs),
        "asked": draw(st.lists(st.tuples(st.sampled_from(PEOPLE), asks), max_size=2)),
        "wishes": draw(wishes),
        "bound": (draw(number), draw(number)),
        "able": (draw(st.booleans()), draw(number), draw(number)),
        "dt_s": draw(st.sampled_from([1.0, 1.0, 1.0, 4.0, 30.0])),
    }


@dataclass
class Run:
    """Authority and gate, cycle after cycle; what was read last is kept by the test itself."""

    memory: AuthorityMemory = field(default_factory=lambda: memory_of(ControlMode.AUTO))
    written: dict[str, Written] = field(default_factory=dict)
    layout: Any = LAYOUT
    t_s: float = 100.0
    token: str = "00000000"
    asked: int = 0
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)  # point -> value, when

    def cycle(self, step: dict[str, Any]) -> "Cycle":
        before = self.memory
        self.t_s += step["dt_s"]
        image = ProcessImage({}, {})
        at = NOW + timedelta(seconds=self.t_s)
        image.update(
            Reading(point=p, value=v, quality=Quality.GOOD, source_time=at, arrived_s=self.t_s)
            for p, v in step["inputs"].items()
            if v is not None
        )
        snapshot = image.latch(at, self.t_s)
        for p in step["inputs"]:
            value = snapshot.value(p)
            if value is not None:
                self.seen[p] = (value, self.t_s)
        c = condition(*step["able"])
        looked = Given(
            snapshot=snapshot,
            condition=c,
            written=self.written,
            received=self._received(step["asked"]),
            held_safe=False,
            epoch=1,
            dt_s=step["dt_s"],
        )
        memory, ruling = rule(self.layout, before, looked)
        self.token = next((a.token for a in ruling.answers if a.token is not None), self.token)
        low, high = step["bound"]
        bounds = {P_SET: [Bound(point=P_SET, low=low, high=high, layer="protection", reason="")]}
        asked = [Proposal(point=p, value=v, cause=x, reason="", owner="t") for p, v, x in step["wishes"]]
        if ruling.stopping:
            asked += [
                Proposal(point=p, value=v, cause=Cause.EMERGENCY_STOP, reason="", owner="edge")
                for p, v in DEMANDS.items()
            ]
        setpoints, _ = resolve(self.layout, c, asked, bounds, self.written, NOW, ruling)
        passed = (
            gate(self.layout, s, self.written.get(s.point), gate_input(now_s=self.t_s), 1) for s in setpoints
        )
        commands = [x for x in passed if isinstance(x, Command)]
        self.memory = memory
        for x in commands:
            self.written[x.point] = Written(value=x.value, at_s=self.t_s, known=True)
        return Cycle(run=self, step=step, before=before, after=memory, ruling=ruling, commands=commands)

    def _received(self, asked: list[tuple[str, Any]]) -> list[Received]:
        out = []
        for user, ask in asked:
            self.asked += 1
            if isinstance(ask, Confirm):
                ask = Confirm(proposal=self.token if ask.proposal == "last" else ask.proposal)
            if isinstance(ask, Operate):
                ask = Operate(token=self.token if ask.token == "last" else ask.token)
            request = Request(id=f"r{self.asked}", session="s", epoch=1, ttl_s=10.0, reason="why", ask=ask)
            out.append(Received(user=user, n=self.asked, seen_s=self.t_s, request=request))
        return out

    def position(self, point: str) -> float | None:
        """What a contact was read as within the last 3 s."""
        value, at_s = self.seen.get(point, (0.0, -math.inf))
        return value if self.t_s - at_s <= 3.0 else None


@dataclass
class Cycle:
    run: Run
    step: dict[str, Any]
    before: AuthorityMemory
    after: AuthorityMemory
    ruling: Ruling
    commands: list[Command]


def runs(given_steps: list[dict[str, Any]], layout: Any = LAYOUT) -> Iterator[Cycle]:
    run = Run(layout=layout)
    for step in given_steps:
        yield run.cycle(step)


SEQUENCES = st.lists(steps(), min_size=2, max_size=10)


@settings(max_examples=40, deadline=None)
@given(SEQUENCES)
def test_sequence_of_hostile_cycles_every_command_is_inside_every_layer(given_steps):
    for one in runs(given_steps):
        available, charge, discharge = one.step["able"]
        for c in one.commands:
            a = LAYOUT.setpoints[c.point]
            assert math.isfinite(c.value)
            assert a.low <= c.value <= a.high
            if c.point == P_SET:
                ok = available and math.isfinite(charge) and math.isfinite(discharge)
                low, high = (-max(0.0, charge), max(0.0, discharge)) if ok else (0.0, 0.0)
                assert low - 1e-9 <= c.value <= high + 1e-9, "no more than the battery gives"
                door = one.run.position(CONTACT)
                if (door is None or door < 0.5) and "interlock.door" not in one.after.loosened:
                    assert -20.0 - 1e-9 <= c.value <= 20.0 + 1e-9, "unread is tripped"
            if c.point == RUN:
                door = one.run.position(CONTACT)
                assert (door is not None and door >= 0.5) or "interlock.door" in one.after.loosened
            if c.point == P_LIMIT and not one.ruling.stopping:
                cap, at_s = one.run.seen.get(CAP, (math.nan, -math.inf))
                if math.isfinite(cap) and cap >= 0.0 and at_s == one.run.t_s:
                    assert c.value <= cap + 1e-9 or _retold(one), "the utility's cap in its cycle"


def _retold(one: Cycle) -> bool:
    return any(isinstance(ask, TellLimit) and ask.limit == "dso" for _, ask in one.step["asked"])


@settings(max_examples=40, deadline=None)
@given(SEQUENCES, st.booleans())
def test_sequence_of_hostile_cycles_local_and_the_stop_hold_in_the_cycle_they_are_read(given_steps, mapped):
    for one in runs(given_steps, MAPPED if mapped else LAYOUT):
        run, written = one.run, {c.point.partition(".")[0] for c in one.commands}
        site = run.seen.get("bus.remote", (1.0, 0.0))[0] < 0.5
        for device, selector in SELECTORS.items():
            if site or run.seen.get(selector, (1.0, 0.0))[0] < 0.5:  # read in local, and not otherwise since
                assert device not in written
                assert one.ruling.silent(device), "no heartbeat either"
        stop = run.position(STOP)
        if stop is not None and stop < 0.5:
            assert {c.cause for c in one.commands} <= {Cause.EMERGENCY_STOP}
            assert all(c.value == DEMANDS[c.point] for c in one.commands)
        if mapped and not one.ruling.stopping:
            for device, selector in SELECTORS.items():
                if run.position(selector) is None:
                    assert device not in written, "a selector that cannot be read counts as local"


@settings(max_examples=40, deadline=None)
@given(SEQUENCES)
def test_sequence_of_hostile_cycles_off_by_the_stop_is_left_by_a_person_alone(given_steps):
    for one in runs(given_steps):
        if one.before.stopped and not one.after.stopped:
            people = [u for u, ask in one.step["asked"] if isinstance(ask, SwitchMode) and ask.device is None]
            assert set(people) & {"ann", "bob", "eve", "dan"}
        if one.after.stopped:
            assert set(one.ruling.modes.values()) == {ControlMode.OFF}
            assert {c.cause for c in one.commands} <= {Cause.EMERGENCY_STOP, Cause.SAFE_TABLE}


def _tighter(name: str, old: float | None, new: float | None) -> bool:
    if old is None or old == new:
        return True
    return new is not None and (new > old if name.endswith(".low") else new < old)


@settings(max_examples=40, deadline=None)
@given(SEQUENCES)
def test_sequence_of_hostile_cycles_one_person_tightens_and_two_loosen(given_steps):
    for one in runs(given_steps):
        asked = one.step["asked"]
        confirmed = any(isinstance(ask, Confirm) for _, ask in asked)
        for name, limit in one.before.limits.items():
            now = one.after.limits.get(name)
            assert confirmed or _tighter(name, limit.value, None if now is None else now.value), name
        new = set(one.after.loosened) - set(one.before.loosened)
        glass = any(getattr(ask, "break_glass", False) and u in ("eve", "dan") for u, ask in asked)
        assert not new or confirmed or glass
        for subject in new:
            loose = one.after.loosened[subject]
            assert loose.second is None or loose.second != loose.user
            assert loose.until_s - one.run.t_s <= 4 * 3600.0 + 1e-6, "always for a time"
        for answer, (_, ask) in zip(one.ruling.answers, asked, strict=True):
            if isinstance(ask, SetLimit) and answer.done and ask.value is not None and not ask.break_glass:
                high = _cap_of(one, ask.subject)
                assert high is None or high <= ask.value + 1e-9 or confirmed, "in the cycle it was asked in"


def _cap_of(one: Cycle, subject: str) -> float | None:
    if subject in ("import", "pv", "bess_charge") and subject not in one.after.loosened:
        return one.ruling.cap_kw(LimitKind(subject))
    return None


@settings(max_examples=40, deadline=None)
@given(SEQUENCES)
def test_sequence_of_hostile_cycles_a_lease_is_renewed_by_its_owner_alone(given_steps):
    for one in runs(given_steps):
        done = {
            (ask.point, user)
            for answer, (user, ask) in zip(one.ruling.answers, one.step["asked"], strict=True)
            if answer.done and isinstance(ask, SetSetpoint)
        }
        operated = any(isinstance(ask, Operate) for _, ask in one.step["asked"])
        for key, lease in one.before.leases.items():
            now = one.after.leases.get(key)
            if now is not None and not operated and key not in done:
                adopted = now.request_id == "" and now.since_s == one.run.t_s
                assert now.until_s == lease.until_s or adopted
        for key, lease in one.after.leases.items():
            assert lease.until_s > one.run.t_s, "over is over"
            assert lease.until_s <= one.run.t_s + 86_400.0 + 1e-6
            assert one.ruling.modes[key[0].partition(".")[0]] in (ControlMode.MANUAL, ControlMode.TEST)
            a = LAYOUT.setpoints[lease.point]
            assert a.low <= lease.value <= a.high
        assert done <= set(one.after.leases) | _ended(one)


def _ended(one: Cycle) -> set[tuple[str, str]]:
    """Leases that were granted and ended in one cycle: the mode changed under them."""
    return {
        (ask.point, user)
        for user, ask in one.step["asked"]
        if isinstance(ask, SetSetpoint)
        and one.ruling.modes.get(ask.point.partition(".")[0]) not in (ControlMode.MANUAL, ControlMode.TEST)
    } | {
        (ask.point, user) for user, ask in one.step["asked"] if isinstance(ask, Release)
    }  # fmt: skip
