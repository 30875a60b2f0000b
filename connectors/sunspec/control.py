"""Setpoints of the published models: what is enabled with them, and what they revert to by themselves.

A setpoint is written in the order that keeps an old value from becoming active: the reversion first, then the
value, then the mode it is in, and last what enables it, which also starts the timer anew.

Source: SunSpec DER Information Model Specification V1.2 (SunSpec Alliance, 2023), models 123, 124 and 704.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from connectors.sunspec.numbers import unscaled
from connectors.sunspec.places import Spot, beside
from connectors.sunspec.reading import Images, raw_of
from ems.assets import OnSilence
from ems.errors import BadValue
from ems.silence import silent_value
from ems.site import SetpointAuthority
from ems.telemetry import Quality

VENDOR_MODELS = 64000  # from here on models are a maker's own: what they do is not known
COUNT_NOISE = 1e-6  # a count is whole within this
WHOLE = 100.0  # percent
HEARTBEATS = ("715.ControllerHb", "802.CtrlHb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The points that belong to one setpoint; all of its model."""

    enable: str
    timer: str
    enabled: int = 1
    mode: tuple[str, int] | None = None  # that says which of several values holds
    revert: str | None = None  # value after the timer
    revert_enable: str | None = None  # whether that value holds then
    mirror: str | None = None  # takes the same value with the other sign
    sign: str | None = None  # 1 where the value is below 0, which its own register cannot hold
    revert_sign: str | None = None
    idle: float = 0.0  # what the setpoint stands at while it is not enabled [unit of its point]

    @property
    def is_limit(self) -> bool:
        """Not enabled it limits nothing."""
        return self.idle == WHOLE


