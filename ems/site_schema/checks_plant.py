"""What the plant's own numbers mean together: place, ratings against limits, tiers, tariff, outages."""

import difflib
import itertools
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from ems.points import AssetKind
from ems.site_schema.draft import Draft
from ems.site_schema.forms import BatteryForm, BessForm, FuelPointForm, GensetForm
from ems.site_schema.text import Loc

SFC_RATED = (0.18, 0.45)  # plausible L/kWh at rating; over it the number is mistyped or in another unit
SLOPE_STEP = (0.5, 2.0)  # how the slope of a fuel curve may change from one segment to the next
POWER_FACTOR = 0.95  # assumed at the interconnection where nothing is said


def check_plant(draft: Draft) -> None:
    """Every check that needs neither points nor worst cases."""
    _place(draft)
    _hierarchy(draft)
    _grid(draft)
    for bess_id, bess in draft.bess.items():
        _bess(draft, ("bess", bess_id), bess)
    for genset_id, genset in draft.gensets.items():
        _genset(draft, ("gensets", genset_id), genset)
    _pv(draft)
    _feeders(draft)
    _forming(draft)
    _reserve(draft)
    _outages(draft)
    _maintenance(draft)


def hint(name: str, known: Iterable[str]) -> str:
    """Did-you-mean, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def clock(hour: float) -> str:
    """A local hour as 18:30."""
    return f"{int(hour):02d}:{round(hour % 1 * 60):02d}"


def _zone(draft: Draft, loc: Loc, name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        draft.add(loc, repr(name), "an IANA time zone such as Africa/Nairobi")
        return None


def _place(draft: Draft) -> None:
    place = draft.location
    if place is not None and (zone := _zone(draft, ("location", "timezone"), place.timezone)) is not None:
        # Standard time: the smaller offset of January and July. Zones stray up to 3.5 h from the sun.
        offsets = [datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
        standard_h = min(o.total_seconds() / 3600.0 for o in offsets if o is not None)
        apart_h = (place.longitude_deg / 15.0 - standard_h + 12.0) % 24.0 - 12.0
        if abs(apart_h) > 4.0:
            draft.add(
                ("location", "longitude_deg"),
                f"{place.longitude_deg:g} deg with {place.timezone}",
                f"a longitude near {standard_h * 15.0:g} deg, east positive",
                "sign of the longitude?",
            )
    if draft.tariff is not None and place is not None and draft.tariff.timezone != place.timezone:
        draft.add(("tariff", "timezone"), repr(draft.tariff.timezone), f"the site's: {place.timezone}")
    if draft.tariff is not None and draft.money is not None and draft.tariff.currency != draft.money.currency:
        draft.add(("tariff", "currency"), repr(draft.tariff.currency), f"the site's: {draft.money.currency}")


def _hierarchy(draft: Draft) -> None:
    if draft.hierarchy is None:
        return
    where: dict[str, str] = {}
    for subsystem, assets in draft.hierarchy.subsystems.items():
        for i, asset in enumerate(assets):
            loc = ("hierarchy", "subsystems", subsystem, i)
            if asset in where:
                draft.add(loc, repr(asset), "each asset in one subsystem", f"already in {where[asset]}")
            elif asset not in draft.kinds:
                draft.add(
                    loc, repr(asset), f"one of {', '.join(draft.kinds)}", hint(asset, draft.kinds)
                )  # fmt: skip
            where.setdefault(asset, subsystem)
    for asset in draft.kinds:
        if asset not in where:
            draft.add(
                ("hierarchy", "subsystems"), f"{asset!r} in no subsystem", "each asset in one subsystem"
            )


def _grid(draft: Draft) -> None:
    grid = draft.grid
    if grid is None:
        return
    reactive = grid.p_import_kw_max * (1.0 / POWER_FACTOR**2 - 1.0) ** 0.5
    drop_pu = (grid.r_ohm * grid.p_import_kw_max + grid.x_ohm * reactive) * 1e3 / grid.v_nominal_v**2
    if 1.0 - drop_pu < grid.v_min_pu:
        draft.add(
            ("grid", "p_import_kw_max"),
            f"{grid.p_import_kw_max:g} kW behind {grid.r_ohm:g} + j{grid.x_ohm:g} ohm",
            f"a voltage of {grid.v_min_pu:g} pu or more at full import",
            f"power factor {POWER_FACTOR:g} leaves {1.0 - drop_pu:.3f} pu",
        )


def _bess(draft: Draft, loc: Loc, bess: BessForm) -> None:
    battery, pcs = bess.battery, bess.pcs
    _battery(draft, (*loc, "battery"), battery)
    for key in ("p_charge_kw_max", "p_discharge_kw_max"):
        power_kw = getattr(battery, key)
        if power_kw > pcs.s_kva:
            draft.add(
                (*loc, "battery", key), f"{power_kw:g} kW", f"at most the PCS rating, {pcs.s_kva:g} kVA"
            )


def _battery(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    if not b.soc_min < b.soc_max:
        draft.add((*loc, "soc_min"), f"{b.soc_min:g}", f"less than soc_max, {b.soc_max:g}")
    elif not b.soc_min <= b.soc_taper_low < b.soc_taper_high <= b.soc_max:
        draft.add(
            (*loc, "soc_taper_low"),
            f"{b.soc_taper_low:g} and soc_taper_high {b.soc_taper_high:g}",
            f"in this order between soc_min {b.soc_min:g} and soc_max {b.soc_max:g}",
        )
    power_kw = max(b.p_charge_kw_max, b.p_discharge_kw_max)
    hours = b.energy_kwh / power_kw
    if not 0.1 <= hours <= 24.0:
        draft.add(
            (*loc, "energy_kwh"), f"{b.energy_kwh:g} kWh with {power_kw:g} kW", "0.1 to 24 h at full power"
        )
    for key, eta, loss_pu in (
        ("eta_charge", b.eta_charge, b.loss_charge_pu),
        ("eta_discharge", b.eta_discharge, b.loss_discharge_pu),
    ):
        if eta - loss_pu < 0.7:
            draft.add(
                (*loc, key), f"{eta:g} less {loss_pu:g} at full power", "0.7 or more left at full power"
            )
    for key in ("aux_kw", "no_load_loss_kw"):
        if (own_kw := getattr(b, key)) > 0.05 * power_kw:
            draft.add(
                (*loc, key), f"{own_kw:g} kW", f"at most 5 % of the power, {0.05 * power_kw:g} kW", "W?"
            )


def _genset(draft: Draft, loc: Loc, g: GensetForm) -> None:
    if not g.p_min_kw < g.p_rated_kw:
        draft.add((*loc, "p_min_kw"), f"{g.p_min_kw:g} kW", f"less than p_rated_kw, {g.p_rated_kw:g} kW")
    if not g.p_rated_kw <= g.s_kva <= 2.0 * g.p_rated_kw:
        draft.add((*loc, "s_kva"), f"{g.s_kva:g} kVA", f"{g.p_rated_kw:g} to {2 * g.p_rated_kw:g} kVA")
    if g.step_load_kw_max > g.p_rated_kw:
        draft.add((*loc, "step_load_kw_max"), f"{g.step_load_kw_max:g} kW", f"at most {g.p_rated_kw:g} kW")
    ramp_s = g.p_rated_kw / g.ramp_kw_s
    if not 0.5 <= ramp_s <= 900.0:
        draft.add(
            (*loc, "ramp_kw_s"),
            f"{g.ramp_kw_s:g} kW/s: {ramp_s:g} s to full load",
            "0.5 to 900 s",
            "per min?",
        )
    if (delay_s := g.crank_s + g.warm_up_s + g.synchronise_s) > 1800.0:
        draft.add((*loc, "crank_s"), f"{delay_s:g} s from request to on load", "at most 1800 s in all", "ms?")
    if g.tank_l < g.fuel_points[-1].fuel_l_h:
        draft.add(
            (*loc, "tank_l"),
            f"{g.tank_l:g} L",
            f"an hour at rating or more, {g.fuel_points[-1].fuel_l_h:g} L",
        )
    for i, quiet in enumerate(g.quiet):
        if quiet.start == quiet.end:
            draft.add((*loc, "quiet", i, "to"), clock(quiet.end), "another time than from", "00:00 to 24:00?")
    _fuel(draft, (*loc, "fuel_points"), g)


def _fuel(draft: Draft, loc: Loc, g: GensetForm) -> None:
    points = g.fuel_points
    rising = True
    for i, (a, b) in enumerate(itertools.pairwise(points), 1):
        if not (a.p_kw < b.p_kw and a.fuel_l_h < b.fuel_l_h):
            draft.add(
                (*loc, i),
                f"{b.p_kw:g} kW, {b.fuel_l_h:g} L/h after {a.p_kw:g} kW, {a.fuel_l_h:g} L/h",
                "more power and more fuel than the point before",
            )
            rising = False
    last = points[-1]
    if abs(last.p_kw - g.p_rated_kw) > 1e-6:
        draft.add(
            (*loc, len(points) - 1, "p_kw"), f"{last.p_kw:g} kW", f"p_rated_kw, {g.p_rated_kw:g} kW, last"
        )
    if points[0].p_kw > g.p_min_kw:
        draft.add((*loc, 0, "p_kw"), f"{points[0].p_kw:g} kW", f"at most p_min_kw, {g.p_min_kw:g} kW, first")
    if not rising:
        return
    sfc = last.fuel_l_h / last.p_kw
    if not SFC_RATED[0] <= sfc <= SFC_RATED[1]:
        draft.add(
            (*loc, len(points) - 1, "fuel_l_h"),
            f"{last.fuel_l_h:g} L/h: {sfc:.3f} L/kWh",
            f"{SFC_RATED[0]:g} to {SFC_RATED[1]:g} L/kWh at rating",
            "unit of the fuel, or a mistyped digit?",
        )
    _slopes(draft, loc, points)


def _slopes(draft: Draft, loc: Loc, points: list[FuelPointForm]) -> None:
    slopes = [(b.fuel_l_h - a.fuel_l_h) / (b.p_kw - a.p_kw) for a, b in itertools.pairwise(points)]
    for i, (a, b) in enumerate(itertools.pairwise(slopes), 1):
        if not SLOPE_STEP[0] <= b / a <= SLOPE_STEP[1]:
            draft.add(
                (*loc, i, "fuel_l_h"),
                f"{points[i].fuel_l_h:g} L/h: slope {a:.3f} then {b:.3f} L/kWh",
                f"a slope that changes by a factor of {SLOPE_STEP[0]:g} to {SLOPE_STEP[1]:g}",
                "a mistyped digit?",
            )


def _pv(draft: Draft) -> None:
    for pv_id, pv in draft.pv.items():
        if not 0.5 <= (ratio := pv.p_dc_kwp / pv.p_ac_kw) <= 2.5:
            draft.add(
                ("pv", pv_id, "p_dc_kwp"),
                f"{pv.p_dc_kwp:g} kWp to {pv.p_ac_kw:g} kW AC: {ratio:.2f}",
                "a DC/AC ratio of 0.5 to 2.5",
            )


def _feeders(draft: Draft) -> None:
    ranked = sorted(draft.feeders.items(), key=lambda item: item[1].tier)
    for (vital_id, vital), (other_id, other) in itertools.combinations(ranked, 2):
        if vital.tier < other.tier and vital.voll_per_kwh < other.voll_per_kwh:
            draft.add(
                ("feeders", other_id, "voll_per_kwh"),
                f"{other.voll_per_kwh:g} in tier {other.tier}",
                f"at most {vital.voll_per_kwh:g}, that of {vital_id} in tier {vital.tier}",
                "a lower tier number is more critical",
            )
    if draft.tariff is None:
        return
    dearest = max([draft.tariff.default_import_per_kwh, *(w.import_per_kwh for w in draft.tariff.windows)])
    dearest += max([b.add_per_kwh for b in draft.tariff.energy_blocks], default=0.0)
    if draft.money is not None:
        dearest += draft.money.carbon_per_kg * draft.money.import_co2_kg_per_kwh
    for feeder_id, feeder in draft.feeders.items():
        if feeder.voll_per_kwh <= dearest:
            draft.add(
                ("feeders", feeder_id, "voll_per_kwh"),
                f"{feeder.voll_per_kwh:g}",
                f"more than the dearest energy, {dearest:g}",
                "or load would be shed to save money",
            )


def _forming(draft: Draft) -> None:
    if draft.forming is None:
        return
    for mode, order in (("grid_tied", draft.forming.grid_tied), ("islanded", draft.forming.islanded)):
        for i, asset in enumerate(order):
            loc = ("forming", mode, i)
            kind = draft.kinds.get(asset)
            allowed = (AssetKind.GRID,) if mode == "grid_tied" else (AssetKind.BESS, AssetKind.GENSET)
            words = " or a ".join(allowed)
            if kind is None:
                draft.add(loc, repr(asset), f"a {words} of this site", hint(asset, draft.kinds))
            elif kind not in allowed:
                draft.add(loc, f"{asset!r}, a {kind}", f"a {words}: nothing else forms the grid when {mode}")
            elif asset in order[:i]:
                draft.add(loc, f"{asset!r} again", "each asset once")
            elif asset in draft.bess and not draft.bess[asset].pcs.can_form:
                draft.add(loc, f"{asset!r}, whose PCS has can_form: false", "an asset that can form the grid")


def _reserve(draft: Draft) -> None:
    if draft.reserve is None or "feeders" not in draft.complete:
        return
    tiers = sorted({f.tier for f in draft.feeders.values()})
    if draft.reserve.critical_tier not in tiers:
        draft.add(
            ("reserve", "critical_tier"), f"{draft.reserve.critical_tier}", f"a tier in use: {tiers}"
        )  # fmt: skip


def _outages(draft: Draft) -> None:
    seen: dict[tuple[str, datetime], int] = {}
    for i, outage in draft.outages.items():
        loc = ("outages", i)
        if not outage.start < outage.end:
            draft.add(
                (*loc, "end"), f"{outage.end.isoformat()}", f"after the start, {outage.start.isoformat()}"
            )
        elif (days := (outage.end - outage.start).total_seconds() / 86400.0) > 31.0:
            draft.add(
                (*loc, "end"), f"an outage of {days:.0f} days", "at most 31 days", "year or month mistyped?"
            )
        elif outage.issued_at >= outage.end:
            draft.add((*loc, "issued_at"), outage.issued_at.isoformat(), "before the outage is over")
        version = (outage.id, outage.issued_at)
        if version in seen:
            first = draft.document.line(("outages", seen[version]))
            draft.add(
                (*loc, "issued_at"),
                f"the time of issue of {outage.id!r} in line {first}",
                "a later time of issue for a later version",
            )
        seen.setdefault(version, i)


def _maintenance(draft: Draft) -> None:
    for i, window in draft.maintenance.items():
        loc = ("maintenance", i)
        if draft.kinds.get(window.asset) is not AssetKind.GENSET:
            gensets = ", ".join(draft.of_kind(AssetKind.GENSET))
            draft.add((*loc, "asset"), window.asset, f"a genset of this site: {gensets or 'there is none'}")
        if not window.start < window.end:
            draft.add((*loc, "end"), window.end.isoformat(), f"after the start, {window.start.isoformat()}")
