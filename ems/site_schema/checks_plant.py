"""What the plant's own numbers mean together: place, ratings against limits, tiers, tariff, outages."""

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

from ems.points import AssetKind
from ems.site_schema.checks_bess import check_bess
from ems.site_schema.checks_capability import check_pv_corners
from ems.site_schema.checks_genset import check_genset
from ems.site_schema.checks_weak_grid import (
    check_caps,
    check_flapping,
    check_reactive,
    check_sources,
    check_supervision,
    check_transformer,
    check_transitions,
)
from ems.site_schema.draft import Draft
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

POWER_FACTOR = 0.95  # assumed at the interconnection where nothing is said


def check_plant(draft: Draft) -> None:
    """Every check that needs neither points nor worst cases."""
    _place(draft)
    _hierarchy(draft)
    _grid(draft)
    check_reactive(draft)
    check_caps(draft)
    check_transformer(draft)
    check_flapping(draft)
    check_supervision(draft)
    check_transitions(draft)
    check_sources(draft)
    for bess_id, bess in draft.bess.items():
        check_bess(draft, ("bess", bess_id), bess)
    for genset_id, genset in draft.gensets.items():
        check_genset(draft, ("gensets", genset_id), genset)
    _pv(draft)
    _feeders(draft)
    _forming(draft)
    _reserve(draft)
    _outages(draft)
    _maintenance(draft)
    _deliveries(draft)


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


def _pv(draft: Draft) -> None:
    for pv_id, pv in draft.pv.items():
        if not 0.5 <= (ratio := pv.p_dc_kwp / pv.p_ac_kw) <= 2.5:
            draft.add(
                ("pv", pv_id, "p_dc_kwp"),
                f"{pv.p_dc_kwp:g} kWp to {pv.p_ac_kw:g} kW AC: {ratio:.2f}",
                "a DC/AC ratio of 0.5 to 2.5",
            )
        if pv.s_kva is not None and not pv.p_ac_kw <= pv.s_kva <= 2.0 * pv.p_ac_kw:
            draft.add(
                ("pv", pv_id, "s_kva"), f"{pv.s_kva:g} kVA", f"{pv.p_ac_kw:g} to {2 * pv.p_ac_kw:g} kVA"
            )
        check_pv_corners(draft, pv_id, pv)


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


def _deliveries(draft: Draft) -> None:
    for i, one in draft.deliveries.items():
        loc = ("deliveries", i)
        if draft.kinds.get(one.asset) is not AssetKind.GENSET:
            gensets = ", ".join(draft.of_kind(AssetKind.GENSET))
            draft.add((*loc, "asset"), one.asset, f"a genset of this site: {gensets or 'there is none'}")
        elif one.asset in draft.gensets and one.fuel_l > draft.gensets[one.asset].tank_l:
            tank_l = draft.gensets[one.asset].tank_l
            draft.add((*loc, "fuel_l"), f"{one.fuel_l:g} L", f"at most the tank of {one.asset}, {tank_l:g} L")
