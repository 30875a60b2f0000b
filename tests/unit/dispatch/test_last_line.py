"""The last line before the socket: limits tightened at every await between a decision and its last byte."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.authority.layers import intersect, layers_of
from dispatch.authority.ruling import Ruling
from dispatch.layout import Layout, Watchdog, layout_of
from dispatch.runtime import EdgeRuntime
from dispatch.state import Written
from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from dispatch.writing.last_line import Line, Newest, last_line
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.control import ControlMode
from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.points import BessState, GensetState
from ems.ports import LastWord
from ems.requests import StandingLimit
from ems.site import GridMode, Site
from ems.telemetry import Quality, Reading, Snapshot
from sim.rig import Rig, RigOptions
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import LAYOUT, NOW, anything, bounds, condition, gate_input
from tests.unit.dispatch.test_condition import BASE
from tests.unit.dispatch.test_runtime import FakeRecorder, NoPlans

BESS, PV, GEN, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request", "essential.close_request"
GEN_KW = "gen1.p_set_kw"


CALM = {
    "gen1.state": 0.0,
    "grid1.p_discharge_kw_max": 250.0,
    "bus.remote": 1.0,
    "bus.emergency_stop": 1.0,
    "grid1.p_import_kw_max": 500.0,
    "grid1.p_export_kw_max": 500.0,
}
TOLD = UtilityLimit(
    id="dso",
    kind=LimitKind.BESS_DISCHARGE,
    point="grid1.p_discharge_kw_max",
    watchdog_s=10.0,
    on_loss_kw=0.0,
)


AT_POI = tuple(
    UtilityLimit(
        id=f"tso {kind.value}",
        kind=kind,
        point=f"grid1.p_{kind.value}_kw_max",
        watchdog_s=10.0,
        on_loss_kw=0.0,
    )
    for kind in (LimitKind.IMPORT, LimitKind.EXPORT)
)


def bounded_site() -> Site:
    """A utility may tell how much the battery discharges, and what passes the POI."""
    return replace(site(), control=ControlParams(limits=(TOLD, *AT_POI)))


def with_live_limits(plant: Site) -> Layout:
    """The layout of a site whose genset controller and converter tell a live limit of theirs."""
    return replace(layout_of(plant), live_limits=("gen1.p_kw_max", "bess1.p_pcs_kw_max"))


class Fixed:
    """Wants the same in every cycle, as a plan would."""

    name = "fixed"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        def want(value: float) -> Target:
            return Target(value=value, cause=Cause.PLAN, reason="test")

        return Targets(
            source=Source.PLAN,
            bess_p_kw={"bess1": want(120.0)},
            genset_run={"gen1": want(1.0)},
            genset_p_kw={"gen1": want(180.0)},
            pv_limit_kw={"pv1": want(300.0)},
            feeder_close={"essential": want(1.0)},
        ), context.memory


@dataclass
class Racing:
    """Devices whose every answer may be the moment at which something is tightened."""

    clock: VirtualClock
    at: int  # the await in which it happens
    change: Callable[["Racing"], None]
    values: dict[str, float] = field(default_factory=lambda: {**BASE, **CALM})
    edge: EdgeRuntime | None = None
    awaits: int = 0
    changed: bool = False
    arrived: list[tuple[Command, bool]] = field(default_factory=list)  # (command, after the change)

    async def _moment(self) -> None:
        if self.awaits == self.at:
            self.change(self)
            self.changed = True
        self.awaits += 1
        await asyncio.sleep(0)

    def readings(self) -> list[Reading]:
        now, now_s = self.clock.now(), self.clock.monotonic_s()
        return [
            Reading(point=p, value=v, quality=Quality.GOOD, source_time=now, arrived_s=now_s)
            for p, v in self.values.items()
        ]

    def newest(self) -> Newest:
        return Newest(readings=self.readings())

    async def read_all(self) -> Sequence[Reading]:
        read = self.readings()
        await self._moment()
        return read

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        self.arrived += [(c, self.changed) for c in commands]
        await self._moment()
        return [
            WriteResult(command=c, outcome=WriteOutcome.CONFIRMED, detail="", finished_at=self.clock.now())
            for c in commands
        ]

    async def close(self) -> None:
        pass


class Turning(Racing):
    """The same over a wire that is held: a command waits for its turn, and is then asked again."""

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        await self._moment()
        return await super().write(commands)

    async def write_in_turn(self, commands: Sequence[Command], last_word: LastWord) -> Sequence[WriteResult]:
        out: list[WriteResult] = []
        for command in commands:
            await self._moment()
            word = last_word(command)
            if word is not None:
                out += await super().write([word])
                assert last_word(command) in (word, None), "of a command with several requests"
                continue
            refused = WriteOutcome.NOT_SENT
            out.append(WriteResult(command=command, outcome=refused, detail="", finished_at=self.clock.now()))
        return out


def bms(io: Racing) -> None:
    io.values |= {"bess1.p_discharge_kw_max": 30.0, "bess1.p_charge_kw_max": 10.0}


def island(io: Racing) -> None:
    forming = float(BessState.FORMING.code)
    io.values |= {"grid1.breaker_closed": 0.0, "grid1.v_pu": 0.0, "bess1.state": forming}


def black(io: Racing) -> None:
    io.values |= {"grid1.breaker_closed": 0.0, "bus.alive": 0.0}


def utility(io: Racing) -> None:
    io.values["grid1.p_discharge_kw_max"] = 5.0


def local(io: Racing) -> None:
    io.values["bus.remote"] = 0.0


def emergency_stop(io: Racing) -> None:
    io.values["bus.emergency_stop"] = 0.0


def held(io: Racing) -> None:
    assert io.edge is not None
    io.edge.state = replace(io.edge.state, held_safe=True)


def cranks(io: Racing) -> None:
    io.values["gen1.state"] = float(GensetState.LOCKED_OUT.code)


def converter(io: Racing) -> None:
    io.values["bess1.p_pcs_kw_max"] = 25.0


def derated(io: Racing) -> None:
    io.values["gen1.p_kw_max"] = 90.0


def limited_by(io: Racing, subject: str, value: float) -> None:
    """As a request that an operator's limit is set would leave it."""
    assert io.edge is not None
    limit = StandingLimit(subject=subject, value=value, user="ann", reason="test")
    authority = replace(io.edge.state.authority, limits={subject: limit})
    io.edge.state = replace(io.edge.state, authority=authority)


