"""What a condition cannot be: refused with the name of it, or taken otherwise by a rule that is noted."""

import math
from collections.abc import Iterator

from ems.condition import PlantCondition
from ems.errors import DataError
from ems.site import Site

PERCENT_SOC = 1.5  # a state of charge above this is no rounding but another unit


def check_condition(site: Site, condition: PlantCondition, notes: list[str]) -> None:
    """Go through what is known of the plant before anything is made of it.

    Raises
    ------
    DataError : an asset that the site does not have, a number that cannot be meant.
    """
    for what, known, allowed in (
        ("bess", condition.bess, [b.id for b in site.bess]),
        ("gensets", condition.gensets, [g.id for g in site.gensets]),
        ("feeder_closed", condition.feeder_closed, [f.id for f in site.feeders]),
    ):
        if unknown := sorted(set(known) - set(allowed)):
            raise DataError(
                f"condition: {what} has {', '.join(unknown)}; allowed: {', '.join(allowed) or 'none'}"
            )
    notes.extend(_bess(condition))
    notes.extend(_gensets(condition))
    for name, value in (
        ("peak import of the month", condition.peak_import_kw),
        ("import of the month", condition.month_import_kwh),
        ("import of the open billing interval", condition.interval_import_kwh),
        *((f"peak of the demand charge {k}", v) for k, v in condition.charge_peaks_kw.items()),
    ):
        if value < 0.0:
            notes.append(f"{name} is {value:g}, which is less than nothing: taken as 0")


def _bess(condition: PlantCondition) -> Iterator[str]:
    for bess_id, now in condition.bess.items():
        if now.available and math.isfinite(now.soc) and abs(now.soc) > PERCENT_SOC:
            raise DataError(f"{bess_id}: state of charge is {now.soc:g}; allowed: 0 to 1 (in per cent?)")
        for name, kw in (("charge", now.p_charge_kw_max), ("discharge", now.p_discharge_kw_max)):
            if now.available and kw < 0.0:
                yield f"{bess_id}: live {name} limit of {kw:g} kW is less than nothing: taken as 0"


def _gensets(condition: PlantCondition) -> Iterator[str]:
    for genset_id, now in condition.gensets.items():
        if now.starting and now.on_load:
            yield f"{genset_id}: reported on load and starting: taken as on load"
        if now.fuel_l is not None and now.fuel_l < 0.0:
            yield f"{genset_id}: {now.fuel_l:g} L in the tank: taken as empty"
