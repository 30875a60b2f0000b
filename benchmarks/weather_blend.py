"""How far ahead our own view of the present sky should have a say beside a weather forecast from elsewhere.

    python -m benchmarks.weather_blend --data FOLDER [--origins 400]

FOLDER: hourly PV of an office building in Norway (`A_train_targets.parquet`) and day-ahead weather with its
time of issue (`A_X_train_estimated.parquet`, 184 issues, 2022-10 to 2023-04; ANEO, Meteomatics).
Every forecast is made by the planner's own code, from what had been issued by then. Tilt, azimuth and size of
the plant are unknown and fitted to the same data, so that weather looks better than it is. nRMSE in % of
capacity, in daylight.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

import forecasting.inputs as blended
from cli._sites import find_site
from ems.input_rules import house_provider
from ems.inputs import AIR, GHI, InputKind, InputParams, InputVersion
from ems.ports import Forecaster
from ems.series import UniformSeries
from ems.site import Site
from ems.site_schema import load_site
from ems.timegrid import FloatArray, TimeGrid
from forecasting.history import HistoryForecaster

LEADS_H = ((0, 1), (1, 2), (2, 4), (4, 6), (6, 8))
PLANE = (15.0, 135.0, 1.29)  # tilt, azimuth, kWp for each kW of capacity: the best of a coarse grid


@dataclass(frozen=True)
class Archive:
    """Weather as it was issued, day by day."""

    versions: Sequence[InputVersion]

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        found = [v for v in self.versions if v.issued_at <= at and v.span[1] > start and v.span[0] < end]
        return found[::-1][:limit]

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        return None


def weather(folder: Path) -> Archive:
    table = pd.read_parquet(folder / "A_X_train_estimated.parquet")
    versions = list[InputVersion]()
    for issued, rows in table.sort_values("date_forecast").groupby("date_calc"):
        start = pd.Timestamp(rows["date_forecast"].iloc[0]).tz_localize("UTC").to_pydatetime()
        ghi = (rows["direct_rad:W"] + rows["diffuse_rad:W"]).to_numpy(dtype=float)
        air = rows["t_1000hPa:K"].to_numpy(dtype=float) - 273.15
        at = pd.Timestamp(str(issued)).tz_localize("UTC").to_pydatetime()
        series = {n: UniformSeries(start=start, step_s=900.0, values=v) for n, v in ((GHI, ghi), (AIR, air))}
        versions.append(
            InputVersion(
                id=len(versions) + 1, input="weather", issued_at=at, issued_told=True, arrived_at=at,
                source="archive", sha256="", series=series,
            )
        )  # fmt: skip
    return Archive(versions)


def measured(folder: Path) -> UniformSeries:
    table = pd.read_parquet(folder / "A_train_targets.parquet").drop_duplicates("time").set_index("time")
    hours = pd.date_range(table.index[0], table.index[-1], freq="1h")
    values = table["pv_measurement"].reindex(hours).to_numpy(dtype=float)
    return UniformSeries(start=hours[0].tz_localize("UTC").to_pydatetime(), step_s=3600.0, values=values)


def plant(capacity: float) -> Site:
    demo = load_site(find_site("demo"))
    tilt, azimuth, size = PLANE
    pv = replace(
        demo.pv[0], p_ac_kw=1.05 * capacity, p_dc_kwp=size * capacity, tilt_deg=tilt, azimuth_deg=azimuth
    )
    kind = InputKind.WEATHER
    sky = InputParams(id="weather", kind=kind, provider=house_provider(kind), folder="x", age_s_max=172800.0)
    return replace(demo, pv=(pv,), latitude_deg=63.43, longitude_deg=10.4, inputs=(sky,))


def next_hours(truth: UniformSeries, at: datetime) -> FloatArray:
    """(8,) means of the next hours."""
    first = int((at - truth.start).total_seconds() // 3600)
    return truth.values[first : first + 8]


def errors(of: Forecaster, truth: UniformSeries, origins: Sequence[datetime], capacity: float) -> list[float]:
    """nRMSE of each block of lead, and of all of them [%]."""
    squares: list[list[float]] = [[] for _ in LEADS_H]
    for at in origins:
        grid = TimeGrid.uniform(at, 3600.0, 8)
        seen = of.forecast(grid, at)
        comes = next_hours(truth, at)
        for n, (low, high) in enumerate(LEADS_H):
            for h in range(low, high):
                if comes[h] > 0.01 * capacity:
                    squares[n].append(((next(iter(seen.pv_kw.values()))[h] - comes[h]) / capacity) ** 2)
    every = [x for block in squares for x in block]
    return [100.0 * float(np.sqrt(np.mean(block))) for block in (*squares, every)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--origins", type=int, default=400)
    args = parser.parse_args()
    truth, archive = measured(args.data), weather(args.data)
    capacity = float(np.nanquantile(truth.values, 0.999))
    site = plant(capacity)
    first = archive.versions[2].span[0]
    count = int((archive.versions[-1].span[1] - first).total_seconds() // 3600) - 9
    hours = [first + timedelta(hours=h) for h in range(count)]
    lit = [h for h in hours if truth.at(h) > 0.02 * capacity and np.isfinite(next_hours(truth, h)).all()]
    origins = lit[:: max(1, len(lit) // args.origins)]
    own = HistoryForecaster(site, {}, {site.pv[0].id: truth})
    print(f"Python {platform.python_version()}, numpy {np.__version__}; {len(origins)} origins")
    print(f"{'nRMSE %':24s}" + "".join(f"{f'{a}-{b} h':>8s}" for a, b in LEADS_H) + f"{'all':>8s}")
    rows: list[tuple[str, Forecaster, float]] = [("ours alone", own, blended.OWN_H)]
    told = blended.InputForecaster(site, own, archive)
    rows += [(f"fading over {h:g} h", told, h) for h in (2.0, 3.0, 4.0, 6.0, 8.0)]
    rows.insert(1, ("weather alone", told, 1e-6))
    for name, forecaster, fade_h in rows:
        blended.OWN_H = fade_h
        found = errors(forecaster, truth, origins, capacity)
        print(f"{name:24s}" + "".join(f"{x:8.1f}" for x in found))


if __name__ == "__main__":
    main()
