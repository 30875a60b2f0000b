"""Prometheus metrics, computed anew at each scrape from status rows, readings and the current plan.

Missing is missing: a point of bad quality has no sample of its value, only of its quality and age.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api.readers import Readers
from ems.errors import EmsError
from ems.plan import Plan
from ems.points import split_point_id
from ems.site import GridMode

CONTENT_TYPE = CONTENT_TYPE_LATEST
_STATE_FIELDS = ("mode", "grid_mode", "source", "label", "forming", "prime", "transition", "utc")
_NOT_NAME = re.compile(r"[^a-z0-9_]")


class PlantCollector(Collector):
    """Collects from the same readers as the routes."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: what there is depends on what runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric; a store that cannot be read leaves its part out and says so in `ems_store_up`."""
        up = GaugeMetricFamily("ems_store_up", "1 if the store can be read", labels=["store"])
        for store, part in (("historian", self._of_history), ("plans", self._of_plan)):
            try:
                metrics: Sequence[Metric] = list(part())
            except (EmsError, OSError):
                metrics = []
                up.add_metric([store], 0.0)
            else:
                up.add_metric([store], 1.0)
            yield from metrics
        yield up

    def _of_history(self) -> Iterator[Metric]:
        yield from self._processes()
        yield from self._points()
        condition = self._readers.read(self._readers.history.condition)
        mode = GaugeMetricFamily("ems_grid_mode", "1 for the present state of the bus", labels=["mode"])
        for candidate in GridMode:
            here = condition is not None and condition.grid_mode is candidate
            mode.add_metric([candidate.value], 1.0 if here else 0.0)
        yield mode

    def _processes(self) -> Iterator[Metric]:
        now = self._readers.clock.now()
        age = GaugeMetricFamily(
            "ems_process_status_age_seconds", "Time since the process last reported", labels=["process"]
        )
        state = GaugeMetricFamily(
            "ems_process_state", "1 for each state a process is in", labels=["process", "field", "value"]
        )
        numbers: dict[str, GaugeMetricFamily] = {}
        for process, row in self._readers.statuses().items():
            age.add_metric([process], (now - row.at).total_seconds())
            for key, value in row.fields.items():
                if isinstance(value, bool | int | float) and math.isfinite(value):
                    name = "ems_process_" + _NOT_NAME.sub("_", key.lower())
                    text = f"Field {key} of the process's status; its unit is in its name"
                    numbers.setdefault(name, GaugeMetricFamily(name, text, labels=["process"]))
                    numbers[name].add_metric([process], float(value))
                elif isinstance(value, str) and key in _STATE_FIELDS:
                    state.add_metric([process, key, value[:64]], 1.0)
        yield age
        yield state
        yield from (m for n, m in numbers.items() if n not in (age.name, state.name))

    def _points(self) -> Iterator[Metric]:
        now = self._readers.clock.now()
        good = GaugeMetricFamily(
            "ems_point_good", "1 if the newest reading may be used", labels=["asset", "point"]
        )
        age = GaugeMetricFamily(
            "ems_point_age_seconds", "Age of the newest reading", labels=["asset", "point"]
        )
        values: dict[str, GaugeMetricFamily] = {}
        for point, reading in self._readers.read(self._readers.history.latest).items():
            spec = self._readers.spec(point)
            if spec is None:
                continue
            asset_id, name = split_point_id(point)
            good.add_metric([asset_id, name], 1.0 if reading.is_good else 0.0)
            age.add_metric([asset_id, name], (now - reading.source_time).total_seconds())
            if reading.is_good and reading.value is not None and math.isfinite(reading.value):
                kind = self._readers.site.kind_of(asset_id)
                metric = f"ems_{kind.value}_{name}"
                unit = f" [{spec.unit}]" if spec.unit else ""
                values.setdefault(
                    metric, GaugeMetricFamily(metric, spec.meaning + unit, labels=["asset", "path"])
                )
                values[metric].add_metric([asset_id, self._readers.path(asset_id, name)], reading.value)
        yield good
        yield age
        yield from values.values()

    def _of_plan(self) -> Iterator[Metric]:
        plan = self._readers.read(self._readers.plans.current)
        now = self._readers.clock.now()
        valid = GaugeMetricFamily("ems_plan_valid", "1 while the newest plan holds")
        valid.add_metric([], 1.0 if plan is not None and now < plan.valid_until else 0.0)
        yield valid
        if plan is not None:
            yield from _plan_gauges(plan, (now - plan.issued_at).total_seconds())
            label = GaugeMetricFamily("ems_plan_label", "1 for where the plan came from", labels=["label"])
            label.add_metric([plan.label.value], 1.0)
            yield label


def _plan_gauges(plan: Plan, age_s: float) -> Iterator[Metric]:
    rows = (
        ("ems_plan_age_seconds", "Time since the newest plan was issued", age_s),
        ("ems_plan_solve_seconds", "How long its solve took", plan.solve.solve_s),
        ("ems_plan_seq", "Its sequence number", float(plan.seq)),
        ("ems_plan_gap_ratio", "Its proven optimality gap", plan.solve.gap_ratio),
        ("ems_plan_objective_money", "Its objective in the site's currency", plan.solve.objective),
    )
    for name, text, value in rows:
        if value is not None and math.isfinite(value):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], value)
            yield gauge


def exposition(registry: CollectorRegistry) -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(registry)
