"""Metrics of the ladder, of alarms and of the losses that may come."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from prometheus_client.core import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api.readers import Readers
from api.reserve_schemas import contingencies_of
from ems.alarm_rates import JOURNAL
from ems.alarms import AlarmState, Priority
from ems.errors import EmsError
from ems.records import JsonValue

HOUR = timedelta(hours=1)
EVENTS_MAX = 10_000


class AlarmCollector(Collector):
    """Which rung decides, what each loss would leave missing, and how many alarms there are."""

    def __init__(self, readers: Readers, rungs: Sequence[str]) -> None:
        self._readers = readers
        self._rungs = rungs

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric; nothing while the historian cannot be read (`ems_store_up` says so)."""
        try:
            yield from list(self._all())
        except (EmsError, OSError):
            return

    def _control(self, fields: Mapping[str, JsonValue]) -> Metric:
        """Mode of control of each device."""
        modes = fields.get("control")
        gauge = GaugeMetricFamily(
            "ems_control_mode", "1 for the mode of control of each device", labels=["device", "mode"]
        )
        for device, mode in modes.items() if isinstance(modes, Mapping) else ():
            gauge.add_metric([device, str(mode)], 1.0)
        return gauge

    def _contingencies(self, fields: Mapping[str, JsonValue]) -> Iterator[Metric]:
        """Each loss that may come: there are no more of them than assets, and a few kinds."""
        labels = ["name", "kind"]
        lost = GaugeMetricFamily("ems_contingency_lost_kw", "What this loss takes away now", labels=labels)
        held = GaugeMetricFamily("ems_contingency_held_kw", "What the others can give at once", labels=labels)
        short = GaugeMetricFamily("ems_contingency_short_kw", "What is missing; 0: covered", labels=labels)
        asked = GaugeMetricFamily("ems_contingency_required", "1 where policy asks for it", labels=labels)
        for c in contingencies_of(fields) or ():
            rows = ((lost, c.lost_kw), (held, c.held_kw), (short, c.short_kw), (asked, float(c.required)))
            for gauge, value in rows:
                if value is not None and math.isfinite(value):
                    gauge.add_metric([c.name[:64], c.kind[:64]], value)
        yield from (lost, held, short, asked)

    def _all(self) -> Iterator[Metric]:
        edge = self._readers.statuses().get("edge")
        rung = GaugeMetricFamily("ems_ladder_rung", "1 for the rung that decides", labels=["rung"])
        for name in self._rungs:
            rung.add_metric([name], 1.0 if edge is not None and edge.fields.get("source") == name else 0.0)
        yield rung
        yield self._control({} if edge is None else edge.fields)
        yield from self._contingencies({} if edge is None else edge.fields)
        book = self._readers.read(self._readers.history.alarms)
        counts = Counter((e.priority, e.shown) for e in (() if book is None else book.entries))
        alarms = GaugeMetricFamily(
            "ems_alarms", "Alarms that are not at rest, by priority and state", labels=["priority", "state"]
        )
        for p in Priority:
            for s in AlarmState:
                if s is not AlarmState.NORMAL:
                    alarms.add_metric([p.value, s.value], float(counts[p, s]))
        yield alarms
        now = self._readers.clock.now()
        found = self._readers.read(lambda: self._readers.history.events(now - HOUR, now, JOURNAL, EVENTS_MAX))
        rang = GaugeMetricFamily("ems_alarms_last_hour_count", "Alarms that rang within the last hour")
        rang.add_metric([], float(sum(e.fields.get("annunciated") is True for e in found)))
        yield rang
