"""Names of SunSpec points, such as `701.W` or `714[2].Prt[1].DCW`, and where they lie. Pure."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from connectors.sunspec.definitions import GroupDef, ModelDef, PointDef, model_def
from connectors.sunspec.numbers import BITS, KINDS, Kind
from ems.errors import BadValue

_NAME = re.compile(r"(\d{1,5})(?:\[(\d{1,3})\])?((?:\.[A-Za-z]\w*(?:\[\d{1,3}\])?)+)")
_STEP = re.compile(r"\.([A-Za-z]\w*)(?:\[(\d{1,3})\])?")


class Key(NamedTuple):
    """The n-th model of an id in a chain, counted from 1."""

    model: int
    instance: int

    def __str__(self) -> str:
        return f"{self.model}" if self.instance == 1 else f"{self.model}[{self.instance}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One point of one model of a device: where it lies there, and how it is read."""

    text: str  # as the map names it
    key: Key
    offset: int  # registers from the model's id
    kind: Kind
    exponent: int  # where no register tells it
    exponent_at: int | None  # register that holds its exponent
    definition: PointDef

    @property
    def end(self) -> int:
        """Register behind it."""
        return self.offset + self.kind.registers

    @property
    def general(self) -> str:
        """Its name in the first model of its id."""
        return f"{self.key.model}.{self.text.partition('.')[2]}"

    @property
    def is_bits(self) -> bool:
        """Whether each bit has a meaning of its own."""
        return self.definition.kind in BITS


def spot(text: str) -> Spot:
    """Find a point by its name.

    Raises
    ------
    BadValue : no such name, model or point, or one that holds no number; says what is allowed.
    EmsError : the definitions are not installed.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise BadValue("a model and a point: 701.W, 701[2].W for the second one, 714.Prt[1].DCW in a group")
    key = Key(int(found[1]), _nth(found[2]))
    steps = [(s[1], _nth(s[2])) for s in _STEP.finditer(found[3])]
    if key.instance < 1 or any(n < 1 for _, n in steps):
        raise BadValue("a number from 1 up in brackets")
    definition = model_def(key.model)
    if definition is None:
        raise BadValue(f"a model that is published: {key.model} is none")
    return _in_group(text, key, definition, steps)


def _nth(text: str | None) -> int:
    return 1 if text is None else int(text)


def beside(place: Spot, name: str) -> Spot:
    """Another point of the top group of the same model. Raises BadValue where there is none."""
    return spot(f"{place.key}.{name}")


def _in_group(text: str, key: Key, model: ModelDef, steps: list[tuple[str, int]]) -> Spot:
    group, at = model.top, 0
    for name, n in steps[:-1]:
        group, at = _enter(group, at, name, n)
    name, n = steps[-1]
    point = group.point(name)
    if point is None or n != 1:
        known = [p.name for p in group.points if p.kind in KINDS] + [f"{g.name}[..]" for g in group.groups]
        raise BadValue(f"a point of {key}: {', '.join(known)}")
    if point.kind not in KINDS:
        raise BadValue(f"a point that holds a number: {name} is of type {point.kind}")
    exponent, exponent_at = _exponent(model.top, group, at, point)
    return Spot(
        text=text,
        key=key,
        offset=at + point.offset,
        kind=KINDS[point.kind],
        exponent=exponent,
        exponent_at=exponent_at,
        definition=point,
    )


def _enter(group: GroupDef, at: int, name: str, n: int) -> tuple[GroupDef, int]:
    """Sub-group `name`, and where its n-th one begins."""
    if name not in (known := [g.name for g in group.groups]):
        raise BadValue(f"a group: {', '.join(known) if known else 'none there'}")
    at += sum(p.size for p in group.points)
    for sub in group.groups:
        if sub.name == name:
            if sub.size is None:
                raise BadValue(f"a group of fixed length: {name} holds groups that are repeated")
            if sub.count is not None and n > sub.count:
                raise BadValue(f"{name}[1] to {name}[{sub.count}]")
            return sub, at + (n - 1) * sub.size
        if sub.size is None or sub.count is None:
            raise BadValue(f"a group in front of {sub.name}, whose length only the device knows")
        at += sub.size * sub.count
    raise AssertionError("it is one of them")


def _exponent(top: GroupDef, group: GroupDef, at: int, point: PointDef) -> tuple[int, int | None]:
    if point.scale is None:
        return 0, None
    if isinstance(point.scale, int):
        return point.scale, None
    own, common = group.point(point.scale), top.point(point.scale)
    if own is not None:
        return 0, at + own.offset
    if common is not None:
        return 0, common.offset
    raise BadValue(f"a point whose scale factor {point.scale} is defined")
