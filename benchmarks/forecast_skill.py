"""Skill and speed of the forecaster against naive rivals, in one run.

    python -m benchmarks.forecast_skill [--data FOLDER] [--origins 250]

Without --data: 60 days of the demo plant's synthetic load and PV (the rivals see the same). With --data: the
folder of the UCSD microgrid data (S. Silwal et al., J. Renewable Sustainable Energy 13, 025301, 2021),
2019-03 to 2020-02, measured. nRMSE in % of capacity by block of lead; PV in daylight only.
"""

import argparse
import csv
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from cli._sites import find_site
from ems.clock import wall_s
from ems.forecast import Forecast
from ems.ports import Forecaster
from ems.series import UniformSeries
from ems.site import Site
from ems.site_schema import load_site
from ems.timegrid import FloatArray, TimeGrid
from forecasting.history import HistoryForecaster
from forecasting.skill import ALL, backtest, block_names, spread_origins
from forecasting.slots import SlotSeries, onto_grid, slot_of, slot_range, to_slots
from sim.synthetic import demo_scenario

SeriesMap = Mapping[str, UniformSeries]


@dataclass(frozen=True, kw_only=True)
class Naive:
    """The same hours so many days ago, again and again."""

    days: int
    load: Mapping[str, SlotSeries]
    pv: Mapping[str, SlotSeries]

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        lo, n = slot_of(issued_at), len(grid)

        def old(series: SlotSeries) -> FloatArray:
            past = np.resize(np.nan_to_num(series.window(lo - 96 * self.days, lo)), slot_range(grid)[1] - lo)
            return onto_grid(past, lo, grid)

        return Forecast(
            grid=grid,
            issued_at=issued_at,
            data_cutoff=issued_at,
            source="naive",
            load_kw={k: old(s) for k, s in self.load.items()},
            pv_kw={k: old(s) for k, s in self.pv.items()},
            import_per_kwh=np.zeros(n),
            export_per_kwh=np.zeros(n),
            outages=(),
        )


def ucsd(path: Path) -> UniformSeries:
    """One UCSD file: wall-clock stamps, newest first, an hour missing in spring and one twice in autumn."""
    zone = ZoneInfo("America/Los_Angeles")
    start, end = datetime(2018, 6, 1, tzinfo=UTC), datetime(2020, 3, 1, tzinfo=UTC)
    values = np.full(int((end - start).total_seconds() // 900), np.nan)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            wall = datetime.strptime(row["DateTime"], "%m/%d/%Y %H:%M")
            i = int((wall.replace(tzinfo=zone).astimezone(UTC) - start).total_seconds() // 900)
            if 0 <= i < len(values):
                values[i] = float(row["RealPower"] or "nan")
    return UniformSeries(start=start, step_s=900.0, values=values)


def measured(site: Site, folder: Path, count: int) -> tuple[Site, SeriesMap, SeriesMap, list[datetime]]:
    load, pv = ucsd(folder / "MusicBuilding.csv"), ucsd(folder / "HopkinsParkingPV.csv")
    there = replace(
        site,
        timezone="America/Los_Angeles",
        latitude_deg=32.88,
        longitude_deg=-117.23,
        feeders=(replace(site.feeders[0], p_peak_kw=160.0),),
        pv=(replace(site.pv[0], p_ac_kw=330.0, p_dc_kwp=330.0),),
    )
    origins = spread_origins(datetime(2019, 3, 1, tzinfo=UTC), datetime(2020, 2, 25, tzinfo=UTC), count)
    pv = replace(pv, values=np.maximum(pv.values, 0.0))
    return there, {site.feeders[0].id: load}, {site.pv[0].id: pv}, origins


def synthetic(site: Site, count: int) -> tuple[Site, SeriesMap, SeriesMap, list[datetime]]:
    scenario = demo_scenario(site, date(2026, 2, 1), seed=1, days=60)
    origins = spread_origins(scenario.start, scenario.end - timedelta(days=2), count)
    return site, scenario.load_kw, scenario.pv_kw, origins


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the UCSD data")
    parser.add_argument("--origins", type=int, default=250, help="times of issue (250)")
    args = parser.parse_args()
    site = load_site(find_site("demo"))
    site, load, pv, origins = (
        synthetic(site, args.origins) if args.data is None else measured(site, args.data, args.origins)
    )
    capacity = {f.id: f.p_peak_kw for f in site.feeders} | {p.id: p.p_ac_kw for p in site.pv}
    ours = HistoryForecaster(site, load, pv)
    slots = ({k: to_slots(k, s) for k, s in load.items()}, {k: to_slots(k, s) for k, s in pv.items()})
    rivals: dict[str, Forecaster] = {
        "naive 1 day": Naive(days=1, load=slots[0], pv=slots[1]),
        "naive 7 days": Naive(days=7, load=slots[0], pv=slots[1]),
        "history": ours,
    }
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}; "
        f"{len(origins)} origins"
    )
    print(
        f"{'nRMSE %':22s}" + "".join(f"{b:>10s}" for b in (*block_names(), ALL)) + f"{'nMAE':>8s}{'bias':>8s}"
    )
    for name, forecaster in rivals.items():
        result = backtest(forecaster, (load, pv), capacity, origins)
        for asset, scores in [*result.load.items(), *result.pv.items()]:
            cells = "".join(f"{100 * scores[b].nrmse_ratio:10.2f}" for b in (*block_names(), ALL))
            end = f"{100 * scores[ALL].nmae_ratio:8.2f}{100 * scores[ALL].bias_ratio:8.2f}"
            coverage = scores[ALL].coverage_ratio
            band = "" if coverage is None else f"   p10 to p90 holds {100 * coverage:.0f} %"
            print(f"{name:13s}{asset:9s}{cells}{end}{band}")
    hours = [origins[0] + timedelta(hours=h) for h in range(240)]
    spent = {name: cost_ms(rivals[name], hours) for name in ("naive 1 day", "history")}
    ratio = spent["history"] / spent["naive 1 day"]
    print(
        f"{spent['history']:.1f} ms a forecast of 72 steps, {len(load) + len(pv)} series, every hour, "
        f"bands and prices included: {ratio:.1f} x naive"
    )


def cost_ms(forecaster: Forecaster, hours: list[datetime]) -> float:
    """Mean over an hourly sequence, the first call left out [ms]."""
    grids = [(TimeGrid.blocks(h, ((900.0, 24), (1800.0, 12), (3600.0, 36))), h) for h in hours]
    forecaster.forecast(*grids[0])
    began = wall_s()
    for grid, at in grids[1:]:
        forecaster.forecast(grid, at)
    return 1e3 * (wall_s() - began) / (len(hours) - 1)


if __name__ == "__main__":
    main()
