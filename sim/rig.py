"""The production edge on injected clock, devices, plans and recorder, over a World: one loop, no threads.

    rig = Rig(site, load_kw={"critical": 80.0}, mains=[(60.0, 600.0)], faults=[Fault(kind="bess_trips", ...)])
    rig.run(300.0)
    assert rig.first(60.0, lambda row: row.decisions.mode is GridMode.ISLANDED).t_s <= 61.0

Every oracle is evaluated at every write and after every tick; `run` raises what they found at its end.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.controllers.build import follower_of, rules_of, rules_tou_of
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Controller, Decisions
from ems.commands import Cause, Command, Proposal
from ems.errors import EmsError
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.requests import Ask, Received, Request
from ems.site import Site
from plant_models.plant import PlantState, initial_state
from sim.drive import drive
from sim.faults import EPSILON_S, Entry, Fault, entry_of
from sim.faults.face import DeviceFace
from sim.oracles import TickSeen, Violation, Watch, WriteSeen
from sim.rig_io import Journal, RigClock, RigIO, RigPlans
from sim.rig_mind import RigMind
from sim.rig_row import Row as Row
from sim.rig_row import line_of
from sim.rig_scenario import MONDAY, Mains, Power, rig_scenario, told_beside
from sim.world import World, WorldOptions
from sim.writes import WriteVerdict

if TYPE_CHECKING:
    from sim.scenario import Scenario
    from sim.turns import PlanningTurns

CONTROLLERS: Mapping[str, Callable[[Site], Controller]] = {
    "rules": rules_of,
    "rules_tou": rules_tou_of,
    "plan": follower_of,
    "mpc": follower_of,
}
WISHES_KEPT_S = 60.0  # a wish whose time is over is still handed in: to drop it is the edge's
RECORDER_SHARE = 0.9  # of a cycle, that a slow recorder takes at most
AFTER_BREAK_S = 10.0  # the plant goes on so long after the edge broke, for what its devices do

EPOCH = 1  # of the edge


class OracleError(EmsError):
    """Oracles did not hold in a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RigOptions:
    """How a rig is set up beside the plant and its faults.

    Parameters
    ----------
    start : UTC of the first tick.
    horizon_s : longest run [s].
    soc : state of charge at the start, of every battery or by id.
    islanded_by : asset that forms an island from the start; the mains are away then unless `mains` says more.
    gensets_on_kw : sets on load at the start, with their power [kW].
    noise_ratio : standard deviation of measured powers, of the asset's rating.
    keep : rows kept at most, the newest; None: all of them.
    judge : evaluate the oracles.
    """

    start: datetime = MONDAY
    horizon_s: float = 7200.0
    soc: float | Mapping[str, float] = 0.6
    islanded_by: str | None = None
    gensets_on_kw: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[OutageNotice, ...] = ()
    shadow: bool = False
    noise_ratio: float = 0.002
    reset_s: float | None = None
    refuel_below_ratio: float | None = None
    keep: int | None = None
    judge: bool = True


