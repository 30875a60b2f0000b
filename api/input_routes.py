"""Inputs from elsewhere: how each does, and the prices and outages they tell."""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response

from api.answers import ERRORS, answer
from api.input_schemas import (
    InputOut,
    InputsOut,
    InputState,
    InputValuesOut,
    OutageOut,
    PricesOut,
    VersionOut,
)
from api.queries import NoParameters
from api.readers import Readers
from ems.announced import planned_with, told_outages
from ems.inputs import EXPORT, IMPORT, SILENT_S, USED_FOR, InputKind, InputParams, InputUse
from ems.ports import InputKnowledge
from ems.prices import QUARTER_S, told_prices
from ems.records import StatusRow
from ems.site import Site

HOUR = timedelta(hours=1)
BEFORE, AFTER = 3 * HOUR, 36 * HOUR  # prices that are shown around now


def input_routes(readers: Readers) -> APIRouter:
    """Routes below /api/v1/inputs."""
    router, site = APIRouter(prefix="/api/v1/inputs", tags=["plant"], responses=ERRORS), readers.site

    @router.get("", response_model=InputsOut)
    def inputs(_: NoParameters) -> Response:
        """Prices, weather, forecasts and announced outages from elsewhere, and how each does."""
        rows, now = readers.statuses(), readers.clock.now()
        overall = rows.get("inputs")
        fresh = overall is not None and not _silent(overall, now)
        overrun = str(overall.fields.get("overrun", "")) if overall is not None and fresh else ""
        told = [_input(p, rows.get(f"input_{p.id}"), now, overrun) for p in site.inputs]
        return answer(InputsOut(at=now, overrun=overrun, inputs=told))

    @router.get("/values", response_model=InputValuesOut)
    def values(_: NoParameters) -> Response:
        """Prices around now and announced outages, as known now, each with the version that tells it."""
        known, now = readers.inputs, readers.clock.now()
        if known is None:
            return answer(InputValuesOut(at=now, prices=None, outages=[]))
        prices, outages = readers.read(lambda: (_prices(site, known, now), _outages(site, known, now)))
        return answer(InputValuesOut(at=now, prices=prices, outages=outages))

    return router


def _silent(row: StatusRow, now: datetime) -> bool:
    return (now - row.at).total_seconds() > SILENT_S


def _input(params: InputParams, row: StatusRow | None, now: datetime, overrun: str) -> InputOut:
    """What was told last; where that is long ago, that nobody looks."""
    found: dict[str, Any] = {} if row is None else dict(row.fields)
    texts = {name: str(found.get(name, "")) for name in ("failed", "refused", "trouble")}
    age_s = found.get("age_s")
    if row is not None and age_s is not None:
        age_s += max(0.0, (now - row.at).total_seconds())
    gone = row is None or _silent(row, now)
    texts["late"] = "nobody looks" if gone else str(found.get("late", ""))
    return InputOut(
        input=params.id,
        kind=params.kind,
        source=params.place,
        used_for=USED_FOR[params.kind],
        state=_state(params, texts, overrun),
        told_at=None if row is None else row.at,
        version=found.get("version"),
        issued_at=found.get("issued_at"),
        age_s=age_s,
        reaches=found.get("reaches"),
        **texts,
    )


def _state(params: InputParams, texts: dict[str, str], overrun: str) -> InputState:
    if overrun.startswith(f"{params.id}."):  # outages are named by their input
        return InputState.OVERRUN
    if texts["late"]:
        return InputState.LATE
    if texts["failed"] or texts["trouble"]:
        return InputState.FAILED
    return InputState.REFUSED if texts["refused"] else InputState.FRESH


def _prices(site: Site, known: InputKnowledge, now: datetime) -> PricesOut | None:
    if not any(p.kind is InputKind.PRICE for p in site.inputs):
        return None
    start = now.replace(minute=0, second=0, microsecond=0) - BEFORE
    told = told_prices(site.inputs, site.tariff, known, now, start, now + AFTER)
    number = [v.version for v in told.versions]
    version = {s: [None if n < 0 else number[n] for n in told.by[s].tolist()] for s in (IMPORT, EXPORT)}
    return PricesOut(
        start=told.start,
        step_s=QUARTER_S,
        currency=site.currency,
        import_per_kwh=told.or_tariff(IMPORT, site.tariff).tolist(),
        export_per_kwh=told.or_tariff(EXPORT, site.tariff).tolist(),
        import_version=version[IMPORT],
        export_version=version[EXPORT],
        versions=[_version(v) for v in told.versions],
    )


def _version(use: InputUse) -> VersionOut:
    return VersionOut(
        input=use.input,
        version=use.version,
        issued_at=use.issued_at,
        arrived_at=use.arrived_at,
        sha256=use.sha256,
    )


def _outages(site: Site, known: InputKnowledge, now: datetime) -> list[OutageOut]:
    return [
        OutageOut(
            input=params.id, id=o.id, issued_at=o.issued_at, start=o.start, end=o.end, certainty=o.certainty,
            cancelled=o.cancelled, planned_with=planned_with(params, o), reason=o.reason, version=version.id,
        )
        for params in site.inputs
        if params.kind is InputKind.OUTAGES
        for o, version in told_outages(params, known, now)
    ]  # fmt: skip
