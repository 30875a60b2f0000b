"""People at the plant: requests of operators, engineers and others, right and wrong, one every few seconds.

What they ask is a function of the fault and of time alone, so that a twin hears the same.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ems.control import ControlMode, Role
from ems.points import is_binary, split_point_id
from ems.requests import (
    Answer,
    Ask,
    Bypass,
    Confirm,
    Operate,
    Release,
    ReleaseHeldSafe,
    Select,
    SetLimit,
    SetSetpoint,
    SwitchMode,
    TellLimit,
)
from ems.site import Site
from sim.faults.base import Fault

USERS: Mapping[str, frozenset[Role]] = {
    "olga": frozenset((Role.OPERATOR,)),
    "otto": frozenset((Role.OPERATOR,)),
    "egon": frozenset((Role.ENGINEER,)),
    "vera": frozenset((Role.VIEWER,)),
    "utility": frozenset((Role.UTILITY,)),
}
STRANGER = "mallory"
EVERY_S = 5.0
TIDY_S = 15.0  # before the end somebody puts everything back to automatic
FOLLOWED = 0.7  # share of tokens somebody makes use of
Asked = tuple[str, Ask]


def requests(fault: Fault, site: Site, t_s: float, answers: Sequence[Answer]) -> Sequence[Asked]:
    """Who asks what now."""
    age_s = t_s - fault.from_s
    rng = np.random.default_rng([68, round(fault.from_s), round(age_s * 10.0)])
    out = _followed(rng, answers)
    if fault.until_s - t_s < TIDY_S:
        return [*out, *_tidied(site)] if _now(fault.until_s - t_s, TIDY_S - EVERY_S) else out
    if _now(age_s % EVERY_S, 0.0):
        out.append(_anything(rng, site))
    return out


def _now(left_s: float, at_s: float) -> bool:
    return abs(left_s - at_s) < 0.5


def _followed(rng: np.random.Generator, answers: Sequence[Answer]) -> list[Asked]:
    """A selection is operated by who made it, a proposal confirmed by somebody, sometimes the wrong one."""
    out: list[Asked] = []
    for a in answers:
        if a.token is not None and rng.random() < FOLLOWED:
            out.append((a.user, Operate(token=a.token)))
            out.append((str(rng.choice(list(USERS))), Confirm(proposal=a.token)))
    return out


def _tidied(site: Site) -> list[Asked]:
    devices = sorted({split_point_id(p)[0] for p in site.authority.setpoints})
    modes: list[Asked] = [("egon", SwitchMode(device=d, mode=ControlMode.AUTO)) for d in (None, *devices)]
    return modes + [("egon", SetLimit(subject=s, value=None)) for s in ("import", "export", "pv")]


def _anything(rng: np.random.Generator, site: Site) -> Asked:
    user = str(rng.choice([*USERS, "olga", "olga", "egon", STRANGER]))
    make = _KINDS[int(rng.integers(len(_KINDS)))]
    return user, make(rng, site)


def _set(rng: np.random.Generator, site: Site) -> Ask:
    point = _point(rng, site, binary=False)
    a = site.authority.setpoints.get(point)
    low, high = (0.0, 100.0) if a is None else (a.low, a.high)
    wide = 1.3 * (high - low)
    value = float(rng.choice((low - wide * 0.1 + wide * rng.random(), 0.0, math.nan, 1e9)))
    return SetSetpoint(point=point, value=value, for_s=_time(rng))


def _release(rng: np.random.Generator, site: Site) -> Ask:
    return Release(point=_point(rng, site, binary=False))


def _mode(rng: np.random.Generator, site: Site) -> Ask:
    devices = sorted({split_point_id(p)[0] for p in site.authority.setpoints})
    device = (None, "nobody", *devices)[int(rng.integers(len(devices) + 2))]
    mode = list(ControlMode)[int(rng.integers(len(ControlMode)))]
    return SwitchMode(device=device, mode=mode, for_s=_time(rng))


def _limit(rng: np.random.Generator, site: Site) -> Ask:
    subject = str(rng.choice(("import", "export", "pv", "bess_charge", "nothing")))
    value = float(rng.choice((rng.uniform(20.0, 200.0), math.nan, -5.0)))
    return SetLimit(subject=subject, value=value, break_glass=bool(rng.random() < 0.3), for_s=_time(rng))


def _select(rng: np.random.Generator, site: Site) -> Ask:
    return Select(point=_point(rng, site, binary=True), value=float(rng.choice((0.0, 1.0, 1.0, 2.0))))


def _other(rng: np.random.Generator, site: Site) -> Ask:
    others: tuple[Ask, ...] = (
        Operate(token="made-up"),  # noqa: S106  nobody was given it
        Confirm(proposal="made-up"),
        Bypass(interlock="nothing", for_s=60.0),
        ReleaseHeldSafe(),
        TellLimit(limit="nothing", value_kw=10.0),
    )
    return others[int(rng.integers(len(others)))]


_KINDS: tuple[Callable[[np.random.Generator, Site], Ask], ...] = (
    _set, _set, _set, _release, _mode, _mode, _limit, _select, _other,
)  # fmt: skip


def _point(rng: np.random.Generator, site: Site, *, binary: bool) -> str:
    points = [p for p in site.authority.setpoints if is_binary(split_point_id(p)[1]) is binary]
    return points[int(rng.integers(len(points)))] if points else "bess1.p_set_kw"


def _time(rng: np.random.Generator) -> float | None:
    return (None, 30.0, 120.0, -1.0, math.nan)[int(rng.choice(5, p=(0.3, 0.3, 0.3, 0.05, 0.05)))]
