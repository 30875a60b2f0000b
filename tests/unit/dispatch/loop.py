"""A tick and the physics in a closed loop, without runtime, clock or event loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dispatch.cycle import EdgeSetup, tick
from dispatch.observing.process_image import ProcessImage
from dispatch.state import EdgeState
from dispatch.vocabulary import Controller, Decisions, TickInput
from ems.commands import Command
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.prices import DayPrices
from ems.requests import Answer, Ask, Received, Request
from ems.site import Site
from ems.telemetry import UNKNOWN, Quality, Reading, UtcState
from plant_models.plant import PlantFaults, PlantFlows, PlantInput, PlantState, initial_state, step
from tests.builders import T0, site


@dataclass
class World:
    """What the plant is exposed to; change the fields while it runs."""

    mains: bool = True
    demand_kw: dict[str, float] = field(
        default_factory=lambda: {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
    )
    pv_kw: dict[str, float] = field(default_factory=lambda: {"pv1": 0.0})
    faults: PlantFaults = field(default_factory=PlantFaults)
    silent: frozenset[str] = frozenset()  # points or assets without a reading
    inputs: dict[str, float] = field(default_factory=dict)  # contacts, selectors, caps told


class Loop:
    """Edge and plant. `run(seconds, dt)` alternates tick and physics."""

    def __init__(
        self,
        controller: Controller,
        *,
        soc: float = 0.6,
        plant_site: Site | None = None,
        start: datetime = T0,
        state: PlantState | None = None,
        outages: tuple[OutageNotice, ...] = (),
    ) -> None:
        self.site = site() if plant_site is None else plant_site
        self.setup = EdgeSetup(site=self.site, controller=controller, shadow=False)
        self.edge = EdgeState(epoch=1)
        self.world = World()
        self.plant = initial_state(self.site, soc) if state is None else state
        self.set: dict[str, float] = {}
        self.plan: Plan | None = None
        self.outages = outages
        self.planner_alive = True
        self.prices: DayPrices | None = None
        self.announced: tuple[OutageNotice, ...] = ()
        self.utc, self.doubt = UtcState.VALID, UNKNOWN
        self.asked = 0
        self.inbox: list[Received] = []  # for the next tick
        self.start, self.t = start, 0.0
        self.flows: PlantFlows | None = None
        self.log: list[tuple[float, Decisions, PlantFlows]] = []
        self.violations: list[tuple[float, str, str, float]] = []

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.t)

    def physics(self, dt_s: float) -> PlantFlows:
        w = self.world
        by = _by_name(self.set)
        given = PlantInput(
            mains_present=w.mains,
            demand_kw=w.demand_kw,
            pv_potential_kw=w.pv_kw,
            bess_p_set_kw={k: v for k, v in by("p_set_kw").items() if k.startswith("bess")},
            genset_run_request={k: v >= 0.5 for k, v in by("run_request").items()},
            genset_p_set_kw={k: v for k, v in by("p_set_kw").items() if k.startswith("gen")},
            pv_limit_kw=by("p_limit_kw"),
            feeder_close={k: v >= 0.5 for k, v in by("close_request").items()},
            faults=w.faults,
        )
        self.plant, flows = step(self.site, self.plant, given, dt_s)
        self.t += dt_s
        self.flows = flows
        self.violations += [(self.t, v.kind.value, v.asset, v.amount) for v in flows.violations]
        return flows

    def tick(self, dt_s: float) -> Decisions:
        assert self.flows is not None
        image = ProcessImage({}, {})
        image.update(
            Reading(point=p, value=v, quality=Quality.GOOD, source_time=self.now, arrived_s=self.t)
            for p, v in {**self.flows.readings(), **self.world.inputs}.items()
            if p not in self.world.silent and p.partition(".")[0] not in self.world.silent
        )
        given = TickInput(
            snapshot=image.latch(self.now, self.t, self.utc, self.doubt),
            plan=self.plan,
            outages=self.outages,
            dt_s=dt_s,
            planner_alive=self.planner_alive,
            received=tuple(self.inbox),
            prices=self.prices,
            announced=self.announced,
        )
        self.inbox = []
        self.edge, decisions = tick(self.setup, self.edge, given)
        for c in decisions.commands:
            self.set[c.point] = c.value
        return decisions

    def run(
        self, seconds: float, dt_s: float = 1.0, each: Callable[["Loop"], None] | None = None
    ) -> Decisions:
        if self.flows is None:
            self.physics(min(1.0, dt_s))
        end = self.t + seconds
        decisions = None
        while self.t < end - 1e-9:
            if each is not None:
                each(self)
            decisions = self.tick(dt_s)
            self.log.append((self.t, decisions, self.physics(dt_s)))
        assert decisions is not None
        return decisions

    def site_feeders(self) -> list[str]:
        return [f.id for f in self.site.feeders]

    def served_kw(self, feeder: str) -> float:
        assert self.flows is not None
        return self.flows.feeder_p_kw[feeder]

    def unserved_kwh(self, feeder: str) -> float:
        return sum(f.unserved_kw()[feeder] * f.dt_s / 3600.0 for _, _, f in self.log)

    def ask(
        self, user: str, ask: Ask, *, key: str = "", reason: str = "test", session: str = "s1", epoch: int = 1
    ) -> Answer:
        """Put a request in, let one second pass, and return its answer."""
        self.asked += 1
        request = Request(
            id=key if key else f"r{self.asked}",
            session=session,
            epoch=epoch,
            ttl_s=10.0,
            reason=reason,
            ask=ask,
        )
        self.inbox.append(Received(user=user, n=self.asked, seen_s=self.t, request=request))
        (answer,) = self.run(1.0).answers
        return answer

    def last(self, point: str) -> Command | None:
        """The command for a point in the newest tick."""
        found = [c for c in self.log[-1][1].commands if c.point == point]
        return found[0] if found else None

    def events(self, kind: str) -> list[Mapping[str, object]]:
        return [e.fields for _, d, _ in self.log for e in d.events if e.kind == kind]


def _by_name(values: Mapping[str, float]) -> Callable[[str], dict[str, float]]:
    def pick(name: str) -> dict[str, float]:
        return {p.partition(".")[0]: v for p, v in values.items() if p.endswith("." + name)}

    return pick


def site_with(**changes: object) -> Site:
    return replace(site(), **changes)  # type: ignore[arg-type]
