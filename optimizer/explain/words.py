"""How explanations speak: times of the site, money, numbers without false digits."""

from datetime import datetime
from zoneinfo import ZoneInfo

from ems.site import Site


class Words:
    """The words of one site."""

    def __init__(self, site: Site) -> None:
        self._zone = ZoneInfo(site.timezone)
        self.currency = site.currency

    def at(self, when: datetime) -> str:
        """Local time with the day of the week."""
        return when.astimezone(self._zone).strftime("%a %H:%M")

    def span(self, start: datetime, end: datetime) -> str:
        """From one local time to another; the day is named again where it changes."""
        first, last = start.astimezone(self._zone), end.astimezone(self._zone)
        same = first.date() == last.date()
        return f"{first:%a %H:%M} to {last:%H:%M}" if same else f"{first:%a %H:%M} to {last:%a %H:%M}"

    def price(self, per_kwh: float) -> str:
        """A price per kWh."""
        return f"{per_kwh:.6g} {self.currency}/kWh"

    def worth(self, per_kwh: float) -> str:
        """A marginal value per kWh, to a tenth of a cent."""
        return f"{per_kwh + 0.0:.3f} {self.currency}"

    def money(self, cost: float) -> str:
        """An amount."""
        return f"{cost + 0.0:.2f} {self.currency}"

    def more(self, cost: float) -> str:
        """A difference of cost, with its sign."""
        return f"{cost + 0.0:+.2f} {self.currency}"


def kw(p_kw: float) -> str:
    """A power; tenths below 10 kW."""
    return f"{p_kw + 0.0:.1f} kW" if abs(p_kw) < 10.0 else f"{p_kw:.0f} kW"


def exactly_kw(p_kw: float) -> str:
    """A power with all its digits: what somebody would have to set."""
    return f"{p_kw + 0.0:.7g} kW"


def kwh(energy_kwh: float) -> str:
    """An energy; tenths below 10 kWh."""
    return f"{energy_kwh + 0.0:.1f} kWh" if abs(energy_kwh) < 10.0 else f"{energy_kwh:.0f} kWh"
