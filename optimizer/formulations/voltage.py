"""Voltage at the interconnection: kept in its band by active and reactive power through the source impedance.

Behind a source V0 and Z = R + jX, drawing P + jQ leaves the voltage V, the upper root of

    V^4 + (2 (R P + X Q) - V0^2) V^2 + |Z|^2 (P^2 + Q^2) = 0

so V >= v inside the disc with centre -v^2 (R, X) / |Z|^2 and radius v V0 / |Z| in the plane of P and Q. The
usual line V0 - (R P + X Q) / V0 lies above the true voltage: harmless at the upper edge of the band, unsafe
at the lower. So the lower edge is a chain of chords *inside* the disc, each over an angle of 2 e, e at most 3
degrees, at mid-angles b_i from the direction of Z as seen from the centre, over every P and Q that the limits
allow; the upper edge is the tangent *outside* the disc of the upper voltage, where P + jQ is parallel to Z:

    (V0 cos(e) - low cos(b_i)) low / |Z| + missed  >=  P cos(z + b_i) + Q sin(z + b_i)         z = angle of Z
    cos(z) P + sin(z) Q + missed                   >=  (V0 - high) high / |Z|

Without a miss the AC voltage is inside the band, always. What the chords give away: they allow all that would
keep the lower edge behind a source 0.14 % lower. A miss is priced by the power it corresponds to: as far as
the quality band of the mains at the rung of voltage, beyond it (where the mains count as unusable) at that of
surplus. Rows of islanded steps are freed by their source voltage.

Source: P. Kundur, "Power System Stability and Control", McGraw-Hill 1994, section 14.1, for the quartic.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.reactive import asked, flows_kvar, grid_kvar_max
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.grid import impedance_pu_per_kw, poi_voltage_pu

HALF_DEG = 3.0  # largest half angle of a chord
SHOWN_PU = 0.0005  # smaller misses of the band are not worth a note


@dataclass(frozen=True, slots=True)
class Chords:
    """Inner polygon of the disc of the lower voltage, as far as the limits of the POI reach."""

    z_rad: float  # angle of the source impedance
    mid_rad: tuple[float, ...]  # of each chord, from the direction of the impedance
    half_rad: float


def chords(s: Structure, low_pu: float) -> Chords:
    """Chords over all P and Q inside the limits of the interconnection."""
    r, x = impedance_pu_per_kw(s.site.grid)
    z, angle = math.hypot(r, x), math.atan2(x, r)
    away_kw = low_pu**2 / z  # from the centre of the disc to no power at all
    q = grid_kvar_max(s)
    seen = []
    for p_kw in (-s.site.grid.p_export_kw_max, s.site.grid.p_import_kw_max):
        for q_kvar in (-q, q):
            along = p_kw * math.cos(angle) + q_kvar * math.sin(angle) + away_kw
            across = q_kvar * math.cos(angle) - p_kw * math.sin(angle)
            seen.append(math.atan2(across, along))
    first, last = min(seen), max(seen)
    if last - first > math.pi:  # so weak that the limits reach around the centre
        first, last = -math.pi, math.pi
    count = max(1, math.ceil((last - first) / (2.0 * math.radians(HALF_DEG)) - 1e-9))
    half = 0.5 * (last - first) / count
    return Chords(angle, tuple(first + (2 * i + 1) * half for i in range(count)), half)


def stiff(s: Structure) -> bool:
    """Whether there is no impedance behind the interconnection, so that its voltage is that of the source."""
    return math.hypot(s.site.grid.r_ohm, s.site.grid.x_ohm) <= 0.0


def add(m: Model, s: Structure) -> None:
    """voltage_low_kw, voltage_high_kw (2, T): what is missed, as far as the quality band and beyond."""
    policy = s.site.grid.reactive
    if policy is None or stiff(s):
        return
    T = s.steps
    r, x = impedance_pu_per_kw(s.site.grid)
    z, low, high = math.hypot(r, x), policy.v_poi_min_pu, policy.v_poi_max_pu
    chain = chords(s, low)
    source = m.par("v_source_pu", T)
    under, over = m.var("voltage_low_kw", 2, T), m.var("voltage_high_kw", 2, T)
    angles = [(math.cos(chain.z_rad + b), math.sin(chain.z_rad + b)) for b in chain.mid_rad]

    def drawn(c: float, sn: float, t: int) -> Expr:
        q = m["grid_kvar"]
        return c * (m["import_kw"][t] - m["export_kw"][t]) + sn * (q[0, t] - q[1, t])

    m.rows(
        "voltage_low",
        (len(angles), T),
        lambda i, t: (
            drawn(*angles[i], t) - under[0, t] - under[1, t]
            <= low / z * math.cos(chain.half_rad) * source[t] - low**2 / z * math.cos(chain.mid_rad[i])
        ),
    )
    m.rows(
        "voltage_high",
        (T,),
        lambda t: (
            drawn(math.cos(chain.z_rad), math.sin(chain.z_rad), t) + over[0, t] + over[1, t]
            >= high / z * source[t] - high**2 / z
        ),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Voltage of the source, room to the quality band, prices."""
    policy = s.site.grid.reactive
    if policy is None or stiff(s):
        return
    grid = s.site.grid
    z, low, high = math.hypot(*impedance_pu_per_kw(grid)), policy.v_poi_min_pu, policy.v_poi_max_pu
    n.par("v_source_pu", np.where(p.grid_available, p.v_source_pu, 0.5 * (low + high)))
    inf = np.full(s.steps, np.inf)
    n.bound("voltage_low_kw", 0.0, np.array([(low - grid.v_min_pu) * low / z + 0.0 * p.step_h, inf]))
    n.bound("voltage_high_kw", 0.0, np.array([(grid.v_max_pu - high) * high / z + 0.0 * p.step_h, inf]))
    rungs = np.array([[ladder(s.site).voltage_per_kwh], [ladder(s.site).surplus_per_kwh]])
    n.price("voltage_short", "voltage_low_kw", rungs * s.step_h)
    n.price("voltage_short", "voltage_high_kw", rungs * s.step_h)


