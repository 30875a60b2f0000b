"""What a plant is to a utility: its ratings, and how it does now, in numbers. Pure.

Only what is measured well is told; what is not known is left out, never made up.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.northbound.image import Image
from ems.control import ControlMode
from ems.northbound_names import EMS
from ems.site import Site
from ems.utility import Sep2Server

# Kinds of DER (IEEE 2030.5-2018, DERType).
VIRTUAL_OR_MIXED, RECIPROCATING_ENGINE, PHOTOVOLTAIC, STORAGE, PV_AND_STORAGE = 1, 2, 4, 80, 83
OFF, OPERATIONAL, TEST = 1, 2, 3  # OperationalModeStatusType
CHARGING, DISCHARGING, HOLDING = 0, 1, 2  # StorageModeStatusType
CONNECTED, AVAILABLE, OPERATING = 1, 2, 4  # bits of ConnectStatusType
NUMBER_MAX = 2**15 - 1
IDLE_RATIO = 0.01  # of the rating: less is no power
MAX_LIM_W_BIT = 1 << 20  # of DERControlType
DOE_BITS = {"opModExpLimW": 1, "opModImpLimW": 2, "opModGenLimW": 4, "opModLoadLimW": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """Nameplate of all that generates and stores."""

    kind: int
    p_max_kw: float
    s_max_kva: float
    charge_kw_max: float
    discharge_kw_max: float
    energy_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """How the plant does now; None: not known."""

    mode: int | None
    soc_ratio: float | None
    storage: int | None
    generating: int | None  # bits
    storing: int | None  # bits
    available_kw: float | None


def ratings(site: Site) -> Ratings:
    """Of a site, as its site file says."""
    discharge_kw = sum(b.battery.p_discharge_kw_max for b in site.bess)
    generated_kw = sum(p.p_ac_kw for p in site.pv) + sum(g.p_rated_kw for g in site.gensets)
    pv_kva = sum(p.p_ac_kw if p.s_kva is None else p.s_kva for p in site.pv)
    return Ratings(
        kind=_kind(site),
        p_max_kw=generated_kw + discharge_kw,
        s_max_kva=pv_kva + sum(b.pcs.s_kva for b in site.bess) + sum(g.s_kva for g in site.gensets),
        charge_kw_max=sum(b.battery.p_charge_kw_max for b in site.bess),
        discharge_kw_max=discharge_kw,
        energy_kwh=sum(b.battery.energy_kwh for b in site.bess),
    )


def _kind(site: Site) -> int:
    match bool(site.pv), bool(site.bess), bool(site.gensets):
        case True, False, False:
            return PHOTOVOLTAIC
        case False, True, False:
            return STORAGE
        case True, True, False:
            return PV_AND_STORAGE
        case False, False, True:
            return RECIPROCATING_ENGINE
        case _:
            return VIRTUAL_OR_MIXED


def set_max_kw(site: Site, server: Sep2Server) -> float:
    """What percentages of this server are of [kW]."""
    return ratings(site).p_max_kw if server.set_max_kw is None else server.set_max_kw


def modes_bits(server: Sep2Server) -> int:
    """Modes of the standard that are served, as bits of DERControlType."""
    return MAX_LIM_W_BIT if any(t.word == "opModMaxLimW" for t in server.tellings) else 0


def doe_bits(server: Sep2Server) -> int:
    """Modes of CSIP-AUS that are served, as bits of DOEControlType."""
    return sum(DOE_BITS.get(t.word, 0) for t in server.tellings)


def doing(site: Site, image: Image) -> Doing:
    """How the plant does, by an image that is fresh; nothing is known by one that is not."""
    if not image.fresh:
        return Doing(
            mode=None, soc_ratio=None, storage=None, generating=None, storing=None, available_kw=None
        )
    storing_kw = _sum(image, (f"{b.id}.p_kw" for b in site.bess))
    generators = [*(p.id for p in site.pv), *(g.id for g in site.gensets)]
    generating_kw = _sum(image, (f"{x}.p_kw" for x in generators))
    connected = image.get(f"{site.grid.id}.breaker_closed").usable
    rated = ratings(site)
    return Doing(
        mode=_mode(image),
        soc_ratio=_soc(site, image),
        storage=_storage(storing_kw, rated.discharge_kw_max),
        generating=_connect(connected, generating_kw, rated.p_max_kw) if generators else None,
        storing=_connect(connected, storing_kw, rated.discharge_kw_max) if site.bess else None,
        available_kw=_available_kw(site, image),
    )


def _mode(image: Image) -> int | None:
    code = image.get(f"{EMS}control").usable
    if code is None:
        return None
    mode = list(ControlMode)[int(code)]
    return {ControlMode.OFF: OFF, ControlMode.TEST: TEST}.get(mode, OPERATIONAL)


def _sum(image: Image, points: Iterable[str]) -> float | None:
    values = [image.get(p).usable for p in points]
    known = [v for v in values if v is not None]
    return sum(known) if known and len(known) == len(values) else None


def _soc(site: Site, image: Image) -> float | None:
    """Of all batteries, by their energy."""
    rows = [(b.battery.energy_kwh, image.get(f"{b.id}.soc").usable) for b in site.bess]
    known = [(kwh, soc) for kwh, soc in rows if soc is not None]
    if not known or len(known) < len(rows):
        return None
    return sum(kwh * soc for kwh, soc in known) / sum(kwh for kwh, _ in known)


def _storage(storing_kw: float | None, rated_kw: float) -> int | None:
    if storing_kw is None:
        return None
    if abs(storing_kw) < IDLE_RATIO * rated_kw:
        return HOLDING
    return DISCHARGING if storing_kw > 0.0 else CHARGING


def _connect(connected: float | None, p_kw: float | None, rated_kw: float) -> int | None:
    if connected is None or p_kw is None:
        return None
    bits = CONNECTED | AVAILABLE if connected == 1.0 else 0
    return bits | OPERATING if bits and abs(p_kw) >= IDLE_RATIO * rated_kw else bits


def _available_kw(site: Site, image: Image) -> float | None:
    """What could be generated now: batteries by their live limit, PV by the sun, gensets by rating."""
    pv_kw = _sum(image, (f"{p.id}.p_available_kw" for p in site.pv)) if site.pv else 0.0
    bess_kw = _sum(image, (f"{b.id}.p_discharge_kw_max" for b in site.bess)) if site.bess else 0.0
    if pv_kw is None or bess_kw is None:
        return None
    return pv_kw + bess_kw + sum(g.p_rated_kw for g in site.gensets)


def scaled(value: float) -> tuple[int, int]:
    """(whole number, power of ten) of a value in its base unit, the number inside 16 bits with a sign."""
    multiplier = 0
    while abs(round(value / 10.0**multiplier)) > NUMBER_MAX:
        multiplier += 1
    return round(value / 10.0**multiplier), multiplier
