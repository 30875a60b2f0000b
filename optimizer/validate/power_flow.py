"""An AC power flow of two buses, of its own: Newton's method in rectangular coordinates."""

import numpy as np

STEPS_MAX = 40
NEAR_PU = 1e-10


def two_bus_voltage_pu(r_pu: float, x_pu: float, v_source_pu: float, p_kw: float, q_kvar: float) -> float:
    """Voltage of a bus that draws `p_kw` + j `q_kvar` behind R + jX [pu]; 0 where Newton finds none.

    Parameters
    ----------
    r_pu, x_pu : float
        Impedance per kW.
    v_source_pu : float
        Of the ideal source [pu].

    Notes
    -----
    Solves conj(V) (V - V0) + (R + jX) conj(S) = 0 for V = a + jb from V = V0; its real and imaginary parts
    are a^2 + b^2 - V0 a + R P + X Q = 0 and V0 b + X P - R Q = 0.
    W. F. Tinney and C. E. Hart, "Power flow solution by Newton's method", IEEE Trans. Power Apparatus and
    Systems PAS-86(11), 1967, 10.1109/TPAS.1967.291823.
    """
    a, b = v_source_pu, 0.0
    for _ in range(STEPS_MAX):
        active = a * a + b * b - v_source_pu * a + r_pu * p_kw + x_pu * q_kvar
        across = v_source_pu * b + x_pu * p_kw - r_pu * q_kvar
        jacobian = np.array([[2.0 * a - v_source_pu, 2.0 * b], [0.0, v_source_pu]])
        if abs(float(np.linalg.det(jacobian))) < 1e-12:
            return 0.0
        da, db = np.linalg.solve(jacobian, [-active, -across])
        a, b = a + float(da), b + float(db)
        if abs(da) + abs(db) < NEAR_PU:
            return float(np.hypot(a, b)) if 2.0 * a >= v_source_pu - 1e-6 else 0.0  # the upper root
    return 0.0
