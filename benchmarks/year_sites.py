"""Plants for a year in closed loop, made of measured data and real tariffs outside the project.

Physics and bound are the same by construction: constant efficiencies, no tapers, no wear, no reserve held
against a loss of the grid, billing intervals as long as the steps. What is left between a rolling plan and
the bound of the year is the regret of the rolling horizon and nothing else.
"""

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.rolling_deadline import three_gensets
from ems.assets import BatteryParams, BessParams, FeederParams, PcsParams
from ems.series import UniformSeries
from ems.site import FormingOrder, Site
from ems.site_schema import load_site
from ems.tariff import DemandCharge, LocalWindow, Tariff, TouWindow
from ems.timegrid import FloatArray
from sim.datasets import PV_NAMEPLATE_KW, read_ucsd, ucsd_eskom_scenario
from sim.scenario import MainsEvent, Scenario

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "sites" / "demo" / "site.yaml"
HOUR_S = 3600.0
UCSD_ZONE = "America/Los_Angeles"
SDGE = "San_Diego_Gas_Electric_Co_AL_TOU_Secondary_Above_500kW.json"
FPL = "Florida_Power___Light_Co__GSLD-1__General_Service_Large_Demand_.json"
YEAR_L = 1e7  # of diesel, more than three gensets burn in a year
EVERY_DAY = frozenset(range(8))


def plain_battery(p_kw: float, energy_kwh: float) -> BessParams:
    """Constant efficiencies, no tapers, no auxiliaries, no wear: what a linear bound can follow exactly."""
    return BessParams(
        id="bess1",
        battery=BatteryParams(
            energy_kwh=energy_kwh, soc_min=0.05, soc_max=0.95, p_charge_kw_max=p_kw, p_discharge_kw_max=p_kw,
            eta_charge=0.95, eta_discharge=0.95, loss_charge_pu=0.0, loss_discharge_pu=0.0,
            no_load_loss_kw=0.0, aux_kw=0.0, self_discharge_per_h=2e-5, soc_taper_low=0.05,
            soc_taper_high=0.95, taper_ratio=1.0, wear_per_kwh=0.0,
        ),
        pcs=PcsParams(s_kva=1.2 * p_kw, can_form=False, overload_ratio=1.2, overload_s=10.0, restart_s=60.0),
    )  # fmt: skip


def grid_and_battery(name: str, zone: str, peak_kw: float, pv_kw: float, bess: BessParams) -> Site:
    """A building, PV and a battery behind a stiff grid. The tariff is put on by the caller."""
    demo = load_site(DEMO)
    building = FeederParams(
        id="building", tier=1, has_breaker=False, voll_per_kwh=20.0, p_peak_kw=peak_kw,
        power_factor_ratio=1.0, restore_dwell_s=60.0,
    )  # fmt: skip
    roof = replace(demo.pv[0], id="pv1", p_dc_kwp=1.1 * pv_kw, p_ac_kw=pv_kw)
    rights = {k: v for k, v in demo.authority.setpoints.items() if k.startswith(("bess1.", "pv1."))}
    return replace(
        demo,
        name=name,
        timezone=zone,
        grid=replace(demo.grid, p_import_kw_max=4.0 * peak_kw, p_export_kw_max=0.0, r_ohm=1e-6, x_ohm=1e-6),
        bess=(bess,),
        gensets=(),
        pv=(roof,) if pv_kw > 0.0 else (),
        feeders=(building,),
        forming=FormingOrder(grid_tied=(demo.grid.id,), islanded=()),
        authority=replace(demo.authority, setpoints=rights),
        connections=(),
        outages=(),
    )


# ---- tariffs in the form of OpenEI's URDB ---------------------------------------------------------


def urdb_tariff(path: Path, zone: str, *, on_peak: bool) -> Tariff:
    """Energy by time of use, demand at all times, and on-peak demand where it is wanted.

    Schedules are 12 x 24 indices of periods, for working days and weekends; rate and adjustment add up.
    """
    item = json.loads(path.read_text())["items"][0]
    energy = [_rate(p) for p in item["energyratestructure"]]
    windows = tuple(
        TouWindow(name=f"{w.start_h:g}-{w.end_h:g}", import_per_kwh=energy[k], **_span(w))
        for k, w in _schedule(item, "energy")
    )
    charges: tuple[DemandCharge, ...] = ()
    if on_peak and "demandratestructure" in item:
        rates = [_rate(p) for p in item["demandratestructure"]]
        found = _schedule(item, "demand")
        charges = tuple(
            DemandCharge(name=f"on-peak {k}", per_kw=rate, windows=tuple(w for i, w in found if i == k))
            for k, rate in enumerate(rates)
            if rate > 0.0
        )
    return Tariff(
        timezone=zone,
        currency="USD",
        default_import_per_kwh=energy[0],
        windows=windows,
        export_per_kwh=0.0,
        demand_charge_per_kw=_rate(item["flatdemandstructure"][item["flatdemandmonths"][0]]),
        billing_interval_s=HOUR_S,
        fixed_per_month=0.0,
        demand_charges=charges,
    )


def _rate(tiers: list[dict[str, float]]) -> float:
    return tiers[0].get("rate", 0.0) + tiers[0].get("adj", 0.0)


def _span(w: LocalWindow) -> dict[str, object]:
    return {"start_h": w.start_h, "end_h": w.end_h, "weekdays": w.weekdays, "months": w.months}


