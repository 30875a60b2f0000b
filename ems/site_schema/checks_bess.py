"""What the numbers of one battery system mean together."""

from ems.site_schema.draft import Draft
from ems.site_schema.forms_assets import BatteryForm, BessForm
from ems.site_schema.text import Loc


def check_bess(draft: Draft, loc: Loc, bess: BessForm) -> None:
    """Battery and PCS, by themselves and together."""
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
