"""Frequency and voltage of an island between two steps of the quasi-static model.

`plant_models.plant` knows powers as means over a step. This is what the sources that form the island make of
the steps between them: for gensets the equation of motion with governor, actuator, combustion delay and
turbocharger, and the decay of flux behind the transient reactance with a regulator; for a converter its droop
behind a filter. Nothing acts back on the powers: loads draw what they draw, and neither the EMS nor an
inverter sees the excursion.

Sources: motion and flux decay: Kundur, Power System Stability and Control, 1994, 3.9 and 8.6; order of
governor, actuator and delay: Woodward's diesel governor as PSS/E has it (DEGOV1); limits: ISO 8528-5.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ems.assets import BessParams, GensetParams

STEP_S = 0.005
_RATED_PF = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDynamics:
    """A turbocharged diesel set with isochronous load sharing, per unit of its rating.

    The values are of no make. `of_class_g2` takes the least inertia with which the set keeps class G2 when it
    takes the step that the site file says it survives, and when it loses all its load; no more.
    """

    inertia_s: float  # stored energy at rated speed over apparent power (H)
    at_once_ratio: float  # torque that comes without more boost, over the rated one
    turbo_s: float = 1.0
    governor_pu: float = 10.0  # fuel by speed
    governor_per_s: float = 8.0  # fuel by the integral of speed
    actuator_s: float = 0.08
    combustion_s: float = 0.03
    fuel_pu: tuple[float, float] = (-0.08, 1.2)  # without fuel, friction brakes
    x_d_pu: float = 2.5
    x_d1_pu: float = 0.15
    t_d01_s: float = 1.5
    exciter_s: float = 0.1
    regulator_pu: float = 15.0  # field by voltage
    regulator_per_s: float = 12.0  # field by the integral of voltage
    field_max_pu: float = 7.0
    underspeed_pu: float = 0.95  # below, the regulator lowers the voltage with the speed


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterDynamics:
    """A converter that forms: frequency falls with its filtered power, voltage with its current."""

    droop_ratio: float = 0.02
    filter_s: float = 0.05
    x_pu: float = 0.1
    voltage_s: float = 0.02  # its voltage control takes the drop back


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """What forms the island: sets that share a bus, or one converter."""

    s_kva: float
    p_rated_kw: float
    dynamics: SetDynamics | ConverterDynamics


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Constant power on what forms the island, for a while."""

    dt_s: float
    p_kw: float
    q_kvar: float
    former: Former


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Frequency and voltage over their nominal values, every `STEP_S` from the first piece on."""

    f_pu: list[float]
    v_pu: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How far and how long a quantity may leave its nominal value: limits, steady band, recovery."""

    low_pu: float
    high_pu: float
    steady_ratio: float
    recovery_s: float

    def breaches(self, values: Sequence[float], name: str) -> list[str]:
        """What of a wave is outside, in words; empty: nothing."""
        out = []
        if min(values) < self.low_pu:
            out.append(f"{name} falls to {min(values):.3f} pu, at least {self.low_pu:g} is allowed")
        if max(values) > self.high_pu:
            out.append(f"{name} rises to {max(values):.3f} pu, at most {self.high_pu:g} is allowed")
        away_s = _longest_away(values, self.steady_ratio) * STEP_S
        if away_s > self.recovery_s:
            allowed = f"{self.recovery_s:g} s are allowed"
            out.append(f"{name} is off by over {self.steady_ratio:.1%} for {away_s:.1f} s, {allowed}")
        return out


# ISO 8528-5, performance class G2, of a set that takes on load and of one that loses all of it.
G2_FREQUENCY = Band(low_pu=0.90, high_pu=1.12, steady_ratio=0.02, recovery_s=5.0)
G2_VOLTAGE = Band(low_pu=0.80, high_pu=1.25, steady_ratio=0.025, recovery_s=6.0)


def breaches_of_g2(wave: Wave) -> list[str]:
    """What of a wave lies outside class G2, in words."""
    return G2_FREQUENCY.breaches(wave.f_pu, "frequency") + G2_VOLTAGE.breaches(wave.v_pu, "voltage")


