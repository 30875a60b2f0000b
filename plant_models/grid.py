"""The mains behind a source impedance: usable or not, voltage at the POI, dwell before reconnection."""

import math

from ems.assets import GridParams

SYNC_F_HZ = 0.2  # largest slip a synchronism check closes on, IEEE 1547-2018, table 5


def nominal_f_hz(params: GridParams) -> float:
    """50 Hz, or 60 Hz where the site's band of frequency says so."""
    return 60.0 if params.supervision.f_ok(50.0) is False else 50.0


def usable(params: GridParams, present: bool, v_source_pu: float, f_hz: float | None = None) -> bool:
    """Present, and open-circuit voltage and frequency inside their bands, as far as these are given."""
    in_band = params.v_min_pu <= v_source_pu <= params.v_max_pu
    return present and in_band and params.supervision.f_ok(f_hz) is not False


def impedance_pu_per_kw(params: GridParams) -> tuple[float, float]:
    """(R, X) per unit on a base of 1 kW and the nominal line-to-line voltage."""
    base_ohm = params.v_nominal_v * params.v_nominal_v / 1000.0
    return params.r_ohm / base_ohm, params.x_ohm / base_ohm


def poi_voltage_pu(r_pu: float, x_pu: float, v_source_pu: float, p_kw: float, q_kvar: float) -> float:
    """Voltage at the POI when `p_kw`, `q_kvar` are drawn from the source [pu]; 0 when it collapses.

    Parameters
    ----------
    r_pu, x_pu : float
        Source impedance per kW, from `impedance_pu_per_kw`.
    v_source_pu : float
        Voltage of the ideal source behind it [pu].
    p_kw, q_kvar : float
        Drawn at the POI, import positive [kW, kvar].

    Notes
    -----
    Exact: the upper root of V^4 + (2 (R P + X Q) - Vs^2) V^2 + |Z|^2 |S|^2 = 0, from
    Vs^2 = |V + Z (S / V)*|^2. No real root: no operating point, the voltage collapses.
    P. Kundur, "Power System Stability and Control", McGraw-Hill 1994, section 14.1.
    """
    b = v_source_pu * v_source_pu - 2.0 * (r_pu * p_kw + x_pu * q_kvar)
    disc = b * b - 4.0 * (r_pu * r_pu + x_pu * x_pu) * (p_kw * p_kw + q_kvar * q_kvar)
    return math.sqrt(0.5 * (b + math.sqrt(disc))) if disc >= 0.0 and b > 0.0 else 0.0
