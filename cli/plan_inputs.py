"""Inputs from elsewhere beside a plan: how each did when it was made, the prices and outages they told."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from connectors.inputs.state import InputState, input_state, lateness
from connectors.inputs.store import FILE, InputReader
from ems.announced import planned_with, told_outages
from ems.inputs import USED_FOR, AnnouncedOutage, InputKind, InputParams, version_age_s
from ems.plan import Plan
from ems.ports import InputKnowledge
from ems.prices import ToldPrices, told_prices
from ems.site import Site

_FAR = timedelta(days=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBeside:
    """One input as known when a plan was made; `used` are its series that the plan rests on."""

    params: InputParams
    state: str  # overrun | late | failed | refused | fresh
    why: str
    version: str  # number and hash, empty where nothing came
    issued_at: datetime | None
    age_s: float | None
    reaches: datetime | None
    used: tuple[str, ...]

    @property
    def used_for(self) -> str:
        """In words."""
        return USED_FOR[self.params.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsBeside:
    """All inputs of a site, prices over the plan (None: no input is to tell any), outages in its horizon."""

    inputs: tuple[InputBeside, ...]
    prices: ToldPrices | None
    outages: tuple[tuple[InputParams, AnnouncedOutage], ...]


def inputs_beside(
    site: Site, plan: Plan, known: InputKnowledge, directory: Path, notes: Sequence[str]
) -> InputsBeside:
    """As known when `plan` was issued.

    Parameters
    ----------
    known : what was known of them.
    directory : where `inputs.sqlite` tells of looks that failed, if anywhere.
    notes : those of its forecast.

    Raises
    ------
    StoreError : `inputs.sqlite` cannot be read.
    """
    at = plan.issued_at
    prices = None
    if any(p.kind is InputKind.PRICE for p in site.inputs):
        prices = told_prices(site.inputs, site.tariff, known, at, plan.grid.start, plan.grid.end)
    outages = [
        (p, o)
        for p in site.inputs
        if p.kind is InputKind.OUTAGES
        for o, _ in told_outages(p, known, at)
        if not o.cancelled and o.end > plan.grid.start and o.start < plan.grid.end
    ]
    rows = [_row(s, plan, notes) for s in _states(site, known, directory, at)]
    return InputsBeside(inputs=tuple(rows), prices=prices, outages=tuple(outages))


def _states(site: Site, known: InputKnowledge, directory: Path, at: datetime) -> Iterator[InputState]:
    if (directory / FILE).is_file():
        with closing(InputReader(directory)) as reader:
            yield from [input_state(reader, p, at) for p in site.inputs]
        return
    for params in site.inputs:
        found = known.known(params.id, at, at - _FAR, at + _FAR, 100)
        version = found[0] if found else None
        age_s = None if version is None else version_age_s(version, known.seen_at(params.id, at), at)
        reaches = max((v.span[1] for v in found), default=None)
        late = lateness(params, age_s, reaches, at)
        yield InputState(
            params=params, version=version, age_s=age_s, reaches=reaches, late=late, failing_since=None,
            looks=(),
        )  # fmt: skip


def _row(s: InputState, plan: Plan, notes: Sequence[str]) -> InputBeside:
    overrun = next((n for n in notes if n.startswith(f"outage {s.params.id}.") and "not back" in n), "")
    failed = "" if s.failed is None else s.failed.detail
    refused = "" if s.refused is None else s.refused.detail.splitlines()[0]
    found = {"overrun": overrun, "late": s.late, "failed": failed, "refused": refused}
    state = next((name for name, why in found.items() if why), "fresh")
    v = s.version
    return InputBeside(
        params=s.params,
        state=state,
        why=found.get(state, ""),
        version="" if v is None else f"{v.id} {v.sha256[:8]}",
        issued_at=None if v is None else v.issued_at,
        age_s=s.age_s,
        reaches=s.reaches,
        used=tuple(sorted({name for use in plan.inputs if use.input == s.params.id for name in use.series})),
    )


def outage_words(params: InputParams, outage: AnnouncedOutage) -> str:
    """What an announced outage is, and whether it is planned with."""
    counts = "" if planned_with(params, outage) else ", not planned with"
    reason = f", {outage.reason}" if outage.reason else ""
    return f"{params.id}.{outage.id}: {outage.certainty}{counts}{reason}"