def sets_of(gensets: Iterable[GensetParams]) -> Former:
    """Sets on one bus as one: their inertia and what each gives at once, by rating."""
    on = tuple(gensets)
    p_kw, s_kva = sum(g.p_rated_kw for g in on), sum(g.s_kva for g in on)
    each = [(g, of_class_g2(round(g.step_load_kw_max / g.p_rated_kw, 3))) for g in on]
    return Former(
        s_kva=s_kva,
        p_rated_kw=p_kw,
        dynamics=SetDynamics(
            inertia_s=sum(d.inertia_s * g.s_kva for g, d in each) / s_kva,
            at_once_ratio=sum(d.at_once_ratio * g.p_rated_kw for g, d in each) / p_kw,
        ),
    )


def converter_of(bess: BessParams) -> Former:
    """A battery whose converter forms."""
    return Former(s_kva=bess.pcs.s_kva, p_rated_kw=bess.pcs.s_kva, dynamics=ConverterDynamics())


@lru_cache
def of_class_g2(step_ratio: float) -> SetDynamics:
    """The set with the least inertia that keeps the frequency of class G2.

    Parameters
    ----------
    step_ratio : largest step it takes from no load, over its rating; all its load it may lose.
    """
    low_s, high_s = 0.1, 10.0
    at_once = step_ratio / G2_FREQUENCY.low_pu  # torque for that power at the lowest speed allowed
    for _ in range(20):
        middle_s = math.sqrt(low_s * high_s)
        d = SetDynamics(inertia_s=middle_s, at_once_ratio=at_once)
        f_pu = _change(d, 0.0, step_ratio).f_pu + _change(d, 1.0, 0.0).f_pu
        if min(f_pu) < G2_FREQUENCY.low_pu or max(f_pu) > G2_FREQUENCY.high_pu:
            low_s = middle_s
        else:
            high_s = middle_s
    return SetDynamics(inertia_s=high_s, at_once_ratio=at_once)


def _change(d: SetDynamics, before: float, after: float) -> Wave:
    """From one steady load to another, over the rating; the voltage plays no part in it."""
    former = Former(s_kva=1.0 / _RATED_PF, p_rated_kw=1.0, dynamics=d)
    return wave_of([Piece(dt_s=4.0, p_kw=after, q_kvar=0.0, former=former)], before=(before, 0.0))


def wave_of(pieces: Sequence[Piece], before: tuple[float, float] | None = None) -> Wave:
    """Frequency and voltage through pieces that follow each other without a gap.

    Parameters
    ----------
    before : power of the steady state from which it starts [kW, kvar]; None: as in the first piece.
    """
    p_kw, q_kvar = before or (pieces[0].p_kw, pieces[0].q_kvar)
    wave = Wave(f_pu=[], v_pu=[])
    source: _Sets | _Converter | None = None
    for piece in pieces:
        match piece.former.dynamics:
            case SetDynamics() as d:
                if not isinstance(source, _Sets):
                    source = _Sets(piece.former, d, p_kw, q_kvar)
                source.join(piece.former, d)
            case ConverterDynamics() as c:
                if not isinstance(source, _Converter):
                    source = _Converter(piece.former, c, p_kw, q_kvar)
        for _ in range(round(piece.dt_s / STEP_S)):
            f_pu, v_pu = source.step(piece.p_kw, piece.q_kvar)
            wave.f_pu.append(f_pu)
            wave.v_pu.append(v_pu)
        p_kw, q_kvar = piece.p_kw, piece.q_kvar
    return wave


