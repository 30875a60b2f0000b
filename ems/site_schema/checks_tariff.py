"""What the tariff's own numbers mean together: windows, demand charges, blocks, minimum."""

from ems.site_schema.checks_contracts import check_contracts, edges
from ems.site_schema.draft import Draft
from ems.site_schema.forms_tariff import DemandChargeForm, EnergyBlockForm, TouWindowForm
from ems.site_schema.text import Loc
from ems.tariff import MAIN_CHARGE

BILLING_INTERVALS_S = (300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0)
PAIRS = ("per", "past_peaks", "contracted", "excess_per")  # written in kW or in kVA


def check_tariff(draft: Draft) -> None:
    """Every check of the tariff alone."""
    tariff = draft.tariff
    if tariff is None:
        return
    if tariff.billing_interval_s not in BILLING_INTERVALS_S:
        words = ", ".join(f"{s / 60:g}" for s in BILLING_INTERVALS_S)
        draft.add(("tariff", "billing_interval_s"), f"{tariff.billing_interval_s:g} s", f"{words} min")
    for i, window in enumerate(tariff.windows):
        loc: Loc = ("tariff", "windows", i)
        edges(draft, loc, window)
        for j, earlier in enumerate(tariff.windows[:i]):
            if _overlap(earlier, window):
                line = draft.document.line(("tariff", "windows", j))
                draft.add(
                    loc, f"{window.name!r} overlaps {earlier.name!r} (line {line})", "one price at any time"
                )
    for i, day in enumerate(tariff.holidays):
        if day in tariff.holidays[:i]:
            draft.add(("tariff", "holidays", i), f"{day} again", "each date once")
    names = [MAIN_CHARGE]
    for i, charge in enumerate(tariff.demand_charges):
        loc = ("tariff", "demand_charges", i)
        if charge.name in names:
            draft.add(
                (*loc, "name"),
                f"{charge.name!r} again",
                "each name once",
                f"{MAIN_CHARGE!r} is that of demand_charge_per_kw",
            )
        names.append(charge.name)
        _demand_charge(draft, loc, charge)
    _blocks(draft, tariff.energy_blocks)
    check_contracts(draft, tariff)


def _overlap(a: TouWindowForm, b: TouWindowForm) -> bool:
    days = set(a.days) & set(b.days)
    months = set(a.months) & set(b.months)
    return bool(days) and bool(months) and a.start < b.end and b.start < a.end


def _demand_charge(draft: Draft, loc: Loc, charge: DemandChargeForm) -> None:
    given = [key for key in PAIRS for unit in ("kw", "kva") if getattr(charge, f"{key}_{unit}") is not None]
    kw = [f"{key}_kw" for key in PAIRS if getattr(charge, f"{key}_kw") is not None]
    kva = [f"{key}_kva" for key in PAIRS if getattr(charge, f"{key}_kva") is not None]
    if kw and kva:
        found = f"{', '.join(kw)} and {', '.join(kva)}"
        draft.add(loc, found, "all figures of a charge in kW, or all in kVA")
        return
    if "per" not in given:
        draft.add(loc, "no rate", "per_kw or per_kva")
        return
    unit = "kva" if kva else "kw"
    for window in range(len(charge.windows)):
        edges(draft, (*loc, "windows", window), charge.windows[window])
    if "past_peaks" in given and not charge.ratchet_ratio > 0.0:
        draft.add((*loc, f"past_peaks_{unit}"), "past peaks without a ratchet", "ratchet_ratio more than 0")
    if "contracted" in given:
        return
    if "excess_per" in given:
        draft.add((*loc, f"excess_per_{unit}"), "a rate without a limit", f"contracted_{unit} beside it")
    if charge.contracted_ratio > 0.0:
        draft.add(
            (*loc, "contracted_ratio"),
            f"{charge.contracted_ratio:g} of nothing",
            f"contracted_{unit} beside it",
        )


def _blocks(draft: Draft, blocks: list[EnergyBlockForm]) -> None:
    reached = 0.0
    for i, block in enumerate(blocks):
        loc: Loc = ("tariff", "energy_blocks", i)
        last = i == len(blocks) - 1
        if block.up_to_kwh is None:
            if not last:
                draft.add(loc, "no up_to_kwh", "up_to_kwh in every block but the last")
                return
        elif last:
            draft.add((*loc, "up_to_kwh"), f"{block.up_to_kwh:g} kWh", "no end of the last block")
        elif not block.up_to_kwh > reached:
            draft.add((*loc, "up_to_kwh"), f"{block.up_to_kwh:g} kWh", f"more than {reached:g} kWh, rising")
        reached = block.up_to_kwh if block.up_to_kwh is not None else reached
