"""What a window of two days cannot see: how high the month will peak anyway, and what it will still import.

    min  energy + demand of whole months + diesel + starts + unserved at VOLL      from now to the month's end

is the linear program of `bound.py` on the forecaster's typical days, at most once a day. Its peak is the
month's *target*: import up to it costs no demand charge in a plan, above it the full rate counts.

Source: the month's problem is solved coarsely and its peak passed to the short one, as in hierarchical MPC;
figures in docs/decisions/0003-month-end-demand-target.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.condition import PlantCondition
from ems.errors import DataError
from ems.forecast import Forecast
from ems.ports import Forecaster
from ems.site import GridMode, Site
from ems.tariff import MAIN_CHARGE
from ems.timegrid import FloatArray, TimeGrid
from optimizer.bound import PeriodTruth, period_solution
from optimizer.options import DemandWeight, PlannerOptions

STEP_S = 3600.0
WINDOW_S = 3 * 86400.0  # the month this far ahead is looked at as well: plans reach into it


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthOutlook:
    """What is expected from `made_at` to the end of the month in which a plan's window may end.

    `peak_kw` by local month ("2026-03"), the peak so far included; `import_kw` (T,) mean import on `grid`.
    `failed` says why there is none: then `peak_kw` is empty.
    """

    made_at: datetime
    grid: TimeGrid
    peak_kw: Mapping[str, float]
    import_kw: FloatArray
    charge_peaks_kw: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of further charges
    failed: str = ""

    def peaks_of(self, charge: str) -> Mapping[str, float]:
        """Expected peaks of a demand charge by local month [kW, kVA]."""
        return self.peak_kw if charge == MAIN_CHARGE else self.charge_peaks_kw.get(charge, {})

    def import_after_kwh(self, after: datetime, month: str, timezone: str) -> float:
        """Import expected in a local month after an instant [kWh]."""
        zone = ZoneInfo(timezone)
        total = 0.0
        for start, step_s, kw in zip(self.grid.starts(), self.grid.step_s, self.import_kw, strict=True):
            if month and f"{start.astimezone(zone):%Y-%m}" == month:
                gone_s = min(step_s, max(0.0, (after - start).total_seconds()))
                total += float(kw) * (step_s - gone_s) / 3600.0
        return total

    def words(self, month: str) -> str:
        """For the notes of a plan."""
        if self.failed or month not in self.peak_kw:
            return f"no demand target for {month}: {self.failed or 'not looked at yet'}"
        return (
            f"demand target {self.peak_kw[month]:.0f} kW: what {month} reaches anyway on typical days, by "
            f"the linear program of {self.made_at:%d %H:%M} UTC"
            + "".join(f"; {name} {kw[month]:.0f}" for name, kw in self.charge_peaks_kw.items() if month in kw)
        )


def month_end(at: datetime, timezone: str) -> datetime:
    """First instant after the local month of `at`."""
    local = at.astimezone(ZoneInfo(timezone))
    return datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=ZoneInfo(timezone))


def outlook_grid(at: datetime, timezone: str) -> TimeGrid:
    """Hours from `at` to the end of the local month of three days later, the last one as short as needed."""
    left_s = month_end(at + timedelta(seconds=WINDOW_S), timezone).timestamp() - at.timestamp()
    first_s = STEP_S - at.timestamp() % STEP_S
    count, rest_s = divmod(left_s - first_s, STEP_S)
    steps = [first_s, *(STEP_S,) * int(count), *((rest_s,) if rest_s > 1.0 else ())]
    return TimeGrid(start=at, step_s=tuple(steps))


def month_outlook(site: Site, condition: PlantCondition, forecast: Forecast) -> MonthOutlook:
    """Solve the rest of the month on a forecast over `outlook_grid`; a failure is said, not raised."""
    grid = forecast.grid
    here = site.tariff.month(condition.at)
    try:
        solved, imported = period_solution(
            site,
            PeriodTruth(
                grid=grid,
                load_kw=forecast.load_kw,
                pv_kw=forecast.pv_kw,
                import_per_kwh=forecast.import_per_kwh,
                export_per_kwh=forecast.export_per_kwh,
                grid_share=_grid_share(site, condition, forecast),
                soc_start={b.id: _soc(condition, b.id, b.battery.soc_min) for b in site.bess},
                peaks_before_kw={here: condition.peak_import_kw},
                charge_peaks_before_kw={n: {here: kw} for n, kw in condition.charge_peaks_kw.items()},
                before_kwh={here: condition.month_import_kwh},
                expected=True,
            ),
        )
    except DataError as bad:
        return MonthOutlook(
            made_at=condition.at, grid=grid, peak_kw={}, import_kw=np.zeros(len(grid)), failed=str(bad)
        )
    return MonthOutlook(
        made_at=condition.at,
        grid=grid,
        peak_kw=solved.peak_kw,
        import_kw=imported,
        charge_peaks_kw=solved.charge_peaks_kw,
    )


def _soc(condition: PlantCondition, bess: str, empty: float) -> float:
    now = condition.bess.get(bess)
    return empty if now is None or not np.isfinite(now.soc) else min(1.0, max(0.0, now.soc))


def _grid_share(site: Site, condition: PlantCondition, forecast: Forecast) -> FloatArray:
    """(T,) share of each step with mains: announced outages, and the one that is on now."""
    edges = forecast.grid.offset_s
    out = np.ones(len(forecast.grid))
    spans = [
        ((n.start - forecast.grid.start).total_seconds(), (n.end - forecast.grid.start).total_seconds())
        for n in forecast.outages
    ]
    if condition.grid_mode is not GridMode.GRID_TIED and not condition.mains_good:
        spans.append((0.0, site.reserve.assumed_outage_h * 3600.0))
    for low, high in spans:
        lost_s = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0, None)
        out -= lost_s / np.asarray(forecast.grid.step_s)
    return np.clip(out, 0.0, 1.0)


class OutlookKeeper:
    """Keeps the outlook of the month, made anew on the first plan of each local day.

    A peak that passes the target needs no new one: a plan's base is the higher of the two.
    """

    def __init__(self, site: Site, forecaster: Forecaster, options: PlannerOptions) -> None:
        self._site, self._forecaster = site, forecaster
        tariff, target = site.tariff, options.demand_weight is DemandWeight.TARGET
        main = tariff.demand_charge_per_kw > 0.0 and options.demand_target_kw is None
        charged = main or bool(tariff.demand_charges)
        self._wanted = (target and charged) or bool(tariff.energy_blocks)
        self.kept: MonthOutlook | None = None  # part of what a run consists of: checkpoints store it

    def at(self, now: datetime, condition: PlantCondition) -> MonthOutlook | None:
        """The outlook to plan with at `now`; None where nothing in the tariff asks for one."""
        if not self._wanted:
            return None
        zone = ZoneInfo(self._site.tariff.timezone)
        kept = self.kept
        if kept is None or kept.made_at.astimezone(zone).date() != now.astimezone(zone).date():
            grid = outlook_grid(now, self._site.tariff.timezone)
            self.kept = month_outlook(self._site, condition, self._forecaster.forecast(grid, now))
        return self.kept
