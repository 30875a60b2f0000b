"""Small runs for reports: the simulator's plant moved by a script, and edge traces made up to match."""

from datetime import timedelta
from functools import cache

import numpy as np

from cli.report_data import RunMeta
from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.site import Site
from ems.tariff import Tariff
from sim.result import GensetEvent, PlanStats, RunResult
from sim.scenario import MainsEvent, Scenario
from sim.trace import TraceWriter
from sim.world import World, WorldOptions
from tests.builders import T0, site

START = T0 + timedelta(days=30) - timedelta(hours=3)  # midnight in Nairobi
SURPRISE_S, EVENING_S = 11 * 3600.0 + 754.0, 18.5 * 3600.0
NOTICES = (
    OutageNotice(
        id="evening",
        issued_at=START - timedelta(hours=9),
        start=START + timedelta(seconds=EVENING_S),
        end=START + timedelta(seconds=EVENING_S + 7200),
    ),
)
EDGE_COLUMNS = (
    "reserve.required_kw",
    "reserve.held_kw",
    "reserve.short_kw",
    "source",
    "mode",
    "plan.grid_kw",
    "plan.load_kw",
    "plan.pv_available_kw",
    "plan.bess1.p_kw",
    "plan.bess1.soc",
    "plan.gen1.p_kw",
    "plan.gen2.p_kw",
)


@cache
def scenario(hours: int = 24) -> Scenario:
    n = (hours + 36) * 60
    local_h = (np.arange(n) / 60.0) % 24.0
    rng = np.random.default_rng(4)

    def series(values: np.ndarray) -> UniformSeries:
        return UniformSeries(start=START, step_s=60.0, values=values)

    cloud = 0.75 + 0.25 * np.sin(np.arange(n) / 37.0) * np.sin(np.arange(n) / 11.0)
    day = 0.55 + 0.3 * np.sin((local_h - 9.0) / 24.0 * 2 * np.pi) + 0.03 * rng.standard_normal(n)
    return Scenario(
        name="a made-up day",
        site=site(),
        start=START,
        end=START + timedelta(hours=hours),
        load_kw={f.id: series(np.clip(day, 0.1, 1.0) * f.p_peak_kw * 0.9) for f in site().feeders},
        pv_kw={"pv1": series(np.clip(520 * np.sin((local_h - 6.3) / 12.2 * np.pi), 0, None) * cloud)},
        mains=(
            MainsEvent(
                id="surprise",
                start=START + timedelta(seconds=SURPRISE_S),
                end=START + timedelta(seconds=SURPRISE_S + 3000),
                announced=False,
            ),
            MainsEvent(
                id="evening",
                start=START + timedelta(seconds=EVENING_S),
                end=START + timedelta(seconds=EVENING_S + 7200),
                announced=True,
            ),
        ),
        notices=NOTICES,
        soc_start=0.5,
        seed=4,
        labels={"load": "a sine, not measured", "pv": "a sine with clouds", "price": "the site's tariff"},
    )


def _price(tariff: Tariff, t_s: float) -> float:
    return tariff.import_per_kwh(START + timedelta(seconds=t_s))


def _command(world: World, plant: Site, t_s: float, clever: bool) -> None:
    """What the script wants now; the clever one knows the clock, the other starts late and sheds nothing."""
    price = _price(plant.tariff, t_s)
    out_s = min((t_s - s for s in (SURPRISE_S, EVENING_S) if t_s >= s), default=1e9)
    length_s = 7200.0 if t_s >= EVENING_S else 3000.0
    island = out_s < length_s
    need = sum(s.at(START + timedelta(seconds=t_s)) for s in world.scenario.load_kw.values())
    sun = world.scenario.pv_kw["pv1"].at(START + timedelta(seconds=t_s))
    if clever:
        wish = -120.0 if price < 0.1 else min(250.0, need) if price > 0.2 else -max(0.0, sun - need)
    else:
        wish = -max(0.0, sun - need)
    world.write("bess1.p_set_kw", wish)
    world.write("pv1.p_limit_kw", 600.0 if clever or not island else 150.0)
    unit = "gen2" if clever else "gen1"
    world.write(f"{unit}.run_request", float(island and out_s > (20.0 if clever else 300.0)))
    world.write(f"{unit}.p_set_kw", 150.0 if clever else 320.0)
    for feeder in ("essential", "deferrable"):
        shed = island and clever and feeder == "deferrable" and out_s < 400.0
        world.write(f"{feeder}.close_request", 0.0 if shed else 1.0)