def operator(io: Racing) -> None:
    limited_by(io, f"{BESS}.high", 20.0)


def operator_pv(io: Racing) -> None:
    limited_by(io, "pv", 60.0)


def export_cap(io: Racing) -> None:
    io.values["grid1.p_export_kw_max"] = 0.0


def import_cap(io: Racing) -> None:
    io.values["grid1.p_import_kw_max"] = 0.0


RUNNING = {"gen1.state": float(GensetState.RUNNING.code), "gen1.p_kw": 160.0}
STOOD: dict[Callable[[Racing], None], dict[str, float]] = {  # what was there before, beside the rest
    derated: RUNNING,
    export_cap: {BESS: 40.0},
    import_cap: {BESS: 125.0},
}
# what may arrive at a device after the change
ALLOWED: Mapping[Callable[[Racing], None], Callable[[Command], bool]] = {
    bms: lambda c: c.point != BESS or -10.0 <= c.value <= 30.0,
    island: lambda c: c.cause in (Cause.PROTECTION, Cause.SAFE_TABLE) and c.point != BESS,
    black: lambda c: c.cause in (Cause.PROTECTION, Cause.SAFE_TABLE) and c.value == 0.0,
    utility: lambda c: c.point != BESS or c.value <= 5.0,
    local: lambda c: False,
    emergency_stop: lambda c: c.cause is Cause.EMERGENCY_STOP,
    held: lambda c: c.cause is Cause.SAFE_TABLE,
    cranks: lambda c: not (c.point == GEN and c.cause is not Cause.SAFE_TABLE),
    converter: lambda c: c.point != BESS or -25.0 <= c.value <= 25.0,
    derated: lambda c: c.point != GEN_KW or c.value <= 90.0,
    operator: lambda c: c.point != BESS or c.value <= 20.0,
    operator_pv: lambda c: c.point != PV or c.value <= 60.0,
    export_cap: lambda c: c.point != BESS or c.value <= 40.0,
    import_cap: lambda c: c.point != BESS or c.value >= 125.0,
}


