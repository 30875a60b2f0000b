"""On which versions of which inputs the money of a run rests, line by line."""

from collections.abc import Iterator
from dataclasses import dataclass

from ems.kpi import BY_TARIFF, priced_key
from ems.prices import SIDES
from sim.result import RunResult

SHOWN_KWH = 0.05  # less is not shown
WORDS = dict(zip(SIDES, ("import", "export"), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """Energy of one side at the prices of one version, or of the tariff for want of one."""

    side: str  # import | export
    source: str  # which version it is, with time of issue and hash
    energy_kwh: float
    money: float


def priced_lines(run: RunResult) -> Iterator[PricedLine]:
    """In order of issue, the tariff last; empty where no input tells prices."""
    if run.priced is None:
        return
    versions = sorted(run.priced.versions, key=lambda v: (v.issued_at, v.version))
    named = [
        (v.version, f"{v.input} {v.version}, issued {v.issued_at:%Y-%m-%d %H:%M} UTC, sha256 {v.sha256[:12]}")
        for v in versions
    ]
    for side in SIDES:
        for number, source in (*named, (None, f"{BY_TARIFF}: no input told a price")):
            key = priced_key(side, number)
            if (kwh := run.counters.priced_kwh.get(key, 0.0)) >= SHOWN_KWH:
                money = run.counters.priced_money[key]
                yield PricedLine(side=WORDS[side], source=source, energy_kwh=kwh, money=money)