@cache
def run(controller: str, hours: int = 24) -> RunResult:
    clever = controller == "mpc"
    made_of = scenario(hours)
    fine = tuple((s - 60.0, s + 600.0) for s in (SURPRISE_S, EVENING_S))
    world = World(made_of, options=WorldOptions(fine=fine, trace_s=60.0, tied_step_s=60.0))
    edge = TraceWriter(EDGE_COLUMNS, ("source", "mode"), bin_s_at=lambda t: 1.0 if _near(t, fine) else 60.0)
    plant, t_s = made_of.site, 0.0
    while t_s < made_of.duration_s:
        dt_s = 5.0 if _near(t_s, fine) else 60.0
        _command(world, plant, t_s, clever)
        world.advance(t_s + dt_s)
        edge.add(t_s, dt_s, _edge_row(world, t_s, clever))
        t_s += dt_s
    world.finish()
    edge.close()
    return RunResult(
        controller=controller,
        scenario_name=made_of.name,
        site=plant.name,
        start=made_of.start,
        end=made_of.end,
        seed=4,
        labels=made_of.labels,
        counters=world.counters(),
        violation_s=dict(world.meter.violation_s),
        violation_max=dict(world.meter.violation_max),
        trace=world.trace(),
        edge=edge.trace(),
        edge_sources=("plan", "last_plan", "rules", "hold_safe"),
        plans=PlanStats(count=24, p50_s=1.2, p95_s=3.0, max_s=4.5) if clever else PlanStats(),
        events=(),
        gensets=_events(clever),
        wall_s=3.0,
    )


def _near(t_s: float, windows: tuple[tuple[float, float], ...]) -> bool:
    return any(lo <= t_s < hi for lo, hi in windows)


def _edge_row(world: World, t_s: float, clever: bool) -> list[float]:
    read = world.readings()
    load = sum(read[f"{f.id}.p_kw"] for f in world.site.feeders)
    required, held = 0.3 * load, 500.0 * float(read["bess1.soc"] > 0.12)
    reserve = [required, held, max(0.0, required - held), 0.0 if clever else 2.0, 0.0]
    if not clever:
        return [*reserve, *([float("nan")] * 7)]
    hour = t_s / 3600.0
    sun = 400.0 * max(0.0, float(np.sin((hour - 6.3) / 12.2 * np.pi)))
    return [*reserve, 100.0 + 5 * hour, load + 8.0, sun, 0.0, read["bess1.soc"] + 0.02, 0.0, 0.0]


def _events(clever: bool) -> tuple[GensetEvent, ...]:
    unit, late_s = ("gen2", 60.0) if clever else ("gen1", 340.0)
    rows = []
    for out_s, length_s in ((SURPRISE_S, 3000.0), (EVENING_S, 7200.0)):
        rows.append(
            (
                out_s + late_s,
                "start",
                "the mains is away & the battery alone would last 41 min, of 4 h assumed",
            )
        )
        rows.append((out_s + length_s + 180.0, "stop", "the mains has been good for 60 s"))
    return tuple(
        GensetEvent(at=START + timedelta(seconds=t), genset=unit, kind=kind, reason=reason, cause="plan")
        for t, kind, reason in rows
    )


def meta() -> RunMeta:
    return RunMeta(
        site_file="sites/small/site.yaml",
        site_sha256="0123456789abcdef" * 4,
        notices=NOTICES,
        command="ems demo --seed 4",
        remarks=("The planner was killed at 14:00 and was back after 4 s; no control cycle was missed.",),
    )