def _schedule(item: dict[str, list[list[int]]], kind: str) -> list[tuple[int, LocalWindow]]:
    """Runs of hours with one period; equal runs of several months are one window."""
    found: dict[tuple[int, int, int, frozenset[int]], set[int]] = {}
    for name, days in (("weekday", frozenset(range(5))), ("weekend", frozenset([5, 6, 7]))):
        for month, hours in enumerate(item[f"{kind}{name}schedule"], start=1):
            begin = 0
            for h in range(1, 25):
                if h == 24 or hours[h] != hours[begin]:
                    found.setdefault((hours[begin], begin, h, days), set()).add(month)
                    begin = h
    return [
        (k, LocalWindow(start_h=float(a), end_h=float(b), weekdays=days, months=frozenset(months)))
        for (k, a, b, days), months in found.items()
    ]


# ---- plants ---------------------------------------------------------------------------------------


def ucsd(folder: Path, year: int, *, tariff: str, on_peak: bool) -> Scenario:
    """A building of UC San Diego with PV and a battery under a real tariff of its utility, or another's."""
    start = datetime.combine(date(year, 1, 1), time(0), tzinfo=ZoneInfo(UCSD_ZONE)).astimezone(UTC)
    end = datetime.combine(date(year + 1, 1, 1), time(0), tzinfo=ZoneInfo(UCSD_ZONE)).astimezone(UTC)
    ucsd_folder = folder / "ucsd_microgrid"
    load = _hours(read_ucsd(ucsd_folder / "MusicBuilding.csv"), start, end)
    sun = _hours(read_ucsd(ucsd_folder / "HopkinsParkingPV.csv"), start, end)
    pv_kw = 80.0
    site = grid_and_battery("ucsd", UCSD_ZONE, 170.0, pv_kw, plain_battery(50.0, 200.0))
    site = replace(site, tariff=urdb_tariff(folder / "tariffs_urdb" / tariff, UCSD_ZONE, on_peak=on_peak))
    pv = replace(sun, values=np.clip(sun.values / PV_NAMEPLATE_KW, 0.0, 1.0) * pv_kw)
    return Scenario(
        name=f"UCSD building {year}, {tariff.split('_')[0]}", site=site, start=start, end=end,
        load_kw={"building": load}, pv_kw={"pv1": pv}, soc_start=0.5,
    )  # fmt: skip


def _hours(series: UniformSeries, start: datetime, end: datetime) -> UniformSeries:
    """Hourly means from half a year before `start` to some days after `end`."""
    first = start - timedelta(days=184)
    per = round(HOUR_S / series.step_s)
    at = round((first - series.start).total_seconds() / series.step_s)
    count = round(((end - first).total_seconds() + 4 * 86400.0) / HOUR_S)
    values = series.values[at : at + per * count].reshape(-1, per).mean(axis=1)
    return UniformSeries(start=first, step_s=HOUR_S, values=values)


def cambridge(folder: Path, year: int) -> Scenario:
    """A building of the University of Cambridge on a half-hourly retail price, hourly here."""
    zone = "Europe/London"
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 29, tzinfo=UTC)
    first = datetime(year - 1, 6, 1, tzinfo=UTC)
    where = folder / "cambridge_estates"
    load = [_csv(where / f"UCam_Building_b119_electricity_{y}.csv") for y in (year - 1, year)]
    price = _csv(where / f"Agile_import_regA_{year}.csv")
    values = np.concatenate([load[0][-round((start - first).total_seconds() / HOUR_S) :], load[1]])
    peak_kw = float(values.max())
    site = grid_and_battery("cambridge", zone, peak_kw, 0.0, plain_battery(0.5 * peak_kw, 2.0 * peak_kw))
    tariff = Tariff(
        timezone=zone, currency="GBP", default_import_per_kwh=0.15, windows=(), export_per_kwh=0.0,
        demand_charge_per_kw=0.0, billing_interval_s=HOUR_S, fixed_per_month=0.0,
    )  # fmt: skip
    return Scenario(
        name=f"Cambridge building {year}, Agile price",
        site=replace(site, tariff=tariff),
        start=start,
        end=end,
        load_kw={"building": UniformSeries(start=first, step_s=HOUR_S, values=values)},
        pv_kw={},
        import_per_kwh=UniformSeries(start=start, step_s=HOUR_S, values=price),
        soc_start=0.5,
    )


def weak(folder: Path, days: int = 365) -> Scenario:
    """The demo plant with a third genset on UCSD load and PV and a year of real load-shedding.

    Outages are widened to whole hours, so that hourly steps meet their edges, and known 48 h ahead. Tanks
    last for the year: nobody plans deliveries here.
    """
    site = three_gensets(load_site(DEMO))
    site = replace(
        site,
        name="weak",
        gensets=tuple(replace(g, tank_l=YEAR_L) for g in site.gensets),
        grid=replace(site.grid, reconnect_dwell_s=0.0),
        tariff=replace(site.tariff, billing_interval_s=HOUR_S),
    )
    scenario = ucsd_eskom_scenario(site, folder, days=days)
    ends = {"start_fail_ratio": 0.0, "mains_v_pu": None}
    return replace(scenario, mains=tuple(_whole_hours(e) for e in scenario.mains), notices=(), **ends)


def _whole_hours(event: MainsEvent) -> MainsEvent:
    start_s = event.start.timestamp() // HOUR_S * HOUR_S
    end_s = -(-event.end.timestamp() // HOUR_S) * HOUR_S
    return replace(
        event,
        start=datetime.fromtimestamp(start_s, UTC),
        end=datetime.fromtimestamp(end_s, UTC),
        announced=True,
    )


def _csv(path: Path) -> FloatArray:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    values = np.array([float(r[1]) for r in rows])
    return np.where(np.isfinite(values), values, 0.0)