RECIPES: dict[str, Recipe] = {
    "704.WMaxLimPct": Recipe(
        enable="WMaxLimPctEna",
        timer="WMaxLimPctRvrtTms",
        revert="WMaxLimPctRvrt",
        revert_enable="WMaxLimPctEnaRvrt",
        idle=WHOLE,
    ),
    "704.WSet": Recipe(
        enable="WSetEna",
        mode=("WSetMod", 1),
        timer="WSetRvrtTms",
        revert="WSetRvrt",
        revert_enable="WSetEnaRvrt",
    ),
    "704.WSetPct": Recipe(
        enable="WSetEna",
        mode=("WSetMod", 0),
        timer="WSetRvrtTms",
        revert="WSetPctRvrt",
        revert_enable="WSetEnaRvrt",
    ),
    "704.VarSet": Recipe(
        enable="VarSetEna",
        mode=("VarSetMod", 4),
        timer="VarSetRvrtTms",
        revert="VarSetRvrt",
        revert_enable="VarSetEnaRvrt",
    ),
    # Over-excited is 0: reactive power goes into the bus, as with a power factor above 0 here.
    "704.PFWInj.PF": Recipe(
        enable="PFWInjEna",
        timer="PFWInjRvrtTms",
        revert="PFWInjRvrt.PF",
        revert_enable="PFWInjEnaRvrt",
        sign="PFWInj.Ext",
        revert_sign="PFWInjRvrt.Ext",
        idle=1.0,
    ),
    "123.WMaxLimPct": Recipe(enable="WMaxLim_Ena", timer="WMaxLimPct_RvrtTms", idle=WHOLE),
    # Both rates are limits; the one with the other sign makes a setpoint of the two.
    "124.OutWRte": Recipe(enable="StorCtl_Mod", enabled=3, timer="InOutWRte_RvrtTms", mirror="InWRte"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A recipe with its points found."""

    recipe: Recipe
    enable: Spot
    timer: Spot
    mode: Spot | None
    revert: Spot | None
    revert_enable: Spot | None
    mirror: Spot | None
    sign: Spot | None
    revert_sign: Spot | None

    def spots(self) -> Iterator[Spot]:
        """Every point of it."""
        yield from (self.enable, self.timer)
        for s in (self.mode, self.revert, self.revert_enable, self.mirror, self.sign, self.revert_sign):
            if s is not None:
                yield s


class Step(NamedTuple):
    """One request to write: registers from the model's id, and what goes there."""

    offset: int
    words: tuple[int, ...]


def control_of(place: Spot) -> Control | None:
    """What belongs to a point that is written; None for a heartbeat or a point of a maker's own model.

    Raises
    ------
    BadValue : the point cannot be written, or nobody has said what writing it does.
    """
    if not place.definition.is_writable:
        raise BadValue(f"a point that can be written: {place.text} is only read")
    name, recipe = place.general, RECIPES.get(place.general)
    if recipe is None:
        if name in HEARTBEATS or place.key.model >= VENDOR_MODELS:
            return None
        raise BadValue(f"a setpoint whose enabling and reversion are known: {', '.join(RECIPES)}")

    def point(other: str | None) -> Spot | None:
        return None if other is None else beside(place, other)

    return Control(
        recipe=recipe,
        enable=beside(place, recipe.enable),
        timer=beside(place, recipe.timer),
        mode=point(None if recipe.mode is None else recipe.mode[0]),
        revert=point(recipe.revert),
        revert_enable=point(recipe.revert_enable),
        mirror=point(recipe.mirror),
        sign=point(recipe.sign),
        revert_sign=point(recipe.revert_sign),
    )


def in_force(control: Control, place: Spot, images: Images) -> bool | Quality:
    """Whether the setpoint holds: enabled, in its mode, mirrored where it has a mirror."""
    wanted = [(control.enable, control.recipe.enabled)]
    if control.mode is not None and control.recipe.mode is not None:
        wanted.append((control.mode, control.recipe.mode[1]))
    if control.mirror is not None:
        value = raw_of(place, images)
        if isinstance(value, Quality):
            return value
        wanted.append((control.mirror, -int(value.raw)))
    good = True
    for other, count in wanted:
        told = raw_of(other, images)
        if isinstance(told, Quality):
            return told
        good = good and told.raw == count
    return good


def signed(control: Control, told: float, images: Images) -> float | Quality:
    """A value with the sign that another register holds."""
    if control.sign is None:
        return told
    sign = raw_of(control.sign, images)
    if isinstance(sign, Quality):
        return sign
    return Quality.DEVICE_BAD if sign.raw not in (0, 1) else told * (1.0, -1.0)[int(sign.raw)]


def silence_fault(place: Spot, authority: SetpointAuthority) -> str:
    """Why a device cannot do in silence what the site file says; empty: it can, or nothing is asked of it."""
    behaviour = authority.safety.behaviour
    recipe = RECIPES.get(place.general)
    if recipe is None or behaviour.on_silence is OnSilence.HOLD:
        return ""
    if behaviour.timeout_s != round(behaviour.timeout_s):
        return f"whole seconds: {place.text} counts them"
    if recipe.is_limit and recipe.revert is None and behaviour.on_silence is not OnSilence.FULL:
        return f"full or hold: model {place.key.model} can only lift the limit"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A value for one point, in the unit of its definition."""

    place: Spot
    value: float
    bounds: tuple[float, float]  # that rounding to a count does not leave
    revert: float | None  # what it reverts to; None: nothing is set
    authority: SetpointAuthority | None  # says what the device is to do in silence


def counted(value: float, bounds: tuple[float, float], place: Spot, images: Images) -> int:
    """`value` as the nearest count of its register inside `bounds`, by the exponent told now.

    Raises
    ------
    BadValue : the exponent is not known, or the count is none of the register's.
    """
    exponent: int | None = place.exponent
    if place.exponent_at is not None:
        exponent = images[place.key].exponent(place.exponent_at) if place.key in images else None
    if exponent is None:
        raise BadValue(f"{place.text}: the device tells no scale factor")
    raw = unscaled(value, exponent)
    if not math.isfinite(raw):
        raise BadValue(f"{place.text}: {value!r} is not a finite number")
    count = round(raw)
    low, high = (unscaled(b, exponent) for b in bounds)
    count -= count > high + COUNT_NOISE
    count += count < low - COUNT_NOISE
    is_signed = place.kind.form.format[-1] in "hiq"
    least, most = (
        (-(place.kind.span // 2), place.kind.span // 2 - 1) if is_signed else (0, place.kind.span - 1)
    )
    if not least <= count <= most or count == place.kind.missing:
        raise BadValue(f"{place.text}: {value:g} with scale factor {exponent} does not fit its register")
    return count


def steps(control: Control | None, asked: Asked, images: Images) -> list[Step]:
    """The requests of one write, in their order; see the module.

    Raises
    ------
    BadValue : a value does not fit, or the device lacks the timer that the silence of the site file needs.
    """
    if control is None:
        return _runs({asked.place: counted(asked.value, asked.bounds, asked.place, images)})
    main = _counts(asked.value, asked, (asked.place, control.sign), images)
    first = {} if asked.authority is None else _reversion(control, asked, asked.authority, images)
    if control.mirror is not None:
        main[control.mirror] = -main[asked.place]
    for place in (control.revert, control.revert_sign):
        if place is not None and place in first:
            main[place] = first.pop(place)
    out = _runs({**first, **main})
    if len(out) > 1:  # not one request: nothing is to hold, not even for a moment, without its reversion
        out = [*_runs(first), *_runs(main)]
    if control.mode is not None and control.recipe.mode is not None:
        told = raw_of(control.mode, images)
        if isinstance(told, Quality) or told.raw != control.recipe.mode[1]:
            out += _runs({control.mode: control.recipe.mode[1]})
    return [*out, *_runs({control.enable: control.recipe.enabled})]


def _counts(value: float, asked: Asked, places: tuple[Spot, Spot | None], images: Images) -> dict[Spot, int]:
    """Counts of a value, and of its sign where that has a register of its own."""
    place, sign = places
    if sign is None:
        return {place: counted(value, asked.bounds, place, images)}
    most = max(abs(b) for b in asked.bounds)
    return {place: counted(abs(value), (0.0, most), place, images), sign: int(value < 0.0)}


def _reversion(
    control: Control, asked: Asked, authority: SetpointAuthority, images: Images
) -> dict[Spot, int]:
    behaviour = authority.safety.behaviour
    drops = behaviour.on_silence is OnSilence.FULL
    needed = [control.timer, control.revert_enable, *([] if drops else [control.revert, control.revert_sign])]
    lacking = [s.text for s in needed if s is not None and isinstance(raw_of(s, images), Quality)]
    if behaviour.on_silence is OnSilence.HOLD:
        return {} if control.timer.text in lacking else {control.timer: 0}
    if lacking:
        raise BadValue(f"the device has no {', '.join(lacking)}: it cannot do in silence what is agreed")
    out = {control.timer: round(behaviour.timeout_s)}
    if control.revert is None or control.revert_enable is None:
        return out
    out[control.revert_enable] = int(not drops)
    if asked.revert is not None:
        out |= _counts(asked.revert, asked, (control.revert, control.revert_sign), images)
    return out


def revert_value(authority: SetpointAuthority) -> float | None:
    """What the setpoint reverts to [unit of the setpoint]; None where it is held or dropped."""
    if authority.safety.behaviour.on_silence in (OnSilence.HOLD, OnSilence.FULL):
        return None
    return silent_value(authority)


def _runs(counts: dict[Spot, int]) -> list[Step]:
    """Points that lie in a row go in one request."""
    out: list[Step] = []
    for place in sorted(counts, key=lambda s: s.offset):
        payload = place.kind.form.pack(counts[place])
        words = tuple(int.from_bytes(payload[i : i + 2], "big") for i in range(0, len(payload), 2))
        if out and out[-1].offset + len(out[-1].words) == place.offset:
            out[-1] = Step(out[-1].offset, out[-1].words + words)
        else:
            out.append(Step(place.offset, words))
    return out
