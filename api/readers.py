"""Everything the routes ask, in one place: readers, clock, and what follows from both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import TypeVar

from api.schemas import PlanOut, PointOut, ProcessOut, ReadyOut
from ems.clock import Clock
from ems.errors import EmsError
from ems.explanation import CommitmentWhy, Explanation, SetpointWhy
from ems.plan import Plan
from ems.points import POINTS, PointSpec, point_id, split_point_id
from ems.ports import HistoryReader, InputKnowledge, PlanArchive
from ems.records import StatusRow
from ems.site import Site

T = TypeVar("T")
StatusSource = Callable[[], Mapping[str, StatusRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When something is too old to be called current."""

    edge_age_s_max: float = 15.0
    planner_age_s_max: float = 120.0


@dataclass(slots=True, kw_only=True)
class Readers:
    """The ports of the API. One read at a time: a reader need not know of threads.

    Commands and events of the history alone may be asked for beside another read, one search at a time: of a
    long time they are looked for in many files, and what is now must be told meanwhile.
    """

    site: Site
    history: HistoryReader
    plans: PlanArchive
    clock: Clock
    more_statuses: StatusSource | None = None
    inputs: InputKnowledge | None = None
    limits: Limits = field(default_factory=Limits)
    _lock: Lock = field(default_factory=Lock)
    _search_lock: Lock = field(default_factory=Lock)

    def read(self, what: Callable[[], T]) -> T:
        """Run one read."""
        with self._lock:
            return what()

    def search(self, what: Callable[[], T]) -> T:
        """Run one read of commands or events, which may take long."""
        with self._search_lock:
            return what()

    def statuses(self) -> dict[str, StatusRow]:
        """Newest status row of each process, wherever it is kept."""
        rows = dict(self.read(self.history.statuses))
        if self.more_statuses is not None:
            rows |= self.read(self.more_statuses)
        return rows

    def spec(self, point: str) -> PointSpec | None:
        """What a point of this site means, or None if the site has no such point."""
        asset_id, name = split_point_id(point)
        kind = self.site.asset_kinds().get(asset_id)
        return None if kind is None else next((s for s in POINTS[kind] if s.name == name), None)

    def points(self) -> list[PointOut]:
        """Every point of the site, in file order."""
        return [
            PointOut(
                point=point_id(asset_id, spec.name),
                path=self.path(asset_id, spec.name),
                unit=spec.unit,
                access=spec.access,
                meaning=spec.meaning,
            )
            for asset_id, kind in self.site.asset_kinds().items()
            for spec in POINTS[kind]
        ]

    def path(self, asset_id: str, name: str) -> str:
        """Full path of a point; the bus may be left out of the hierarchy."""
        hierarchy = self.site.hierarchy
        if asset_id in hierarchy.subsystem_of:
            return hierarchy.path(asset_id, name)
        return "/".join((hierarchy.organisation, hierarchy.portfolio, hierarchy.plant, asset_id, name))

    def plan_out(self, plan: Plan) -> PlanOut:
        """A plan with what a reader wants to know first."""
        now = self.clock.now()
        return PlanOut(
            valid=now < plan.valid_until,
            age_s=(now - plan.issued_at).total_seconds(),
            step_starts=plan.grid.starts(),
            plan=plan,
        )


def present_part(explanation: Explanation, now: datetime) -> Explanation:
    """What holds now: the setpoints of the step, the runs that go on, and all that is missed."""

    def holds(why: SetpointWhy | CommitmentWhy) -> bool:
        return why.start <= now < why.end

    return replace(
        explanation,
        setpoints=tuple(w for w in explanation.setpoints if holds(w)),
        commitments=tuple(c for c in explanation.commitments if holds(c)),
        worths=tuple(w for w in explanation.worths if w.step is None),
    )


def process_out(row: StatusRow, now: datetime) -> ProcessOut:
    """A status row with its age."""
    return ProcessOut(
        process=row.process,
        pid=row.pid,
        at=row.at,
        age_s=(now - row.at).total_seconds(),
        fields=dict(row.fields),
    )


def readiness(readers: Readers) -> ReadyOut:
    """Whether the data shown is current, and if not, why."""
    now = readers.clock.now()
    reasons: list[str] = []
    notes: list[str] = []
    rows: dict[str, StatusRow] = {}
    try:
        rows = readers.statuses()
        reasons += _edge_reasons(rows.get("edge"), now, readers.limits)
        if not readers.read(readers.history.latest):
            reasons.append("no reading has been stored yet")
    except (EmsError, OSError) as error:
        reasons.append(f"the historian cannot be read: {error}")
    try:
        notes += _plan_notes(readers, rows.get("planner"), now)
    except (EmsError, OSError) as error:
        reasons.append(f"the plan store cannot be read: {error}")
    processes = [process_out(row, now) for row in rows.values()]
    return ReadyOut(ready=not reasons, at=now, reasons=reasons, notes=notes, processes=processes)


def _edge_reasons(edge: StatusRow | None, now: datetime, limits: Limits) -> list[str]:
    if edge is None:
        return ["the edge has never reported"]
    age_s = (now - edge.at).total_seconds()
    if age_s > limits.edge_age_s_max:
        return [f"the edge last reported {age_s:.0f} s ago (at most {limits.edge_age_s_max:g} s)"]
    return []


def _plan_notes(readers: Readers, planner: StatusRow | None, now: datetime) -> list[str]:
    notes = []
    plan = readers.read(readers.plans.current)
    if plan is None:
        notes.append("no plan was ever published")
    elif now >= plan.valid_until:
        notes.append(f"the newest plan ran out at {plan.valid_until.isoformat()}")
    age_s = None if planner is None else (now - planner.at).total_seconds()
    if age_s is not None and age_s > readers.limits.planner_age_s_max:
        notes.append(f"the planner last reported {age_s:.0f} s ago")
    return notes
