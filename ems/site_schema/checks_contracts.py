"""Edges of windows, and what the elements of a contract beside prices by the hour must be."""

from datetime import datetime

from ems.contracts import IMPORT
from ems.points import AssetKind
from ems.site_schema.draft import Draft
from ems.site_schema.forms_tariff import DemandWindowForm, ExportWindowForm, TariffForm, TouWindowForm
from ems.site_schema.text import Loc
from ems.site_schema.words import clock, hint

QUARTER_S = 900.0


def edges(draft: Draft, loc: Loc, window: TouWindowForm | DemandWindowForm | ExportWindowForm) -> None:
    """A window of local time lies on one day and on quarters of an hour."""
    found = f"a window from {clock(window.start)} to {clock(window.end)}"
    if not window.start < window.end:
        draft.add(
            (*loc, "to"),
            found,
            "an end after its start, on the same day",
            "over midnight: write two windows, the first to 24:00",
        )
    if (window.start * 4.0) % 1.0 or (window.end * 4.0) % 1.0:
        draft.add((*loc, "from"), found, "edges on a quarter of an hour")


def check_contracts(draft: Draft, tariff: TariffForm) -> None:
    """Export windows, coincident peaks, contracts of energy, events."""
    for i, window in enumerate(tariff.export_windows):
        loc: Loc = ("tariff", "export_windows", i)
        edges(draft, loc, window)
        for earlier in tariff.export_windows[:i]:
            days, months = set(earlier.days) & set(window.days), set(earlier.months) & set(window.months)
            if days and months and earlier.start < window.end and window.start < earlier.end:
                draft.add(loc, f"{window.name!r} overlaps {earlier.name!r}", "one price at any time")
    _peaks(draft, tariff)
    _energy(draft, tariff)
    seen: set[str] = set()
    for i, event in enumerate(tariff.demand_response):
        loc = ("tariff", "demand_response", i)
        if event.id in seen:
            draft.add((*loc, "id"), f"{event.id!r} again", "each id once")
        seen.add(event.id)
        _span(draft, loc, event.start, event.end)


def _span(draft: Draft, loc: Loc, start: datetime, end: datetime) -> None:
    if not start < end:
        draft.add((*loc, "end"), end.isoformat(), f"after the start, {start.isoformat()}")
    for key, when in (("start", start), ("end", end)):
        if when.timestamp() % QUARTER_S:
            draft.add((*loc, key), when.isoformat(), "a quarter of an hour")


def _peaks(draft: Draft, tariff: TariffForm) -> None:
    names: set[str] = set()
    for i, peak in enumerate(tariff.coincident_peaks):
        loc: Loc = ("tariff", "coincident_peaks", i)
        if peak.name in names:
            draft.add((*loc, "name"), f"{peak.name!r} again", "each name once")
        names.add(peak.name)
        if not peak.hours and not peak.windows:
            draft.add(loc, "no time", "hours or windows")
        for k, hour in enumerate(peak.hours):
            _span(draft, (*loc, "hours", k), hour.start, hour.end)
        for k, window in enumerate(peak.windows):
            edges(draft, (*loc, "windows", k), window)
        if bool(peak.windows) != (peak.window_probability_ratio > 0.0):
            draft.add(
                (*loc, "window_probability_ratio"),
                f"{peak.window_probability_ratio:g} with {len(peak.windows)} windows",
                "more than 0 with windows, and only with them",
            )


def _energy(draft: Draft, tariff: TariffForm) -> None:
    names: set[str] = set()
    for i, contract in enumerate(tariff.energy_contracts):
        loc: Loc = ("tariff", "energy_contracts", i)
        if contract.name in names:
            draft.add((*loc, "name"), f"{contract.name!r} again", "each name once")
        names.add(contract.name)
        plants = list(draft.of_kind(AssetKind.PV))
        if contract.source != IMPORT and contract.source not in plants:
            allowed = ", ".join([IMPORT, *plants])
            draft.add(
                (*loc, "source"), repr(contract.source), f"one of {allowed}", hint(contract.source, plants)
            )
        if (contract.minimum_kwh > 0.0) != (contract.shortfall_per_kwh > 0.0):
            draft.add(
                (*loc, "shortfall_per_kwh"),
                f"{contract.shortfall_per_kwh:g} for a minimum of {contract.minimum_kwh:g} kWh",
                "both minimum_kwh and shortfall_per_kwh, or neither",
            )
