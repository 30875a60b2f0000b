"""The routes: each reads, none writes."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.answers import ERRORS, answer, page_of
from api.errors import ErrorAnswer, finite
from api.queries import (
    CommandsQuery,
    EventsQuery,
    ExplanationQuery,
    HistoryQuery,
    NoParameters,
    RecordedQuery,
    Window,
    WindowQuery,
    every_of,
    window_of,
)
from api.readers import Readers, present_part, readiness
from api.schemas import (
    BucketOut,
    CommandsOut,
    EventOut,
    EventsOut,
    ExplanationOut,
    HealthOut,
    HistoryOut,
    PlanOut,
    PlansOut,
    ReadingOut,
    ReadyOut,
    RecordedOut,
    SampleOut,
    SiteOut,
    SnapshotOut,
)
from ems.condition import PlantCondition
from ems.telemetry import Reading

T = TypeVar("T")
_CONDITION = TypeAdapter(PlantCondition)
_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": "there is none"}}


def health_routes(readers: Readers) -> APIRouter:
    """Liveness and readiness."""
    router = APIRouter(tags=["health"], responses=ERRORS)

    @router.get("/health", response_model=HealthOut)
    def health(_: NoParameters) -> Response:
        """The process answers. Says nothing about the plant; that is /ready."""
        return answer(HealthOut(status="live", at=readers.clock.now()))

    @router.get("/ready", response_model=ReadyOut, responses={503: {"model": ReadyOut}})
    def ready(_: NoParameters) -> Response:
        """Whether what is shown is current; 503 with reasons if not."""
        out = readiness(readers)
        return answer(out, 200 if out.ready else 503)

    return router


def plant_routes(readers: Readers) -> APIRouter:
    """The plant as it is configured, and as it is now."""
    router = APIRouter(prefix="/api/v1", tags=["plant"], responses=ERRORS)
    site = readers.site

    @router.get("/site", response_model=SiteOut)
    def get_site(_: NoParameters) -> Response:
        """Nameplate, limits, tariff and every point."""
        return answer(
            SiteOut(
                name=site.name,
                timezone=site.timezone,
                currency=site.currency,
                organisation=site.hierarchy.organisation,
                portfolio=site.hierarchy.portfolio,
                latitude_deg=site.latitude_deg,
                longitude_deg=site.longitude_deg,
                grid=site.grid,
                bess=list(site.bess),
                gensets=list(site.gensets),
                pv=list(site.pv),
                feeders=list(site.feeders),
                tariff=site.tariff,
                points=readers.points(),
            )
        )

    @router.get("/snapshot", response_model=SnapshotOut)
    def snapshot(_: NoParameters) -> Response:
        """The newest reading of every point, with quality and age."""
        now = readers.clock.now()
        latest = readers.read(readers.history.latest)
        return answer(SnapshotOut(at=now, readings={p: _reading(readers, r, now) for p, r in latest.items()}))

    @router.get("/condition", response_model=PlantCondition, responses=_MISSING)
    def condition(_: NoParameters) -> Response:
        """What the edge makes of the readings: grid mode, who forms the grid, what is available."""
        found = readers.read(readers.history.condition)
        if found is None:
            raise HTTPException(404, "the edge has not completed a cycle yet")
        return JSONResponse(finite(_CONDITION.dump_python(found, mode="json")))

    return router


def _reading(readers: Readers, reading: Reading, now: datetime) -> ReadingOut:
    spec = readers.spec(reading.point)
    return ReadingOut(
        value=reading.value,
        quality=reading.quality,
        unit="" if spec is None else spec.unit,
        source_time=reading.source_time,
        age_s=(now - reading.source_time).total_seconds(),
    )


def plan_routes(readers: Readers) -> APIRouter:
    """The current plan and past ones."""
    router = APIRouter(prefix="/api/v1", tags=["plans"], responses=ERRORS)

    @router.get("/plan", response_model=PlanOut, responses=_MISSING)
    def plan(_: NoParameters) -> Response:
        """The newest plan."""
        found = readers.read(readers.plans.current)
        if found is None:
            raise HTTPException(404, "no plan was ever published")
        return answer(readers.plan_out(found))

    @router.get("/plan/explanation", response_model=ExplanationOut, responses=_MISSING)
    def explanation(query: Annotated[ExplanationQuery, Query()]) -> Response:
        """Why the newest plan is as it is. Explaining takes its time: 404 until it is done."""
        found = readers.read(readers.plans.current)
        if found is None:
            raise HTTPException(404, "no plan was ever published")
        return _explained(readers, found.plan_id, query)

    @router.get("/plans", response_model=PlansOut)
    def plans(query: Annotated[WindowQuery, Query()]) -> Response:
        """One line about each plan issued in a window, newest first."""
        w = window_of(query, readers.clock.now())
        rows, truncated = page_of(
            readers.read(lambda: readers.plans.summaries(w.start, w.end, w.limit + 1)), w
        )
        return answer(PlansOut(start=w.start, end=w.end, truncated=truncated, plans=rows))

    @router.get("/plans/{plan_id}", response_model=PlanOut, responses=_MISSING)
    def plan_by_id(plan_id: str, _: NoParameters) -> Response:
        """One past plan."""
        found = readers.read(lambda: readers.plans.get(plan_id))
        if found is None:
            raise HTTPException(404, "there is no plan of this id")
        return answer(readers.plan_out(found))

    @router.get("/plans/{plan_id}/explanation", response_model=ExplanationOut, responses=_MISSING)
    def explanation_by_id(plan_id: str, query: Annotated[ExplanationQuery, Query()]) -> Response:
        """Why one past plan was as it was."""
        if readers.read(lambda: readers.plans.get(plan_id)) is None:
            raise HTTPException(404, "there is no plan of this id")
        return _explained(readers, plan_id, query)

    return router


def _explained(readers: Readers, plan_id: str, query: ExplanationQuery) -> Response:
    found = readers.read(lambda: readers.plans.explanation(plan_id))
    if found is None:
        raise HTTPException(404, "this plan is not explained, or not yet")
    current = readers.read(readers.plans.current)
    return answer(
        ExplanationOut(
            plan_id=plan_id,
            current=current is not None and current.plan_id == plan_id,
            explanation=present_part(found, readers.clock.now()) if query.present else found,
        )
    )


def _samples(readers: Readers, point: str, w: Window) -> tuple[list[SampleOut], list[BucketOut], bool]:
    rows, truncated = page_of(
        readers.read(lambda: readers.history.series(point, w.start, w.end, w.limit + 1)), w
    )
    samples = [SampleOut(at=s.at, value=s.value, quality=s.quality, source_time=s.source_time) for s in rows]
    return samples, [], truncated


def _buckets(
    readers: Readers, point: str, w: Window, every_s: int
) -> tuple[list[SampleOut], list[BucketOut], bool]:
    """Buckets that touch the window; no more of it is read than fits into the answer."""
    start = w.start - timedelta(seconds=w.start.timestamp() % every_s)
    end = min(w.end, start + timedelta(seconds=every_s * w.limit))
    rows = readers.read(lambda: readers.history.buckets(point, start, end, every_s))
    return [], [BucketOut(**asdict(b)) for b in rows], end < w.end


def record_routes(readers: Readers) -> APIRouter:
    """History, commands and events."""
    router = APIRouter(prefix="/api/v1", tags=["records"], responses=ERRORS)

    @router.get("/history", response_model=HistoryOut, responses=_MISSING)
    def history(query: Annotated[HistoryQuery, Query()]) -> Response:
        """Stored readings of one point, oldest first; with `every_s` or `max_points` buckets of them."""
        spec = readers.spec(query.point)
        if spec is None:
            raise HTTPException(404, "the site has no such point; /api/v1/site lists them")
        w = window_of(query, readers.clock.now())
        every_s = every_of(query, w)
        if every_s is None:
            samples, buckets, truncated = _samples(readers, query.point, w)
        else:
            most = w.limit if query.max_points is None else query.max_points
            samples, buckets, truncated = _buckets(readers, query.point, replace(w, limit=most), every_s)
        return answer(
            HistoryOut(
                point=query.point,
                unit=spec.unit,
                start=w.start,
                end=w.end,
                truncated=truncated,
                every_s=every_s,
                samples=samples,
                buckets=buckets,
            )
        )

    @router.get("/recorded", response_model=RecordedOut, responses=_MISSING)
    def recorded(query: Annotated[RecordedQuery, Query()]) -> Response:
        """What a device recorded of one point by itself, at its own time, oldest first."""
        spec = readers.spec(query.point)
        if spec is None:
            raise HTTPException(404, "the site has no such point; /api/v1/site lists them")
        w = window_of(query, readers.clock.now())
        found = readers.read(lambda: readers.history.recorded(query.point, w.start, w.end, w.limit + 1))
        rows, truncated = page_of(found, w)
        return answer(
            RecordedOut(
                point=query.point, unit=spec.unit, start=w.start, end=w.end, truncated=truncated, samples=rows
            )
        )

    @router.get("/commands", response_model=CommandsOut)
    def commands(query: Annotated[CommandsQuery, Query()]) -> Response:
        """What was commanded or refused, why, and what became of it, newest first."""
        w = window_of(query, readers.clock.now())
        found = readers.search(lambda: readers.history.commands(w.start, w.end, query.point, w.limit + 1))
        rows, truncated = page_of(found, w)
        return answer(CommandsOut(start=w.start, end=w.end, truncated=truncated, commands=rows))

    @router.get("/events", response_model=EventsOut)
    def events(query: Annotated[EventsQuery, Query()]) -> Response:
        """What happened, newest first."""
        w = window_of(query, readers.clock.now())
        found = readers.search(lambda: readers.history.events(w.start, w.end, query.kind, w.limit + 1))
        rows, truncated = page_of(found, w)
        out = [EventOut(at=e.at, kind=e.kind, fields=dict(e.fields)) for e in rows]
        return answer(EventsOut(start=w.start, end=w.end, truncated=truncated, events=out))

    return router
