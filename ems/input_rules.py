"""Which series an input may tell at a site, in which units and bounds; and our own form of CSV."""

from dataclasses import dataclass

from ems.inputs import (
    AIR,
    CLOUD,
    EXPORT,
    GHI,
    IMPORT,
    QUANTILES,
    SPOT,
    Certainty,
    InputKind,
    InputParams,
    OutageColumns,
    Provider,
)
from ems.site import Site

OVER_RATING_RATIO = 1.2  # of a PV plant: more is another unit, not a sunny day
OVER_PEAK_RATIO = 2.0  # of a feeder's peak: more is another unit


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRule:
    """Unit and bounds of one series; what lies outside is refused."""

    unit: str
    low: float
    high: float
    why: str = ""  # what is likely wrong outside


def series_rules(site: Site, params: InputParams) -> dict[str, SeriesRule]:
    """The series that an input of this kind may tell at this site."""
    if params.kind is InputKind.PRICE:
        top = max((f.voll_per_kwh for f in site.feeders), default=1000.0)
        low = -top if params.price_min_per_kwh is None else params.price_min_per_kwh
        high = top if params.price_max_per_kwh is None else params.price_max_per_kwh
        rule = SeriesRule(
            unit=f"{site.currency}/kWh", low=low, high=high, why="another unit, or a wrong price?"
        )
        return dict.fromkeys((SPOT, IMPORT, EXPORT), rule)
    if params.kind is InputKind.WEATHER:
        return {
            GHI: SeriesRule(unit="W/m2", low=0.0, high=1500.0, why="another unit?"),
            AIR: SeriesRule(unit="degC", low=-60.0, high=60.0, why="another unit?"),
            CLOUD: SeriesRule(unit="", low=0.0, high=1.0, why="percent?"),
        }
    if params.kind is InputKind.OUTAGES:
        return {}
    tops = {f"load.{f.id}": OVER_PEAK_RATIO * f.p_peak_kw for f in site.feeders}
    tops |= {f"pv.{p.id}": OVER_RATING_RATIO * p.p_ac_kw for p in site.pv}
    rules = {
        name: SeriesRule(unit="kW", low=0.0, high=top, why="another unit?") for name, top in tops.items()
    }
    return rules | {f"{name}.{q}": rule for name, rule in rules.items() for q in QUANTILES}


def house_provider(kind: InputKind) -> Provider:
    """Our own form of CSV: columns named as the series are, `time` or `id`, and perhaps `issued_at`."""
    if kind is not InputKind.OUTAGES:
        return Provider(name="", kind=kind, body="csv", issued="issued_at")
    columns = OutageColumns(
        id="id", start="from", end="until", issued_at="issued_at", status="status", reason="reason",
        words={w: w for w in (*Certainty, "cancelled")},
    )  # fmt: skip
    return Provider(name="", kind=kind, body="csv", outage=columns)
