"""Limits that people set: one person tightens at once, two loosen, or one breaks the glass for a while."""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.authority.layout import ControlLayout
from dispatch.authority.state import Loosened
from dispatch.authority.told_limits import Cap
from dispatch.layout import Layout
from ems.commands import Bound
from ems.control_site import LimitKind
from ems.points import is_binary
from ems.requests import StandingLimit

LAYER = "people"
KINDS = frozenset(k.value for k in LimitKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a limit is about: a kind of cap, or one side of a continuous setpoint."""

    name: str
    kind: LimitKind | None
    point: str | None
    is_low: bool  # the lower side of a setpoint: larger is tighter
    low: float  # unit of the subject: no value below it may be set; ratio
    high: float  # unit of the subject: no value above it may be set; ratio


def subject_of(layout: Layout, name: str) -> Subject | None:
    """The subject of this name at this site, or None."""
    if name in KINDS:
        kind = LimitKind(name)
        high = layout.control.ratings_kw[kind]
        return Subject(name=name, kind=kind, point=None, is_low=False, low=0.0, high=high)
    point, _, side = name.rpartition(".")
    a = layout.setpoints.get(point)
    if a is None or side not in ("low", "high") or is_binary(point):
        return None
    # zero, or what is nearest to it, always remains: a limit narrows, it does not command
    rest = min(max(0.0, a.low), a.high)
    low, high = (a.low, rest) if side == "low" else (rest, a.high)
    return Subject(name=name, kind=None, point=point, is_low=side == "low", low=low, high=high)


def is_tighter(subject: Subject, now: float | None, new: float | None) -> bool:
    """Whether a limit at `new` allows nothing that one at `now` does not; None: no limit."""
    if now is None:
        return True
    if new is None:
        return False
    return new >= now if subject.is_low else new <= now


def in_force(
    limits: Mapping[str, StandingLimit], loosened: Mapping[str, Loosened], subject: str
) -> float | None:
    """The value that holds now: of the loosening while there is one, else of the standing limit."""
    if subject in loosened:
        return loosened[subject].value
    limit = limits.get(subject)
    return None if limit is None else limit.value


def people_now(
    layout: Layout, limits: Mapping[str, StandingLimit], loosened: Mapping[str, Loosened]
) -> tuple[list[Cap], dict[str, list[Bound]]]:
    """(caps, bounds by setpoint) that people have set and that hold now."""
    caps: list[Cap] = []
    bounds: dict[str, list[Bound]] = {}
    for name, limit in limits.items():
        subject, value = subject_of(layout, name), in_force(limits, loosened, name)
        if subject is None or value is None:
            continue
        reason = f"limit of {limit.user}: {limit.reason}"
        if subject.kind is not None:
            caps.append(Cap(kind=subject.kind, cap_kw=value, reason=reason, layer=LAYER))
        else:
            a = layout.setpoints[name.rpartition(".")[0]]
            low, high = (value, a.high) if subject.is_low else (a.low, value)
            bound = Bound(point=a.point, low=low, high=high, layer=LAYER, reason=reason)
            bounds.setdefault(a.point, []).append(bound)
    return caps, bounds


def bounds_of(control: ControlLayout, layout: Layout, caps: list[Cap]) -> dict[str, list[Bound]]:
    """What caps on all PV or all batteries mean for each setpoint."""
    out: dict[str, list[Bound]] = {}
    for cap in caps:
        for point, share in control.shares.get(cap.kind, {}).items():
            a, part = layout.setpoints[point], share * cap.cap_kw
            low, high = (-part, a.high) if cap.kind is LimitKind.BESS_CHARGE else (a.low, part)
            bound = Bound(point=point, low=low, high=high, layer=cap.layer, reason=cap.reason)
            out.setdefault(point, []).append(bound)
    return out
