"""Counters beside those of demand: feeders shed, deferrable work, the contract's meters."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.contract_meters import meters_after
from dispatch.observing.deferrables import WorkSeen, follow_work
from dispatch.observing.feeder_use import feeder_use
from dispatch.state import ObserverMemory
from ems.condition import FeederUse
from ems.frozen import replace
from ems.local_time import local_time
from ems.prices import DayPrices
from ems.telemetry import Snapshot


def loads_seen(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    feeder_kw: Mapping[str, float],
    closed: Mapping[str, bool],
) -> tuple[dict[str, FeederUse], dict[str, WorkSeen]]:
    """How much feeders were shed today, and what deferrable devices have done."""
    since_s = memory.passed_s(snapshot)
    new_day = memory.day is not None and memory.day != local_time(snapshot.at, layout.zone).date()
    use = feeder_use(layout.feeders, memory, closed, since_s, new_day=new_day)
    return use, follow_work(layout, memory.work, feeder_kw, snapshot.at, snapshot.monotonic_s, since_s)


def contracts_after(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    counted: ObserverMemory,
    grid_kw: float,
    last_good: Mapping[str, float],
    prices: DayPrices | None,
) -> ObserverMemory:
    """`counted` with the contract's meters and last good readings; `memory` is of the last tick [kW]."""
    used_kw = {p: last_good.get(layout.p[p], 0.0) for p in layout.pv}
    since_s, tariff = memory.passed_s(snapshot), layout.site.tariff
    meters = meters_after(tariff, memory.meters, snapshot, grid_kw, used_kw, since_s, prices)
    return replace(counted, meters=meters, last_good=last_good)