class Rig:
    """One plant, one edge, some faults. Times are seconds after the start of the run.

    Parameters
    ----------
    site : the plant.
    load_kw : demand by feeder, a number or a function of seconds [kW]; 30 % of its peak where missing.
    pv_kw : potential of every PV asset, or by asset [kW].
    mains : when they are away: (from, until) or (from, until, voltage in pu) [s].
    faults : of the catalogue.
    controller : "rules", "rules_tou", "plan" (follows what `publish` gives it), "mpc" (the production planner
        plans beside it), or a controller.
    seed : of measurement noise.
    dt_s : cycle time [s].
    mind : what the edge decides with; a twin's asks its original's.
    """

    def __init__(  # noqa: PLR0913  what a test says about a plant, in one line
        self,
        site: Site,
        *,
        load_kw: Mapping[str, Power] | None = None,
        pv_kw: Mapping[str, Power] | Power = 0.0,
        mains: Mains = (),
        faults: Sequence[Fault] = (),
        controller: str | Controller = "rules",
        seed: int = 0,
        dt_s: float = 1.0,
        options: RigOptions | None = None,
        mind: RigMind | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "load_kw": load_kw,
            "pv_kw": pv_kw,
            "mains": mains,
            "seed": seed,
            "dt_s": dt_s,
        }
        self._controller = "plan" if controller == "mpc" else controller
        self.site, self.dt_s = site, dt_s
        self.options = RigOptions() if options is None else options
        o = self.options
        self.faults: list[tuple[Fault, Entry]] = [(f, entry_of(f.kind)) for f in faults]
        away: Mains = [(0.0, math.inf)] if o.islanded_by is not None and not mains else mains
        self.scenario = rig_scenario(
            site,
            load_kw={} if load_kw is None else load_kw,
            pv_kw=pv_kw,
            mains=away,
            faults=self.faults,
            start=o.start,
            horizon_s=o.horizon_s,
            notices=o.notices,
            seed=seed,
        )
        self.world = World(self.scenario, options=_world_options(o), state=_start(site, o))
        for genset, kw in o.gensets_on_kw.items():  # somebody asked them to run before this edge came
            self.world.setpoints.values |= {f"{genset}.run_request": 1.0, f"{genset}.p_set_kw": kw}
        self.face = DeviceFace(self.world, self.faults, told_beside(site))
        self.clock = RigClock(o.start, self.faults)
        self.journal = Journal(self.clock, self.faults)
        self.plans = RigPlans(site, self.clock, self.faults)
        self.io = RigIO(self.face, self.clock, self.faults, self._on_write)
        self.mind = RigMind() if mind is None else mind
        self.strangers: dict[str, str] = {}  # device -> why it is another one than was commissioned
        self.runtime = self._edge(
            CONTROLLERS[controller](site) if isinstance(controller, str) else controller
        )
        self.turns = None if controller != "mpc" else _turns(self.scenario, self.faults)
        self.watch = Watch(site)
        self.log: deque[Row] = deque(maxlen=o.keep)
        self.ticks = self.writes = self._requests = 0
        self.broken: BaseException | None = None
        self._actions: list[tuple[float, Callable[[Rig], object]]] = []
        self.wishes: list[Proposal] = []
        self._received: list[Received] = []
        self._held_safe, self._at = False, o.start
        self._held: dict[str, float] = {}
        self._hash = hashlib.sha256()

    def _edge(self, controller: Controller) -> EdgeRuntime:
        """The production edge on the ports of this rig."""
        return EdgeRuntime(
            self.site,
            clock=self.clock,
            device_io=self.io,
            plans=self.plans,
            recorder=self.journal,
            controller=controller,
            shadow=self.options.shadow,
            epoch=EPOCH,
            notices=self.options.notices,
            planner_alive=self.plans.producer_alive,
            strangers=lambda: self.strangers,
            mind=self.mind,
        )

    # ---- what a test does -----------------------------------------------------------------------

    def like(self, faults: Sequence[Fault]) -> "Rig":
        """A rig of the same plant with other faults, at its start; it judges nothing and makes no plans."""
        options = replace(self.options, judge=False, keep=1)
        mind, controller = RigMind(self.mind), self._controller
        return Rig(self.site, faults=faults, controller=controller, options=options, mind=mind, **self._given)

    def at(self, t_s: float, action: "Callable[[Rig], object]") -> "Rig":
        """Do something right before the first tick at or after `t_s`."""
        self._actions.append((t_s, action))
        self._actions.sort(key=lambda a: a[0])
        return self

    def propose(
        self, point: str, value: float, *, for_s: float | None = None, reason: str = "an operator's wish"
    ) -> None:
        """An operator's wish: alive for `for_s`, or for one cycle [unit of the point]."""
        expires_s = None if for_s is None else self.t_s + for_s
        self.wishes.append(
            Proposal(
                point=point, value=value, cause=Cause.OPERATOR, reason=reason, owner="operator",
                expires_s=expires_s,
            )
        )  # fmt: skip

    def ask(
        self, user: str, ask: Ask, *, reason: str = "an operator's request", session: str = "rig"
    ) -> None:
        """A request of a person or service, put to the edge in its next tick."""
        self._requests += 1
        request = Request(
            id=f"r{self._requests}", session=session, epoch=EPOCH, ttl_s=10.0, reason=reason, ask=ask
        )
        self._received.append(Received(user=user, n=self._requests, seen_s=self.t_s, request=request))

    def hear_as(self, other: "Rig") -> None:
        """Go on with the requests where another rig is, so that those to come have the same names."""
        self._requests, self._received = other._requests, list(other._received)

    def tell(self, point: str, value: float | None) -> None:
        """Let a device tell this instead of the truth; None: the point does not answer."""
        self.face.overrides[point] = value

    def tell_truth(self, point: str) -> None:
        """Undo `tell`."""
        self.face.overrides.pop(point, None)

    def foreign_write(self, point: str, value: float) -> WriteVerdict:
        """Another master writes to the device, past the edge."""
        return self.face.write(point, value)

    def publish(self, plan: Plan) -> None:
        """Give the edge a plan."""
        self.plans.publish(plan)

    def run(self, until_s: float, *, strict: bool = False, judge: bool = True) -> "Rig":
        """Run to `until_s`; then raise what the oracles found, at once when `strict`.

        Raises
        ------
        OracleError : oracles did not hold, or the edge broke off (not when `judge` is False).
        """
        while self.t_s < until_s - EPSILON_S and self.broken is None:
            self.step()
            if strict and self.watch.violations:
                break
        if judge and self.watch.violations:
            raise OracleError(self.report())
        return self

    # ---- what a test asks -----------------------------------------------------------------------

    @property
    def t_s(self) -> float:
        """Time reached [s]."""
        return self.world.now_s

    @property
    def last(self) -> Row:
        """The newest row."""
        return self.log[-1]

    def rows(self, from_s: float = 0.0, until_s: float = math.inf) -> Iterator[Row]:
        """Rows in [from_s, until_s)."""
        return (r for r in self.log if from_s - EPSILON_S <= r.t_s < until_s - EPSILON_S)

    def first(self, from_s: float, holds: Callable[[Row], bool]) -> Row:
        """The first row at or after `from_s` for which something holds.

        Raises
        ------
        LookupError : there is none.
        """
        for row in self.rows(from_s):
            if holds(row):
                return row
        raise LookupError(f"it does not hold in any tick from {from_s:g} s to {self.t_s:g} s")

    def after(self, from_s: float, holds: Callable[[Row], bool]) -> float:
        """Time from `from_s` until something holds first [s]; infinity when it never does."""
        return next((r.t_s - from_s for r in self.rows(from_s) if holds(r)), math.inf)

    def held(self, holds: Callable[[Row], bool], from_s: float = 0.0, until_s: float = math.inf) -> bool:
        """Whether something holds in every tick of [from_s, until_s), and there is one."""
        answers = [holds(r) for r in self.rows(from_s, until_s)]
        return bool(answers) and all(answers)

    def events(self, kind: str) -> list[Mapping[str, object]]:
        """Fields of every recorded event of a kind."""
        return [e.fields for e in self.journal.events if e.kind == kind]

    def raised(self, code: str) -> int:
        """How often an alarm whose code begins so was raised."""
        return sum(str(f.get("code", "")).startswith(code) for f in self.events("alarm.raised"))

    def unserved_kwh(self, from_s: float = 0.0, until_s: float = math.inf) -> float:
        """Demand that was not served, by the truth [kWh]."""
        return math.fsum(
            kw * r.flows.dt_s / 3600.0
            for r in self.rows(from_s, until_s)
            for kw in r.flows.unserved_kw().values()
        )

    @property
    def violations(self) -> list[Violation]:
        """What the oracles found so far."""
        return self.watch.violations

    def report(self, most: int = 10) -> str:
        """What the oracles found, in words."""
        found = self.watch.violations
        lines = [f"  {v.t_s:9.1f} s  {v.oracle}: {v.evidence}" for v in found[:most]]
        more = [f"  ... and {len(found) - most} more"] if len(found) > most else []
        return "\n".join([f"{len(found)} oracle violations:", *lines, *more])

    def digest(self) -> str:
        """Hash over everything decided, written and true so far: equal for equal runs; needs oracles on."""
        return self._hash.hexdigest()

    # ---- one tick -------------------------------------------------------------------------------

    def step(self) -> None:
        """One cycle of the edge, and the plant until the next one."""
        t_s = self.t_s
        self.clock.advance(max(0.0, t_s - self.clock.monotonic_s()))
        while self._actions and self._actions[0][0] <= t_s + EPSILON_S:
            self._actions.pop(0)[1](self)
        self.face.act()
        self._ask(t_s)
        self.journal.entered.clear()
        self.journal.refusals.clear()
        self.journal.spare_s = RECORDER_SHARE * self.dt_s
        self.io.results.clear()
        self._held_safe = self.runtime.state.held_safe
        self._at = self.clock.now()
        self.plans.decided = False
        decisions = self._decide()
        self.plans.decided = True
        self._held = dict(self.world.setpoints.values)
        if self.turns is not None and decisions is not None:
            self.turns.turn(t_s, decisions, self.plans)
        self.world.advance(t_s + self.dt_s)
        self.ticks += 1
        self._judge(t_s, decisions)
        if decisions is not None:
            self._keep(t_s, decisions)
        self.wishes = [
            p for p in self.wishes if p.expires_s is not None and p.expires_s > t_s - WISHES_KEPT_S
        ]

    def _ask(self, t_s: float) -> None:
        """What people ask, where a fault has them ask."""
        for fault, entry in self.faults:
            if entry.asks is not None and fault.holds(t_s):
                answers = self.log[-1].decisions.answers if self.log else ()
                for user, ask in entry.asks(fault, self.site, t_s, answers):
                    self.ask(user, ask, session=user)

    def _decide(self) -> Decisions | None:
        """The edge's cycle; when it breaks, the plant goes on without it for a while, watched."""
        try:
            received, self._received = tuple(self._received), []
            return drive(self.runtime.cycle(self.dt_s, tuple(self.wishes), received=received))
        except Exception as broken:  # noqa: BLE001  whatever breaks the edge is what a rig looks for
            self.broken = broken
            self.watch.broke(self.t_s, f"the edge raised {type(broken).__name__}: {broken}")
            return None

    def after_break(self) -> None:
        """Let the plant go on without its edge: its devices act by themselves, no heartbeat may move."""
        until_s = self.t_s + AFTER_BREAK_S
        while self.t_s < until_s - EPSILON_S:
            t_s = self.t_s
            self.io.results.clear()
            self.journal.entered.clear()
            self.world.advance(t_s + self.dt_s)
            self._judge(t_s, None)

    def _keep(self, t_s: float, decisions: Decisions) -> None:
        assert self.journal.snapshot is not None
        row = Row(
            t_s=t_s,
            decisions=decisions,
            results=tuple(self.io.results),
            snapshot=self.journal.snapshot,
            flows=self.world.flows,
            held=self._held,
        )
        self.log.append(row)
        if self.options.judge:  # of a twin nobody asks
            self._hash.update(line_of(row).encode())

    def _on_write(self, command: Command) -> None:
        self.writes += 1
        if not self.options.judge:
            return
        seen = WriteSeen(
            t_s=self.clock.monotonic_s(),
            dt_s=self.dt_s,
            command=command,
            snapshot=self.journal.snapshot,
            told=self.io.arrived,
            held=self.world.setpoints.values.get(command.point),
            held_safe=self._held_safe,
            shadow=self.options.shadow,
            proposals=self.wishes,
            leases=[(x.point, x.until_s) for x in self.runtime.state.authority.leases.values()],
            plans=self.plans.offered,
            entered=self.journal.entered,
            at=self.clock.now(),
        )
        self.watch.write(seen)

    def _judge(self, t_s: float, decisions: Decisions | None) -> None:
        if not self.options.judge:
            return
        seen = TickSeen(
            t_s=t_s,
            dt_s=self.dt_s,
            decisions=decisions,
            held_safe=self._held_safe,
            snapshot=self.journal.snapshot,
            results=self.io.results,
            told=self.io.arrived,
            held=self._held,
            plans=self.plans.offered,
            at=self._at,
            entered=self.journal.entered,
            beats=self.world.heartbeats,
            flows=self.world.flows,
            strangers=(*self.strangers, *self._untouched()),
            quiet_s=self._quiet_s(t_s),
        )
        blind = {o for f, e in self.faults if e.blinds and f.holds(t_s) for o, _ in e.blinds}
        self.watch.tick(seen, blind)

    def _quiet_s(self, t_s: float) -> float:
        """Since the last fault [s]."""
        ends_s = [f.until_s for f, _ in self.faults if f.from_s <= t_s]
        return max(0.0, t_s - max(ends_s, default=-math.inf))

    def _untouched(self) -> list[str]:
        """Devices that nobody has agreed to being written."""
        layout, no = self.runtime.setup.layout, self.runtime.untouched
        return [layout.device(p) for p in layout.watchdogs if p.partition(".")[0] in no]


def _world_options(o: RigOptions) -> WorldOptions:
    return WorldOptions(
        trace_s=None, noise_ratio=o.noise_ratio, reset_s=o.reset_s, refuel_below_ratio=o.refuel_below_ratio
    )


def _start(site: Site, o: RigOptions) -> PlantState:
    return initial_state(site, o.soc, gensets_on_kw=o.gensets_on_kw, islanded_by=o.islanded_by)


def _turns(scenario: "Scenario", faults: Sequence[tuple[Fault, Entry]]) -> "PlanningTurns":
    """The planner is heavy: it is loaded only by a rig that plans."""
    from sim.rig_planner import turns_of

    return turns_of(scenario, faults)
