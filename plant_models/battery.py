"""Battery seen from the AC terminals: conversion loss, SoC window, limits that taper.

State is the stored energy [kWh]. With p > 0 discharging and p < 0 charging [kW AC]:

    dE/dt = -p / eta_d - c_d p^2 / p_nom                     discharging
    dE/dt = -eta_c p - c_c p^2 / p_nom                       charging (p < 0)
    and both: - no-load loss while the converter is on - k E (self-discharge)

or, where a direction has a loss curve L, straight from point to point: -p - L(p), and -p - L(-p) while
charging. Either is linear in E for constant p and is integrated exactly, for any dt.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from ems.assets import BatteryParams
from ems.loss_curve import LossCurve
from ems.timegrid import FloatArray

SOC_TOLERANCE = 1e-3  # SoC this far outside the window is a violation (self-discharge at rest creeps)


def stored_kw(params: BatteryParams, p_kw: float) -> float:
    """Rate at which stored energy grows from the conversion alone, no-load and self-discharge aside [kW].

    Notes
    -----
    The loss P0 + K p^2 of a converter: G. Notton, V. Lazarov, L. Stoyanov, Renewable Energy 35, 2010,
    doi 10.1016/j.renene.2009.07.013. Here P0 is `no_load_loss_kw`; the linear part is the cells'.
    """
    curve = params.discharge_curve if p_kw >= 0.0 else params.charge_curve
    if curve is not None:
        return -p_kw - _straight(curve.p_kw, curve.loss_kw, abs(p_kw))
    if p_kw >= 0.0:
        return -p_kw / params.eta_discharge - params.loss_discharge_pu * p_kw * p_kw / params.p_nominal_kw
    return -p_kw * params.eta_charge - params.loss_charge_pu * p_kw * p_kw / params.p_nominal_kw


def stored_kw_array(params: BatteryParams, p_kw: FloatArray) -> FloatArray:
    """(T,) form of `stored_kw` [kW]."""
    square = p_kw * p_kw / params.p_nominal_kw
    out: FloatArray = np.where(
        p_kw >= 0.0,
        -p_kw / params.eta_discharge - params.loss_discharge_pu * square,
        -p_kw * params.eta_charge - params.loss_charge_pu * square,
    )
    for curve, where in ((params.discharge_curve, p_kw >= 0.0), (params.charge_curve, p_kw < 0.0)):
        if curve is not None:
            out = np.where(where, -p_kw - _straight_array(curve, np.abs(p_kw)), out)
    return out


def _straight(at: Sequence[float], values: Sequence[float], x: float) -> float:
    """Value at x of a line through points, the last stretch extended."""
    k = min(bisect_right(at, x), len(at) - 1) - 1
    return values[k] + (values[k + 1] - values[k]) / (at[k + 1] - at[k]) * (x - at[k])


def _straight_array(curve: LossCurve, p_kw: FloatArray) -> FloatArray:
    at, loss = np.array(curve.p_kw), np.array(curve.loss_kw)
    k = np.minimum(np.searchsorted(at, p_kw, side="right"), len(at) - 1) - 1
    out: FloatArray = loss[k] + (loss[k + 1] - loss[k]) / (at[k + 1] - at[k]) * (p_kw - at[k])
    return out


def loss_kw(params: BatteryParams, p_kw: float) -> float:
    """Conversion loss at AC power `p_kw`, no-load and self-discharge aside [kW]."""
    curve = params.discharge_curve if p_kw >= 0.0 else params.charge_curve
    if curve is not None:
        return _straight(curve.p_kw, curve.loss_kw, abs(p_kw))
    square = p_kw * p_kw / params.p_nominal_kw
    if p_kw >= 0.0:
        return p_kw * (1.0 / params.eta_discharge - 1.0) + params.loss_discharge_pu * square
    return -p_kw * (1.0 - params.eta_charge) + params.loss_charge_pu * square


def step(
    params: BatteryParams, stored_kwh: float, p_kw: float, dt_s: float, *, on: bool = True
) -> tuple[float, float]:
    """Hold `p_kw` for `dt_s`: (stored energy at the end, energy lost on the way) [kWh].

    Parameters
    ----------
    params : BatteryParams
    stored_kwh : float
        Stored energy at the start [kWh].
    p_kw : float
        AC power, discharge positive [kW]; not limited here: see `limits`.
    dt_s : float
        Length of the step [s].
    on : bool
        Whether the converter switches and has its no-load loss.
    """
    h = dt_s / 3600.0
    rate = stored_kw(params, p_kw) - (params.no_load_loss_kw if on else 0.0)
    decay = params.self_discharge_per_h * h
    fade = -math.expm1(-decay)  # share of the energy at the start that is gone at the end
    gained = rate * h * (fade / decay if decay > 0.0 else 1.0)
    end = stored_kwh - stored_kwh * fade + gained
    converted = (loss_kw(params, p_kw) + (params.no_load_loss_kw if on else 0.0)) * h
    return end, converted + stored_kwh * fade + (rate * h - gained)


def drawn_per_kwh(params: BatteryParams) -> float:
    """Stored energy drawn per kWh delivered at full power, no-load loss aside.

    With a loss curve it is the most of any power up to the full one: a converter may be worst at low load.
    """
    curve = params.discharge_curve
    if curve is None:
        return (
            1.0 / params.eta_discharge
            + params.loss_discharge_pu * params.p_discharge_kw_max / params.p_nominal_kw
        )
    top = params.p_discharge_kw_max
    inside = [(p, loss) for p, loss in zip(curve.p_kw, curve.loss_kw, strict=True) if 0.0 < p < top]
    return max(1.0 + loss / p for p, loss in [*inside, (top, loss_kw(params, top))])


def marginal_stored(params: BatteryParams) -> tuple[float, float]:
    """(most stored per kWh more of charge, most drawn per kWh more of discharge), no-load loss aside.

    Without a loss curve at low power.
    """
    stored, drawn = params.eta_charge, 1.0 / params.eta_discharge
    if (c := params.charge_curve) is not None:
        stored = 1.0 - min(_slopes(c, params.p_charge_kw_max))
    if (c := params.discharge_curve) is not None:
        drawn = 1.0 + max(_slopes(c, params.p_discharge_kw_max))
    return stored, drawn


def bent_loss_pu(params: BatteryParams) -> float:
    """Loss at full discharge beyond what grows with the power alone, over that power."""
    c = params.discharge_curve
    if c is None:
        return params.loss_discharge_pu
    top = params.p_discharge_kw_max
    return max(0.0, loss_kw(params, top) / top - min(_slopes(c, top)))


def _slopes(curve: LossCurve, top_kw: float) -> list[float]:
    """Loss per power of each stretch up to a power."""
    ends = zip(curve.p_kw, curve.loss_kw, curve.p_kw[1:], curve.loss_kw[1:], strict=False)
    return [(y - x) / (b - a) for a, x, b, y in ends if a < top_kw]


def taper_limits_kw(params: BatteryParams, soc: float) -> tuple[float, float]:
    """What the BMS allows at this SoC: (charge, discharge), both positive [kW]."""
    charge, discharge = params.p_charge_kw_max, params.p_discharge_kw_max
    if soc > params.soc_taper_high:
        width = params.soc_max - params.soc_taper_high
        share = (params.soc_max - soc) / width if width > 0.0 else 0.0
        charge *= params.taper_ratio + (1.0 - params.taper_ratio) * (share if share > 0.0 else 0.0)
    if soc < params.soc_taper_low:
        width = params.soc_taper_low - params.soc_min
        share = (soc - params.soc_min) / width if width > 0.0 else 0.0
        discharge *= params.taper_ratio + (1.0 - params.taper_ratio) * (share if share > 0.0 else 0.0)
    if params.power_by_soc:
        by_charge, by_discharge = table_ratios(params, soc)
        charge = min(charge, by_charge * params.p_charge_kw_max)
        discharge = min(discharge, by_discharge * params.p_discharge_kw_max)
    return charge, discharge


def table_ratios(params: BatteryParams, soc: float) -> tuple[float, float]:
    """Share of its power by the table over SoC, straight between rows, held beyond: (charge, discharge)."""
    at = [row.soc for row in params.power_by_soc]
    charge = np.interp(soc, at, [row.charge_ratio for row in params.power_by_soc])
    discharge = np.interp(soc, at, [row.discharge_ratio for row in params.power_by_soc])
    return float(charge), float(discharge)


def taper_discharge_kw_array(params: BatteryParams, soc: FloatArray) -> FloatArray:
    """(T,) what the BMS allows to be discharged, the vector form of `taper_limits_kw` [kW]."""
    width = params.soc_taper_low - params.soc_min
    share = np.maximum(0.0, soc - params.soc_min) / width if width > 0.0 else np.zeros_like(soc)
    ratio = np.where(soc < params.soc_taper_low, params.taper_ratio + (1.0 - params.taper_ratio) * share, 1.0)
    if params.power_by_soc:
        at = [row.soc for row in params.power_by_soc]
        ratio = np.minimum(ratio, np.interp(soc, at, [row.discharge_ratio for row in params.power_by_soc]))
    out: FloatArray = params.p_discharge_kw_max * ratio
    return out


def temperature_ratios(params: BatteryParams, temp_degc: float) -> tuple[float, float]:
    """Share of its power that the BMS allows at a temperature: (charge, discharge).

    Straight between the rows of the derating table, held beyond its ends; (1, 1) without a table.
    """
    table = params.derating
    if not table:
        return 1.0, 1.0
    at = [row.temp_degc for row in table]
    charge = np.interp(temp_degc, at, [row.charge_ratio for row in table])
    discharge = np.interp(temp_degc, at, [row.discharge_ratio for row in table])
    return float(charge), float(discharge)


def window_limits_kw(params: BatteryParams, stored_kwh: float, dt_s: float) -> tuple[float, float]:
    """Constant powers that reach the edges of the SoC window after exactly `dt_s`: (charge, discharge) [kW].

    Either may be negative: at the lower edge with losses, only charging at least that much stays inside.
    """
    h = dt_s / 3600.0
    decay = params.self_discharge_per_h * h
    fade = -math.expm1(-decay)
    share = fade / decay if decay > 0.0 else 1.0
    kept = stored_kwh - stored_kwh * fade
    room = (params.soc_max * params.energy_kwh - kept) / (h * share) + params.no_load_loss_kw
    avail = (kept - params.soc_min * params.energy_kwh) / (h * share) - params.no_load_loss_kw
    return -ac_kw(params, room), ac_kw(params, -avail)


def limits(params: BatteryParams, stored_kwh: float, dt_s: float) -> tuple[float, float]:
    """Live limits (charge, discharge), both positive, that keep the SoC in its window over `dt_s` [kW]."""
    low, high = bounds_kw(params, stored_kwh, dt_s)
    return -low, high if high > 0.0 else 0.0


def bounds_kw(params: BatteryParams, stored_kwh: float, dt_s: float) -> tuple[float, float]:
    """(lowest, highest) AC power over the next `dt_s`, discharge positive [kW].

    The highest is below 0 at the lower edge of the window: standing losses are charged from the bus there.
    A battery found outside its window is never pushed back by force, only kept from going further.
    """
    charge, discharge = taper_limits_kw(params, stored_kwh / params.energy_kwh)
    h = dt_s / 3600.0
    standing = params.no_load_loss_kw + params.self_discharge_per_h * stored_kwh
    lowest = stored_kwh + (stored_kw(params, discharge) - standing) * h
    if lowest >= params.soc_min * params.energy_kwh and (
        stored_kwh + charge * h <= params.soc_max * params.energy_kwh
    ):
        return -charge, discharge  # neither edge is within reach
    room, avail = window_limits_kw(params, stored_kwh, dt_s)
    low = -min(charge, room) if room > 0.0 else 0.0
    high = min(discharge, avail)
    if high < 0.0:
        high = max(high, ac_kw(params, standing), low)
    return low, high


def ac_kw(params: BatteryParams, rate_kw: float) -> float:
    """AC power (discharge positive) at which conversion alone changes the stored energy by `rate_kw` [kW].

    The inverse of `stored_kw`: the stretch of the loss curve that the rate lies in, or the stable root of the
    quadratic. Charging faster than its vertex cannot be reached: infinite.
    """
    if rate_kw > 0.0:
        if (c := params.charge_curve) is not None:
            stored = [p - loss for p, loss in zip(c.p_kw, c.loss_kw, strict=True)]
            return -_straight(stored, c.p_kw, rate_kw)
        a = params.loss_charge_pu / params.p_nominal_kw
        disc = params.eta_charge * params.eta_charge - 4.0 * a * rate_kw
        return -2.0 * rate_kw / (params.eta_charge + math.sqrt(disc)) if disc >= 0.0 else -math.inf
    if (c := params.discharge_curve) is not None:
        drawn = [p + loss for p, loss in zip(c.p_kw, c.loss_kw, strict=True)]
        return _straight(drawn, c.p_kw, -rate_kw)
    eta = 1.0 / params.eta_discharge
    a = params.loss_discharge_pu / params.p_nominal_kw
    return -2.0 * rate_kw / (eta + math.sqrt(eta * eta - 4.0 * a * rate_kw))
