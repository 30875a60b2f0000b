"""Alarms and the ladder: what stands, what happened, how an operator keeps up, who decides."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from api.alarm_schemas import (
    AlarmOut,
    AlarmsOut,
    AlarmTableOut,
    HoldOut,
    LadderOut,
    LimitOut,
    RatesOut,
    RungOut,
)
from api.answers import ERRORS, answer, page_of
from api.authority_schemas import AuthorityOut, RulesOut
from api.queries import AlarmsQuery, NoParameters, WindowQuery, window_of
from api.readers import Readers
from api.schemas import EventOut, EventsOut
from ems.alarm_rates import JOURNAL, alarm_rates
from ems.alarm_table import alarm_table
from ems.alarms import HIDDEN, AlarmEntry, AlarmState, Hold, Priority

RATES_WINDOW = timedelta(days=1)
RATES_EVENTS_MAX = 200_000


def alarm_routes(readers: Readers) -> APIRouter:
    """What stands, the journal, the figures, the table."""
    router = APIRouter(prefix="/api/v1/alarms", tags=["alarms"], responses=ERRORS)

    @router.get("", response_model=AlarmsOut)
    def alarms(query: Annotated[AlarmsQuery, Query()]) -> Response:
        """The operator's list, most urgent first; `hidden`: shelved, suppressed and removed ones too."""
        now = readers.clock.now()
        book = readers.read(readers.history.alarms)
        entries = () if book is None else book.entries
        standing = () if book is None else book.standing()
        hidden = [e for e in entries if e.shown in HIDDEN]
        shown = [*standing, *hidden] if query.hidden else list(standing)
        return answer(
            AlarmsOut(
                at=now,
                recorded_at=None if book is None else book.at,
                by_priority={p: sum(e.priority is p for e in standing) for p in Priority},
                by_state={s: sum(e.shown is s for e in entries) for s in AlarmState},
                alarms=[alarm_out(e, now) for e in shown],
            )
        )

    @router.get("/journal", response_model=EventsOut)
    def journal(query: Annotated[WindowQuery, Query()]) -> Response:
        """Every transition of every alarm: what, when, who and why; newest first."""
        w = window_of(query, readers.clock.now())
        found = readers.read(lambda: readers.history.events(w.start, w.end, JOURNAL, w.limit + 1))
        rows, truncated = page_of(found, w)
        out = [EventOut(at=e.at, kind=e.kind, fields=dict(e.fields)) for e in rows]
        return answer(EventsOut(start=w.start, end=w.end, truncated=truncated, events=out))

    @router.get("/rates", response_model=RatesOut)
    def rates(query: Annotated[WindowQuery, Query()]) -> Response:
        """Figures of ISA-18.2 and EEMUA 191 over a window, a day unless said otherwise."""
        w = window_of(query, readers.clock.now(), RATES_WINDOW)
        found = readers.read(lambda: readers.history.events(w.start, w.end, JOURNAL, RATES_EVENTS_MAX))
        book = readers.read(readers.history.alarms)
        return answer(RatesOut(**asdict(alarm_rates(found, w.start, w.end, book))))

    @router.get("/table", response_model=AlarmTableOut)
    def table(_: NoParameters) -> Response:
        """The rationalisation table: every alarm there can be, and what it asks of an operator."""
        return answer(AlarmTableOut(rows=list(alarm_table().values())))

    return router


def alarm_out(e: AlarmEntry, now: datetime) -> AlarmOut:
    """One alarm with what its row says."""
    row = alarm_table().get(e.code)
    return AlarmOut(
        key=e.key,
        code=e.code,
        asset=e.asset,
        state=e.shown,
        priority=e.priority,
        text=e.text,
        value=e.value,
        limit=e.limit,
        unit=e.unit,
        raised_at=e.raised_at,
        since=e.since,
        age_s=None if e.raised_at is None else (now - e.raised_at).total_seconds(),
        activations=e.activations,
        acknowledged_by=e.acknowledged_by,
        shelved=_hold(e.shelf),
        removed=_hold(e.removed),
        suppressed_by=e.suppressed_by,
        consequence="" if row is None else row.consequence,
        response="" if row is None else row.response,
        respond_s=None if row is None else row.respond_s,
    )


def _hold(hold: Hold | None) -> HoldOut | None:
    return None if hold is None else HoldOut(who=hold.who, why=hold.why, until=hold.until)


def ladder_routes(readers: Readers, ladder: Sequence[Mapping[str, str]]) -> APIRouter:
    """Who decides, and what each rung means."""
    router = APIRouter(prefix="/api/v1", tags=["ladder"], responses=ERRORS)

    @router.get("/ladder", response_model=LadderOut)
    def get_ladder(_: NoParameters) -> Response:
        """The rung that decides, since when and why, as the edge last reported; and the whole ladder."""
        edge = readers.statuses().get("edge")
        fields = {} if edge is None else edge.fields
        return answer(
            LadderOut(
                at=None if edge is None else edge.at,
                rung=_text(fields.get("source")),
                since=_text(fields.get("ladder_since")),
                reason=_text(fields.get("ladder_reason")),
                rungs=[RungOut(**rung) for rung in ladder],
            )
        )

    return router


def authority_routes(readers: Readers) -> APIRouter:
    """Modes of control and limits."""
    router = APIRouter(prefix="/api/v1", tags=["authority"], responses=ERRORS)

    @router.get("/authority", response_model=AuthorityOut)
    def authority(_: NoParameters) -> Response:
        """Who commands what, until when, and what limits it; why each mode is what it is; what waits."""
        edge = readers.statuses().get("edge")
        fields = {} if edge is None else edge.fields
        limits = _map(fields.get("limits"))
        return answer(
            AuthorityOut(
                at=None if edge is None else edge.at,
                plant=_text(fields.get("plant_control")),
                devices={k: str(v) for k, v in _map(fields.get("control")).items()},
                limits={k: LimitOut.model_validate(v) for k, v in limits.items()},
                told_kw={k: v for k, v in _map(fields.get("limits_told_kw")).items() if isinstance(v, float)},
                epoch=epoch if isinstance(epoch := fields.get("epoch"), int) else None,
                held_safe=fields.get("held_safe") is True,
                requests_refused=_text(fields.get("requests_refused")),
                rules=_rules(fields.get("authority")),
            )
        )

    return router


def _rules(value: object) -> RulesOut | None:
    """None: an edge of another version, or of none."""
    try:
        return RulesOut.model_validate(value)
    except ValidationError:
        return None


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
