"""Form of the rules that the edge decides by without a plan."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import KwPositive, Quantity, Ratio, Soc

Share = Annotated[float, Quantity("", gt=0, le=1)]


class TouRulesForm(Form):
    """Rules by the tariff and by announced outages, beside the grid."""

    charge_price_share: Ratio = Field(default=0.25, description="0: cheapest of the day, 1: dearest")
    charge_soc: Soc = 0.80
    charge_power_ratio: Share = 0.4
    discharge_price_share: Ratio = Field(default=0.75, description="0: cheapest of the day, 1: dearest")
    discharge_soc: Soc = 0.40
    mid_soc: Soc = 0.60
    peak_shave_kw: KwPositive | None = Field(default=None, description="left out: the last plan's peak")
    peak_soc: Soc = 0.25
    outage_soc: Soc = 0.90
    outage_lead_h: Annotated[float, Quantity("h", ge=0, le=168)] = 6.0


class RulesForm(Form):
    """Thresholds of the rules, and who is prime in an island."""

    genset_prime: bool = Field(default=False, description="islanded: always a genset on load")
    soc_start: Soc = Field(default=0.25, description="islanded: a genset starts at or below")
    soc_stop: Soc = Field(default=0.65, description="islanded: gensets stop at or above")
    soc_floor: Soc = Field(default=0.40, description="grid-tied: backup reserve")
    soc_recharge: Soc = Field(default=0.50, description="grid-tied: discharged again from here on")
    grid_charge_ratio: Share = 0.3
    load_start_ratio: Share = 0.85
    load_stop_ratio: Share = 0.60
    genset_load_ratio: Share = 0.80
    charge_with_genset: bool = True
    confirm_s: Annotated[float, Quantity("s", ge=0, le=3600)] = 10.0
    tou: TouRulesForm = TouRulesForm()
