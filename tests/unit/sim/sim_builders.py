"""Small scenarios on the small site of tests.builders."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.site import Site
from sim.scenario import FaultEvent, MainsEvent, Scenario
from tests.builders import T0, site


def flat(value: float, start: datetime, hours: float, step_s: float = 900.0) -> UniformSeries:
    return UniformSeries(start=start, step_s=step_s, values=np.full(round(hours * 3600.0 / step_s), value))


def scenario(
    hours: float = 6.0,
    *,
    load_kw: Mapping[str, float] | None = None,
    pv_kw: float = 100.0,
    mains: tuple[MainsEvent, ...] = (),
    notices: tuple[OutageNotice, ...] = (),
    faults: tuple[FaultEvent, ...] = (),
    plant: Site | None = None,
    soc_start: float = 0.6,
    seed: int = 1,
) -> Scenario:
    plant = site() if plant is None else plant
    load = {"critical": 60.0, "essential": 90.0, "deferrable": 50.0} if load_kw is None else load_kw
    history = T0 - timedelta(days=2)
    total_h = 48.0 + hours + 48.0
    return Scenario(
        name="small",
        site=plant,
        start=T0,
        end=T0 + timedelta(hours=hours),
        load_kw={f: flat(v, history, total_h) for f, v in load.items()},
        pv_kw={"pv1": flat(pv_kw, history, total_h)},
        mains=mains,
        notices=notices,
        faults=faults,
        soc_start=soc_start,
        seed=seed,
        labels={"load": "flat"},
    )


def outage(from_h: float, to_h: float, *, announced: bool = False, v_pu: float = 0.0) -> MainsEvent:
    return MainsEvent(
        id=f"outage-{from_h:g}",
        start=T0 + timedelta(hours=from_h),
        end=T0 + timedelta(hours=to_h),
        announced=announced,
        v_pu=v_pu,
    )


def with_series(base: Scenario, name: str, series: UniformSeries) -> Scenario:
    return replace(base, load_kw={**base.load_kw, name: series})
