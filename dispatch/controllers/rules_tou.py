"""`rules_tou`: time-of-use windows, peak shaving and a reserve before announced outages, over `rules`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dispatch.controllers.burn_off import with_burn_off
from dispatch.controllers.demand_peak import held_peak_kw
from dispatch.controllers.exercise import with_exercise
from dispatch.controllers.plan_pv import no_paid_export
from dispatch.controllers.rules import Rules, islanded, peak_lopping, rule, shares, stores
from dispatch.protections.balance import charge_room_kw, discharge_room_kw
from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from ems.frozen import replace
from ems.outage import OutageNotice
from ems.prices import DayPrices
from ems.rules import TouParams as TouParams
from ems.rules import fitted_tou
from ems.site import GridMode
from ems.tariff import Tariff
from plant_models.battery import ac_kw


def price_place(tariff: Tariff, when: datetime, told: DayPrices | None = None) -> float | None:
    """Place of the price at `when` among those of its local day: 0 cheapest, 1 dearest, None if flat.

    `told`: prices of the day as known now; where they are of another day, or None, the tariff's windows.
    """
    if told is not None and (quarter := told.quarter(when)) is not None:
        return _place(told.import_per_kwh, told.import_per_kwh[quarter])
    local = when.astimezone(ZoneInfo(tariff.timezone))
    day, month = tariff.day_type(local), local.month
    today = [w for w in tariff.windows if day in w.weekdays and month in w.months]
    prices = [w.import_per_kwh for w in today]
    if not today or sum(w.end_h - w.start_h for w in today) < 24.0 - 1e-9:
        prices.append(tariff.default_import_per_kwh)
    now = next((w.import_per_kwh for w in today if w.holds(local, day)), tariff.default_import_per_kwh)
    return _place(prices, now)


def _place(prices: Sequence[float], now: float) -> float | None:
    low, high = min(prices), max(prices)
    return None if high - low < 1e-9 else (now - low) / (high - low)


def next_outage(
    outages: Sequence[OutageNotice], now: datetime, lead_h: float
) -> tuple[OutageNotice, float] | None:
    """The first announced outage that begins within `lead_h` or is on, and the hours until it begins."""
    for notice in sorted(outages, key=lambda n: n.start):
        if notice.end > now and notice.start - now <= timedelta(hours=lead_h):
            return notice, max(0.0, (notice.start - now).total_seconds() / 3600.0)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTou:
    """Rules with a tariff, a peak threshold and a look at the announced outages."""

    params: TouParams = field(default_factory=TouParams)
    name: str = "rules_tou"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        match context.condition.grid_mode:
            case GridMode.GRID_TIED:
                now = context.now
                return self._without_time(context) if now is None else self._grid_tied(context, now)
            case GridMode.ISLANDED:
                return islanded(self.params.base, context)
            case _:
                return Targets(source=Source.RULES), context.memory

    def _without_time(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Nobody knows what hour it is: plain rules, no price has a say.

        Where an announced outage may be near, its reserve is their backup reserve.
        """
        p = base = self.params.base
        if context.outages:
            wanted = self.params.outage_soc
            p = replace(
                base, soc_floor=max(base.soc_floor, wanted), soc_recharge=max(base.soc_recharge, wanted)
            )
        return Rules(params=p).decide(context)

    def _grid_tied(self, context: Context, now: datetime) -> tuple[Targets, ControlMemory]:
        residual_kw = context.power.net_kw - context.power.genset_kw
        place = price_place(context.site.tariff, now, context.prices)
        outage = next_outage(context.outages, now, self.params.outage_lead_h)
        bess = {}
        for b, want_kw in shares(context, residual_kw).items():
            bess[b] = self._of(context, b)._bess(context, b, want_kw, place, outage)
        run, load, memory = peak_lopping(self.params.base, context)
        pv = no_paid_export(context)
        wishes = Targets(source=Source.RULES, bess_p_kw=bess, genset_run=run, genset_p_kw=load, pv_wish=pv)
        return with_burn_off(context, with_exercise(context, wishes), stores), memory

    def _of(self, context: Context, bess: str) -> "RulesTou":
        """These rules with their thresholds inside the window of one battery."""
        battery = next(b.battery for b in context.site.bess if b.id == bess)
        return replace(self, params=fitted_tou(self.params, battery))

    def _bess(
        self,
        context: Context,
        bess: str,
        want_kw: float,
        place: float | None,
        outage: tuple[OutageNotice, float] | None,
    ) -> Target:
        """One battery: `want_kw` is its share of what gensets and PV leave over, surplus negative."""
        c = context.condition.bess[bess]
        battery = next(b.battery for b in context.site.bess if b.id == bess)
        shaved = self._shave(context, bess, want_kw, place, outage)
        if shaved is not None:
            return shaved
        charge_kw, why = self._grid_charge(context, bess, place, outage)
        surplus_kw = min(max(0.0, -want_kw), charge_room_kw(battery, c, battery.soc_max, context.dt_s))
        if max(charge_kw, surplus_kw) > 0.0:
            if surplus_kw >= charge_kw:
                return rule(-surplus_kw, f"PV surplus of {-want_kw:.0f} kW charges the battery")
            return rule(-charge_kw, why)
        floor, why = self._floor(place, outage)
        room_kw = discharge_room_kw(battery, c, floor, context.dt_s)
        return rule(min(max(0.0, want_kw), room_kw), why)

    def _floor(self, place: float | None, outage: tuple[OutageNotice, float] | None) -> tuple[float, str]:
        """SoC down to which the battery may cover load now, and why."""
        p = self.params
        if outage is not None:
            return p.outage_soc, f"the battery is kept at {p.outage_soc:.0%} for outage {outage[0].id}"
        if place is None or place >= p.discharge_price_share:
            return p.discharge_soc, f"dear hours: the battery covers load down to {p.discharge_soc:.0%}"
        return p.mid_soc, f"between the windows: the battery covers load down to {p.mid_soc:.0%}"

    def _grid_charge(
        self,
        context: Context,
        bess: str,
        place: float | None,
        outage: tuple[OutageNotice, float] | None,
    ) -> tuple[float, str]:
        """Charging from the grid, at least 0 [kW], and why; the import stays below the peak threshold."""
        p, c = self.params, context.condition.bess[bess]
        battery = next(b.battery for b in context.site.bess if b.id == bess)
        want_kw, why = 0.0, ""
        if place is not None and place <= p.charge_price_share and c.soc < p.charge_soc:
            room_kw = charge_room_kw(battery, c, p.charge_soc, context.dt_s)
            want_kw = min(p.charge_power_ratio * battery.p_charge_kw_max, room_kw)
            why = f"cheap hours: the battery charges to {p.charge_soc:.0%}"
        if c.soc < p.base.soc_floor:
            room_kw = charge_room_kw(battery, c, p.base.soc_floor, context.dt_s)
            want_kw = max(want_kw, min(p.base.grid_charge_ratio * battery.p_charge_kw_max, room_kw))
            why = f"SoC {c.soc:.0%} is below the backup reserve of {p.base.soc_floor:.0%}"
        if outage is not None and c.soc < p.outage_soc:
            missing_kwh = (p.outage_soc - c.soc) * battery.energy_kwh / battery.eta_charge
            hours = max(outage[1] - 0.25, 0.25)
            if battery.charge_curve is not None:
                stored_kw = (p.outage_soc - c.soc) * battery.energy_kwh / hours + battery.no_load_loss_kw
                missing_kwh = -ac_kw(battery, stored_kw) * hours
            room_kw = charge_room_kw(battery, c, p.outage_soc, context.dt_s)
            want_kw = max(want_kw, min(1.2 * missing_kwh / hours, room_kw))
            why = f"outage {outage[0].id} begins in {outage[1]:.1f} h: charge to {p.outage_soc:.0%}"
        site_kw = context.power.net_kw - context.power.genset_kw
        return min(want_kw, max(0.0, self._import_limit_kw(context) - site_kw)), why

    def _threshold_kw(self, context: Context) -> float | None:
        """What the import is held below [kW]: the parameter, else what the last plan reckoned with.

        Where demand is not charged now, or no plan of this billing month was followed, None: the peak of a
        month that has only begun is no threshold, and would empty the battery for nothing.
        """
        if self.params.peak_shave_kw is not None:
            return max(self.params.peak_shave_kw, context.condition.peak_import_kw)
        return held_peak_kw(context)

    def _import_limit_kw(self, context: Context) -> float:
        """Peak threshold, or the month's peak so far where that is higher; never above the contract."""
        cap_kw, threshold_kw = context.site.grid.p_import_kw_max, self._threshold_kw(context)
        if threshold_kw is None:
            return cap_kw
        return min(cap_kw, threshold_kw)

    def _shave(
        self,
        context: Context,
        bess: str,
        want_kw: float,
        place: float | None,
        outage: tuple[OutageNotice, float] | None,
    ) -> Target | None:
        """Discharge what would go over the peak threshold, down to `peak_soc`.

        Over the last plan's peak, which nobody set here, not past the backup reserve nor the charge for an
        announced outage.
        """
        p, limit_kw = self.params, self._import_limit_kw(context)
        site_kw = context.power.net_kw - context.power.genset_kw
        if site_kw <= limit_kw or self._threshold_kw(context) is None:
            return None
        battery = next(b.battery for b in context.site.bess if b.id == bess)
        low = p.peak_soc
        if p.peak_shave_kw is None:
            low = max(low, p.base.soc_floor, 0.0 if outage is None else p.outage_soc)
        room_kw = discharge_room_kw(battery, context.condition.bess[bess], low, context.dt_s)
        floor, _ = self._floor(place, None)
        cover_kw = min(want_kw, discharge_room_kw(battery, context.condition.bess[bess], floor, context.dt_s))
        over_kw = want_kw * (site_kw - limit_kw) / site_kw
        p_kw = min(room_kw, max(over_kw, cover_kw))
        return rule(p_kw, f"peak shaving: the site would draw {site_kw:.0f} kW, threshold {limit_kw:.0f} kW")
