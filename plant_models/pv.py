"""PV: irradiance and temperature to AC power; trips with the bus and waits its reconnection time."""

from dataclasses import dataclass
from typing import overload

import numpy as np

from ems.assets import PvParams
from ems.timegrid import FloatArray

STC_W_M2 = 1000.0
STC_DEGC = 25.0


@dataclass(frozen=True, slots=True)
class PvUnit:
    """State of one PV plant."""

    producing: bool
    healthy_s: float = 0.0  # while not producing: how long the bus has been healthy


PRODUCING = PvUnit(True)
TRIPPED = PvUnit(False)


def step(params: PvParams, unit: PvUnit, healthy: bool, dt_s: float) -> PvUnit:
    """Reconnection: `reconnect_s` of healthy bus without a break, then producing."""
    if not healthy:
        return TRIPPED
    if unit.producing:
        return unit
    healthy_s = unit.healthy_s + dt_s
    return PRODUCING if healthy_s >= params.reconnect_s - 1e-9 else PvUnit(False, healthy_s)


@overload
def cell_temp_degc(params: PvParams, poa_w_m2: float, temp_air_degc: float) -> float: ...
@overload
def cell_temp_degc(
    params: PvParams, poa_w_m2: FloatArray, temp_air_degc: FloatArray | float
) -> FloatArray: ...
def cell_temp_degc(
    params: PvParams, poa_w_m2: float | FloatArray, temp_air_degc: float | FloatArray
) -> float | FloatArray:
    """Cell temperature by the NOCT rule: T = T_air + (NOCT - 20) / 800 * G.

    Parameters
    ----------
    params : PvParams
        `noct_degc`: cell temperature at 800 W/m^2, 20 degC air, 1 m/s wind [degC].
    poa_w_m2 : float or (T,) array
        Irradiance in the plane of the array [W/m^2].
    temp_air_degc : float or (T,) array
        Air temperature [degC].

    Returns
    -------
    float or (T,) array
        Cell temperature [degC].

    Notes
    -----
    R. G. Ross, "Design Techniques for Flat-Plate Photovoltaic Arrays", 15th IEEE PVSC, 1981.
    """
    return temp_air_degc + (params.noct_degc - 20.0) / 800.0 * poa_w_m2


@overload
def ac_power_kw(params: PvParams, poa_w_m2: float, temp_air_degc: float) -> float: ...
@overload
def ac_power_kw(params: PvParams, poa_w_m2: FloatArray, temp_air_degc: FloatArray | float) -> FloatArray: ...
def ac_power_kw(
    params: PvParams, poa_w_m2: float | FloatArray, temp_air_degc: float | FloatArray
) -> float | FloatArray:
    """AC power before any limit: G / 1000 * P_dc * (1 + gamma (T_cell - 25)) * (1 - losses), clipped.

    Parameters
    ----------
    params : PvParams
        The plant: DC peak, inverter rating, temperature coefficient, losses of everything behind the modules.
    poa_w_m2 : float or (T,) array
        Irradiance in the plane of the array [W/m^2]; negative sensor noise counts as 0.
    temp_air_degc : float or (T,) array
        Air temperature [degC].

    Returns
    -------
    float or (T,) array
        AC power, 0 to `p_ac_kw` [kW].

    Notes
    -----
    A. P. Dobos, "PVWatts Version 5 Manual", NREL/TP-6A20-62641, 2014, doi 10.2172/1158421, the module model
    without its correction at low irradiance; the inverter's efficiency is part of `system_loss_ratio`.
    """
    scale = params.p_dc_kwp * (1.0 - params.system_loss_ratio) / STC_W_M2
    if isinstance(poa_w_m2, float | int) and isinstance(temp_air_degc, float | int):
        t_cell = cell_temp_degc(params, poa_w_m2, temp_air_degc)
        p_kw = scale * poa_w_m2 * (1.0 + params.gamma_per_degc * (t_cell - STC_DEGC))
        return 0.0 if p_kw < 0.0 else min(p_kw, params.p_ac_kw)
    poa = np.asarray(poa_w_m2, dtype=np.float64)
    cell = cell_temp_degc(params, poa, np.asarray(temp_air_degc, dtype=np.float64))
    power = scale * poa * (1.0 + params.gamma_per_degc * (cell - STC_DEGC))
    clipped: FloatArray = np.clip(power, 0.0, params.p_ac_kw)
    return clipped
