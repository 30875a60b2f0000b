"""Versions of inputs in memory, as a store would give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ems.inputs import AnnouncedOutage, InputVersion
from ems.series import UniformSeries


@dataclass(slots=True)
class Known:
    """What arrived, in the order of arrival."""

    versions: list[InputVersion] = field(default_factory=list)
    seen: dict[str, datetime] = field(default_factory=dict)

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        by_then = [
            v
            for v in self.versions
            if v.input == input_id and v.arrived_at <= at and v.issued_at <= at
            if v.span[1] > start and v.span[0] < end
        ]
        return sorted(by_then, key=lambda v: (v.issued_at, v.id), reverse=True)[:limit]

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        seen = self.seen.get(input_id)
        return seen if seen is not None and seen <= at else None

    def add(
        self,
        input_id: str,
        issued: datetime,
        start: datetime,
        series: Mapping[str, Sequence[float]],
        *,
        step_s: float = 3600.0,
        outages: Sequence[AnnouncedOutage] = (),
        arrived: datetime | None = None,
        told: bool = True,
    ) -> InputVersion:
        made = InputVersion(
            id=len(self.versions) + 1,
            input=input_id,
            issued_at=issued,
            issued_told=told,
            arrived_at=issued if arrived is None else arrived,
            source="a file",
            sha256=f"{len(self.versions):064d}",
            series={
                n: UniformSeries(start=start, step_s=step_s, values=np.asarray(v, dtype=float))
                for n, v in series.items()
            },
            outages=tuple(outages),
        )
        self.versions.append(made)
        return made


def outage(
    name: str, issued: datetime, start: datetime, hours: float = 2.0, **changes: Any
) -> AnnouncedOutage:
    made = AnnouncedOutage(id=name, issued_at=issued, start=start, end=start + timedelta(hours=hours))
    return replace(made, **changes)