class _Sets:
    """Motion and flux of sets that turn as one."""

    def __init__(self, former: Former, d: SetDynamics, p_kw: float, q_kvar: float) -> None:
        self._former, self._d = former, d
        self._w = 1.0
        p = p_kw / former.p_rated_kw
        self._fuel = self._boost = self._integral = p
        self._burning = deque([p] * round(d.combustion_s / STEP_S))
        g, b = self._admittance(p_kw, q_kvar)
        across = 1.0 + b * d.x_d1_pu  # of E' over V; the load is an admittance
        self._e1 = math.hypot(across, g * d.x_d1_pu)
        self._field = self._field_sum = self._needed(g, b)

    def join(self, former: Former, d: SetDynamics) -> None:
        """Go on with these sets; what the engines give stays what it is in kW."""
        ratio = self._former.p_rated_kw / former.p_rated_kw
        if ratio != 1.0:
            self._fuel, self._boost, self._integral = (
                self._fuel * ratio,
                self._boost * ratio,
                self._integral * ratio,
            )
            self._burning = deque(x * ratio for x in self._burning)
        self._former, self._d = former, d

    def step(self, p_kw: float, q_kvar: float) -> tuple[float, float]:
        """Let `STEP_S` pass; speed and voltage at its end."""
        return self._move(p_kw), self._magnetise(p_kw, q_kvar)

    def _move(self, p_kw: float) -> float:
        d, h = self._d, STEP_S
        error = 1.0 - self._w
        low, high = d.fuel_pu
        wanted = d.governor_pu * error + self._integral
        asked = min(max(wanted, low), high)
        if asked == wanted:
            self._integral += d.governor_per_s * error * h
        self._fuel += (asked - self._fuel) * h / d.actuator_s
        self._burning.append(self._fuel)
        given = min(self._burning.popleft(), self._boost + d.at_once_ratio)
        self._boost += (given - self._boost) * h / d.turbo_s
        surplus_kw = given * self._former.p_rated_kw * self._w - p_kw
        self._w += surplus_kw / (2.0 * d.inertia_s * self._former.s_kva * self._w) * h
        self._w = max(self._w, 0.05)
        return self._w

    def _magnetise(self, p_kw: float, q_kvar: float) -> float:
        d, h = self._d, STEP_S
        g, b = self._admittance(p_kw, q_kvar)
        v = self._w * self._e1 / math.hypot(1.0 + b * d.x_d1_pu, g * d.x_d1_pu)
        wanted = min(1.0, self._w / d.underspeed_pu)
        error = wanted - v
        asked = min(max(d.regulator_pu * error + self._field_sum, 0.0), d.field_max_pu)
        if 0.0 < asked < d.field_max_pu:
            self._field_sum += d.regulator_per_s * error * h
        self._field += (asked - self._field) * h / d.exciter_s
        self._e1 += (self._field - self._e1 * self._loading(g, b)) * h / d.t_d01_s
        return v

    def _admittance(self, p_kw: float, q_kvar: float) -> tuple[float, float]:
        return p_kw / self._former.s_kva, q_kvar / self._former.s_kva

    def _loading(self, g: float, b: float) -> float:
        """What the field has to be for one unit of E', the current of this load flowing."""
        d = self._d
        squared = (1.0 + b * d.x_d1_pu) ** 2 + (g * d.x_d1_pu) ** 2
        direct = (b + (g * g + b * b) * d.x_d1_pu) / squared
        return 1.0 + (d.x_d_pu - d.x_d1_pu) * direct

    def _needed(self, g: float, b: float) -> float:
        return self._e1 * self._loading(g, b)


class _Converter:
    """Frequency by droop, voltage behind a reactance whose drop is taken back."""

    def __init__(self, former: Former, c: ConverterDynamics, p_kw: float, q_kvar: float) -> None:
        self._former, self._c = former, c
        self._p = p_kw / former.s_kva
        self._drop = self._drop_of(p_kw, q_kvar)

    def _drop_of(self, p_kw: float, q_kvar: float) -> float:
        p, q, x = p_kw / self._former.s_kva, q_kvar / self._former.s_kva, self._c.x_pu
        return 1.0 - 1.0 / math.hypot(1.0 + q * x, p * x)

    def step(self, p_kw: float, q_kvar: float) -> tuple[float, float]:
        c, h = self._c, STEP_S
        self._p += (p_kw / self._former.s_kva - self._p) * h / c.filter_s
        drop = self._drop_of(p_kw, q_kvar)
        v = 1.0 - drop + self._drop
        self._drop += (drop - self._drop) * h / c.voltage_s
        return 1.0 - c.droop_ratio * self._p, v


def _longest_away(values: Sequence[float], ratio: float) -> int:
    longest = now = 0
    for v in values:
        now = now + 1 if abs(v - 1.0) > ratio else 0
        longest = max(longest, now)
    return longest