def expected_pu(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> FloatArray:
    """(T,) voltage at the POI by AC power flow of the plan's powers [pu]; 0 while islanded or collapsed."""
    r, x = impedance_pu_per_kw(p.site.grid)
    p_kw, q_kvar = v["import_kw"] - v["export_kw"], flows_kvar(s, v)["grid"]
    rows = zip(p.v_source_pu, p_kw, q_kvar, p.grid_available, strict=True)
    return np.array(
        [poi_voltage_pu(r, x, float(e), float(a), float(b)) if there else 0.0 for e, a, b, there in rows]
    )


def missed_pu(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> FloatArray:
    """(T,) how much of the band the solution has priced as missed [pu]."""
    policy = p.site.grid.reactive
    if policy is None:
        return np.zeros(p.steps)
    if "voltage_low_kw" not in v:  # stiff: the voltage is that of the source, whatever is planned
        off = np.maximum(policy.v_poi_min_pu - p.v_source_pu, p.v_source_pu - policy.v_poi_max_pu)
        return np.where(p.grid_available, np.maximum(0.0, off), 0.0)
    z = math.hypot(*impedance_pu_per_kw(p.site.grid))
    under = v["voltage_low_kw"].sum(axis=0) * z / policy.v_poi_min_pu
    out: FloatArray = under + v["voltage_high_kw"].sum(axis=0) * z / policy.v_poi_max_pu
    return out


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Steps in which the expected voltage is outside its band."""
    policy = p.site.grid.reactive
    if policy is None or not asked(s):
        return
    pu = expected_pu(p, s, v)
    for word, excess in (("below", policy.v_poi_min_pu - pu), ("above", pu - policy.v_poi_max_pu)):
        out = (excess > SHOWN_PU) & p.grid_available
        if out.any():
            t = int(np.argmax(np.where(out, excess, 0.0)))
            yield (
                f"voltage at the interconnection {word} its band: {pu[t]:.3f} pu at "
                f"{p.grid.starts()[t]:%d %H:%M} UTC, allowed {policy.v_poi_min_pu:g} to "
                f"{policy.v_poi_max_pu:g}, in {int(out.sum())} steps"
            )
