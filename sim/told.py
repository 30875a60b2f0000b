"""Inputs from elsewhere in a simulated run: seen as they were issued, settled as they were known at last."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ems.errors import DataError
from ems.inputs import EXPORT, IMPORT, InputKind, InputUse
from ems.kpi import stored_value_per_kwh
from ems.ports import InputKnowledge
from ems.prices import QUARTER_S, told_prices
from ems.series import UniformSeries
from sim.scenario import Scenario

AFTER = timedelta(days=3)  # prices after the period: for who looks ahead, and for what is left in batteries


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What the money of a run rests on; the counters `priced_kwh` and `priced_money` name versions by id."""

    settled_at: datetime  # as known at that time
    versions: tuple[InputUse, ...]
    stored_per_kwh: float  # value of energy left in the batteries


def with_inputs(scenario: Scenario, knowledge: InputKnowledge, settled_at: datetime) -> Scenario:
    """The scenario with what was known of the inputs of its site at each time.

    Prices that are told are the truth of its market as known at `settled_at`; where nobody tells any the
    tariff's are. Whoever decides in a run sees `knowledge` as of its own time, and nothing of later.

    Raises
    ------
    DataError : the site has no inputs, or prices come from a file as well.
    """
    site = scenario.site
    if not site.inputs:
        raise DataError(f"{site.name}: found no inputs in the site file; allowed: a site with some")
    if not any(p.kind is InputKind.PRICE for p in site.inputs):
        return replace(scenario, inputs=knowledge)
    if scenario.import_per_kwh is not None:
        raise DataError("prices: found a price file and an input of prices; allowed: one of them")
    told = told_prices(site.inputs, site.tariff, knowledge, settled_at, scenario.start, scenario.end + AFTER)
    buy, sell = (
        UniformSeries(start=told.start, step_s=QUARTER_S, values=told.or_tariff(side, site.tariff))
        for side in (IMPORT, EXPORT)
    )
    names = sorted({v.input for v in told.versions})
    label = (
        f"told by {', '.join(names)}, settled as known at {settled_at:%Y-%m-%d %H:%M} UTC"
        if names
        else "of the tariff: no input told any"
    )
    return replace(
        scenario,
        inputs=knowledge,
        settled=told,
        import_per_kwh=buy,
        export_per_kwh=sell,
        labels={**scenario.labels, "price": label},
    )


def priced_of(scenario: Scenario) -> Priced | None:
    """What the money of a run through this scenario rests on; None where no input tells prices."""
    if scenario.settled is None:
        return None
    return Priced(
        settled_at=scenario.settled.at,
        versions=scenario.settled.versions,
        stored_per_kwh=stored_value_per_kwh(scenario.site, scenario.end, scenario.settled),
    )