async def race(change: Callable[[Racing], None], at: int, kind: type[Racing]) -> Racing:
    clock = VirtualClock(T0)
    io = kind(clock, at, change)
    io.values |= STOOD.get(change, {})
    with patch("dispatch.cycle.layout_of", with_live_limits):
        io.edge = EdgeRuntime(
            bounded_site(),
            clock=clock,
            device_io=io,
            plans=NoPlans(),
            recorder=FakeRecorder([]),
            controller=Fixed(),
            shadow=False,
            epoch=1,
            newest=io.newest,
        )
    await io.edge.cycle(1.0)
    return io


@pytest.mark.scenario(65)
@pytest.mark.scenario(66)
@pytest.mark.parametrize("kind", [Racing, Turning])
@pytest.mark.parametrize("change", ALLOWED, ids=lambda f: f.__name__)
async def test_limits_tightened_in_any_await_hold_for_every_later_write(change, kind):
    calm = await race(change, -1, kind)
    assert {c.point for c, _ in calm.arrived} >= {BESS, PV}
    if change not in STOOD:
        assert GEN in {c.point for c, _ in calm.arrived}
        assert next(c.value for c, _ in calm.arrived if c.point == BESS) == pytest.approx(120.0, abs=1.0)
    assert not all(ALLOWED[change](c) for c, _ in calm.arrived), "it would have been sent as it was"
    later = 0
    for at in range(calm.awaits):
        io = await race(change, at, kind)
        assert io.changed
        for command, after in io.arrived:
            later += after
            assert not after or ALLOWED[change](command), (change.__name__, at, command)
    assert later > 0 or change in (
        local,
        emergency_stop,
        island,
        black,
    )  # where nothing that was planned is written


async def test_dropped_write_is_audited_and_decided_anew_in_the_next_cycle():
    log: list[str] = []
    clock = VirtualClock(T0)
    io = Racing(clock, 0, local)
    recorder = FakeRecorder(log)
    edge = EdgeRuntime(
        bounded_site(), clock=clock, device_io=io, plans=NoPlans(), recorder=recorder, controller=Fixed(),
        shadow=False, epoch=1, newest=io.newest,
    )  # fmt: skip
    decisions = await edge.cycle(1.0)
    assert io.arrived == []
    assert log.count("refusal local") == len(decisions.commands)
    assert not [e for e in log if e.startswith("intent")]
    assert edge.state.written == {}
    io.values["bus.remote"] = 1.0
    io.change = lambda io: None
    clock.advance(1.0)
    await edge.cycle(1.0)
    assert {c.point for c, _ in io.arrived} == {c.point for c in decisions.commands}


async def test_narrowed_write_is_recorded_as_it_was_sent():
    recorded: list[Command] = []

    class Recorder(FakeRecorder):
        def intent(self, command: Command) -> None:
            recorded.append(command)

    clock = VirtualClock(T0)
    io = Racing(clock, 0, bms)
    edge = EdgeRuntime(
        bounded_site(), clock=clock, device_io=io, plans=NoPlans(), recorder=Recorder([]), controller=Fixed(),
        shadow=False, epoch=1, newest=io.newest,
    )  # fmt: skip
    await edge.cycle(1.0)
    (command,) = [c for c in recorded if c.point == BESS]
    assert command.value == 30.0
    assert "narrowed to 30.0 by bms" in command.reason
    assert edge.state.written[BESS] == Written(value=30.0, at_s=0.0, known=True)


