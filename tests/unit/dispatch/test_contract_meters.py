"""The contract's meters of the edge count at the prices that are known now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dispatch.observing.contract_meters import meters_after
from ems.condition import ContractMeters
from ems.prices import DayPrices
from ems.telemetry import Snapshot
from tests.builders import tariff

NOON = datetime(2026, 3, 2, 9, tzinfo=UTC)  # 12:00 in Nairobi; 0.16 and 0.04 by the tariff
OF = replace(tariff(), minimum_per_month=100.0)
TOLD = DayPrices(
    start=datetime(2026, 3, 1, 21, tzinfo=UTC),
    import_per_kwh=(0.1,) * 48 + (0.5,) * 48,
    export_per_kwh=(0.02,) * 48 + (0.2,) * 48,
)


@pytest.mark.parametrize(
    ("told", "at", "grid_kw", "cost", "revenue"),
    [
        (None, NOON, 60.0, 0.16, 0.0),
        (TOLD, NOON, 60.0, 0.5, 0.0),
        (TOLD, NOON, -60.0, 0.0, 0.2),
        (TOLD, NOON - timedelta(hours=1), 60.0, 0.1, 0.0),
        (TOLD, NOON + timedelta(days=1), 60.0, 0.16, 0.0),  # of another day: the tariff
        (TOLD, NOON + timedelta(days=1), -60.0, 0.0, 0.04),
    ],
)
def test_meters_count_a_kwh_at_the_price_known_now(
    told: DayPrices | None, at: datetime, grid_kw: float, cost: float, revenue: float
):
    seen = Snapshot(at=at, monotonic_s=0.0, readings={})
    before = ContractMeters(month="2026-03", energy_cost=1.0)
    after = meters_after(OF, before, seen, grid_kw, {}, 60.0, told)  # a minute: 1 kWh
    assert after.energy_cost == pytest.approx(1.0 + cost)
    assert after.export_revenue == pytest.approx(revenue)