RULING = Ruling(plant=ControlMode.AUTO, modes=dict.fromkeys(LAYOUT.control.points_of, ControlMode.AUTO))


def in_mode(mode: ControlMode, **changes: object) -> Ruling:
    return replace(RULING, modes=dict.fromkeys(RULING.modes, mode), **changes)  # type: ignore[arg-type]


LOCAL = replace(RULING, local=frozenset({"bess1"}))
STOPPING = in_mode(ControlMode.OFF, stopping=True)


def test_safe_table_is_bound_by_no_protection():
    """Import over its cap asks for discharge; held safe, the battery rests all the same."""
    r = Rig(site(), load_kw={"critical": 600.0}, options=RigOptions(judge=False))
    r.at(10.0, lambda r: setattr(r.runtime, "state", replace(r.runtime.state, held_safe=True))).run(30.0)
    written = [c for row in r.rows(10.0) for c in row.commands if c.point == BESS]
    assert written
    assert {(c.cause, c.value) for c in written} == {(Cause.SAFE_TABLE, 0.0)}


def line(mode: GridMode = GridMode.GRID_TIED, **changes: object) -> Line:
    values = {
        "layout": LAYOUT,
        "decided_in": GridMode.GRID_TIED,
        "condition": condition(True),
        "given": gate_input(mode),
        "bounds": {},
        "ruling": RULING,
    } | changes
    values.setdefault("snapshot", Snapshot(at=T0, monotonic_s=0.0, readings={}))
    return Line(**values)  # type: ignore[arg-type]


def command(point: str = BESS, value: float = 100.0, **changes: object) -> Command:
    values = {
        "cause": Cause.PLAN, "reason": "r", "owner": "o", "plan_id": None, "epoch": 1, "seq": 1,
        "limits_hash": "h", "decided_at": NOW, "decided_s": 100.0,
    } | changes  # fmt: skip
    return Command(point=point, value=value, **values)  # type: ignore[arg-type]


commands = st.builds(
    command,
    point=st.sampled_from([*sorted(LAYOUT.setpoints), "nobody.p_set_kw", "bess1.p_kw"]),
    value=st.floats(-500.0, 500.0),
    cause=st.sampled_from(Cause),
    state_hash=st.sampled_from(["", "a", "b"]),
    protective=st.booleans(),
)


@settings(max_examples=500, deadline=None)
@given(
    commands,
    bounds,
    st.sampled_from(GridMode),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.floats(0.0, 600.0),
    st.one_of(st.none(), st.builds(Written, value=anything, at_s=anything, known=st.booleans())),
)
def test_last_line_hostile_inputs_only_narrow(sent, bound, mode, fresh, held_safe, forming, discharge, last):
    c = condition(True, discharge=discharge)
    given_ = gate_input(mode, fresh=fresh, held_safe=held_safe, forming=forming)
    here = line(condition=c, given=given_, bounds={sent.point: [bound]})
    out = last_line(here, sent, last)
    if isinstance(out, Refusal):
        assert out.code
        return
    limits = intersect(layers_of(LAYOUT, c, out.point, {out.point: [bound]}, RULING))
    assert limits.low <= out.value <= limits.high
    assert out.value == min(max(sent.value, limits.low), limits.high)
    assert (out.point, out.seq, out.epoch, out.cause) == (sent.point, sent.seq, sent.epoch, sent.cause)
    assert not held_safe or out.cause in (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)
    assert not (forming and out.point == BESS)
    assert out.value == sent.value or out.limits_hash != sent.limits_hash


@pytest.mark.parametrize(
    ("sent", "here", "last", "expected"),
    [
        (command(), line(), None, 100.0),
        (command(), line(GridMode.ISLANDED), None, "mode_changed"),
        (command(cause=Cause.PROTECTION), line(GridMode.ISLANDED), None, 100.0),
        (command(PV, 50.0, cause=Cause.PROTECTION), line(GridMode.ISLANDED), None, "mode_changed"),
        (command(PV, 50.0), line(GridMode.ISLANDED), Written(value=50.0, at_s=0.0, known=True), 50.0),
        (
            command(PV, 51.0, cause=Cause.PROTECTION),
            line(GridMode.ISLANDED),
            Written(value=50.0, at_s=0.0, known=True),
            "mode_changed",
        ),
        (command(PV, 51.0, cause=Cause.SAFE_TABLE), line(GridMode.ISLANDED), None, 51.0),
        (command(), line(given=gate_input(forming=True)), None, "forming"),
        (command(value=0.0), line(given=gate_input(forming=True)), None, "forming"),
        (command("bess1.heartbeat"), line(), None, "not_authorised"),
        (command(GEN, 1.0, state_hash="a"), line(), None, "state_changed"),
        (command(GEN, 1.0, state_hash="a", cause=Cause.PROTECTION), line(), None, "state_changed"),
        (command(GEN, 1.0, state_hash="a", cause=Cause.SAFE_TABLE), line(), None, 1.0),
        (command(GEN, 1.0), line(), None, 1.0),
        (
            command(GEN, 1.0, state_hash="a"),
            line(given=replace(gate_input(), state_hash={"gen1": "a"})),
            None,
            1.0,
        ),
        (command(FEEDER, 0.0, state_hash="a", cause=Cause.PROTECTION), line(), None, 0.0),
        (command(FEEDER, 1.0, state_hash="a", cause=Cause.PROTECTION), line(), None, "state_changed"),
        (command(FEEDER, 0.0, state_hash="a", cause=Cause.RULES), line(), None, "state_changed"),
        (command(), line(given=gate_input(fresh=False)), None, "stale_input"),
        (command(protective=True), line(given=gate_input(fresh=False)), None, 100.0),
        (command(), line(given=gate_input(answering=False)), None, "device_offline"),
        (command(), line(ruling=LOCAL), None, "local"),
        (
            command(cause=Cause.SAFE_TABLE),
            line(ruling=LOCAL),
            None,
            "local",
        ),
        (command(), line(ruling=replace(RULING, stopping=True)), None, "stopped"),
        (
            command(value=0.0, cause=Cause.EMERGENCY_STOP),
            line(ruling=STOPPING),
            None,
            0.0,
        ),
        (command(), line(ruling=replace(RULING, blocked={BESS: "door"})), None, "blocked"),
        (command(), line(ruling=in_mode(ControlMode.MANUAL)), None, "mode_of_control"),
        (command(cause=Cause.SAFE_TABLE, value=0.0), line(ruling=in_mode(ControlMode.OFF)), None, 0.0),
        (command(value=400.0), line(), None, 250.0),
        (command(value=-400.0), line(), None, -300.0),
    ],
)
def test_last_line_table(sent, here, last, expected):
    out = last_line(here, sent, last)
    if isinstance(expected, str):
        assert isinstance(out, Refusal)
        assert (out.code, out.point, out.value, out.cause) == (expected, sent.point, sent.value, sent.cause)
        assert out.reason.endswith("(just before it was sent)")
    else:
        assert isinstance(out, Command)
        assert out.value == expected


class TestHeartbeat:
    layout = replace(LAYOUT, watchdogs={"bess1.heartbeat": Watchdog(period_s=1.0, wrap=65536)})

    def test_last_line_heartbeat_passes(self):
        beat = command("bess1.heartbeat", 7.0)
        assert last_line(line(layout=self.layout), beat, None) is beat

    def test_last_line_heartbeat_stops_while_held_safe(self):
        out = last_line(
            line(layout=self.layout, given=gate_input(held_safe=True)), command("bess1.heartbeat", 7.0), None
        )
        assert isinstance(out, Refusal)
        assert out.code == "held_safe"

    def test_last_line_heartbeat_stops_in_local(self):
        here = line(layout=self.layout, ruling=replace(RULING, local=frozenset({"bess1"})))
        out = last_line(here, command("bess1.heartbeat", 7.0), None)
        assert isinstance(out, Refusal)
        assert out.code == "local"
