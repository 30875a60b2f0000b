"""Rows of a point map made of SunSpec points: found in the definitions, and decoded from images. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from connectors.point_map import Decoded, PointCodec
from connectors.sunspec.control import Control, control_of, in_force, signed
from connectors.sunspec.numbers import SYMBOLIC, Rollover, scaled
from connectors.sunspec.places import Spot, beside, spot
from connectors.sunspec.reading import Images, raw_of, value_of
from ems.errors import BadValue
from ems.site import PointMap
from ems.telemetry import Quality

OTHERWISE = "otherwise"


class Rule(NamedTuple):
    """A symbol of a point, and the value of the row while the device tells it."""

    place: Spot
    number: int  # of an enumeration, or of a bit
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point of the map, and every point of the device that it is made of."""

    codec: PointCodec
    place: Spot
    percent_of: Spot | None
    rules: tuple[Rule, ...]
    otherwise: float | None
    control: Control | None

    def spots(self) -> Iterator[Spot]:
        """Everything of the device that it needs."""
        yield self.place
        if self.percent_of is not None:
            yield self.percent_of
        yield from (r.place for r in self.rules)
        if self.control is not None:
            yield from self.control.spots()

    def decode(self, images: Images, rollovers: Mapping[str, Rollover]) -> Decoded:
        """Value and quality of the point in this poll."""
        if self.rules:
            value = self._state(images)
        elif self.control is not None:
            value = self._setpoint(self.control, images)
        elif self.place.text in rollovers:
            value = self._counted(images, rollovers[self.place.text])
        else:
            told = value_of(self.place, images)
            value = told if isinstance(told, Quality) else self._in_unit(told, images)
        return Decoded(None, value) if isinstance(value, Quality) else self.codec.from_raw(value)

    def _setpoint(self, control: Control, images: Images) -> float | Quality:
        """What holds: the value where it is enabled, else what its not being enabled means."""
        holds, told = in_force(control, self.place, images), value_of(self.place, images)
        if isinstance(holds, Quality):
            return holds
        if not holds:
            return self._in_unit(control.recipe.idle, images)
        told = told if isinstance(told, Quality) else signed(control, told, images)
        return told if isinstance(told, Quality) else self._in_unit(told, images)

    def rating(self, images: Images) -> float | Quality:
        """What a hundred percent are [unit of the rating]; more than 0."""
        assert self.percent_of is not None
        told = value_of(self.percent_of, images)
        return Quality.DEVICE_BAD if not isinstance(told, Quality) and told <= 0.0 else told

    def _in_unit(self, told: float, images: Images) -> float | Quality:
        if self.percent_of is None:
            return told
        rating = self.rating(images)
        return rating if isinstance(rating, Quality) else told * rating / 100.0

    def _counted(self, images: Images, rollover: Rollover) -> float | Quality:
        told = raw_of(self.place, images)
        if isinstance(told, Quality):
            return told
        return scaled(rollover.seen(int(told.raw), self.place.kind.span), told.exponent)

    def _state(self, images: Images) -> float | Quality:
        """The first rule that holds; none, and nothing said of others: a state nobody knows."""
        for rule in self.rules:
            told = raw_of(rule.place, images)
            if isinstance(told, Quality):
                return told
            raw = int(told.raw)
            if (raw >> rule.number) & 1 if rule.place.is_bits else raw == rule.number:
                return rule.value
        return Quality.DEVICE_BAD if self.otherwise is None else self.otherwise


def row_of(codec: PointCodec) -> Row:
    """The row with its points found.

    Raises
    ------
    BadValue : the first thing that is wrong with it; `row_faults` has them all.
    EmsError : the definitions are not installed.
    """
    point = codec.point
    if (fault := next(row_faults(point), None)) is not None:
        raise BadValue(f"{point.point}: {fault[0]} is {fault[1]}, allowed is {fault[2]}")
    assert point.sunspec is not None
    place = spot(point.address)
    states = [(s, v) for s, v in point.sunspec.states if s != OTHERWISE]
    return Row(
        codec=codec,
        place=place,
        percent_of=None if point.sunspec.percent_of is None else spot(point.sunspec.percent_of),
        rules=tuple(_rule(place, symbol, value) for symbol, value in states),
        otherwise=dict(point.sunspec.states).get(OTHERWISE),
        control=control_of(place) if point.writable else None,
    )


def row_faults(point: PointMap) -> Iterator[tuple[str, str, str]]:
    """(key, what was found, what is allowed) of everything in a row that the definitions contradict."""
    row = point.sunspec
    if row is None:
        yield "address", repr(point.address), "a row of a SunSpec map"
        return
    try:
        place = spot(point.address)
    except BadValue as error:
        yield "address", repr(point.address), str(error)
        return
    if point.writable:
        try:
            control_of(place)
        except BadValue as error:
            yield "address", repr(point.address), str(error)
    unit = place.definition.unit
    if row.percent_of is not None:
        rating, fault = _rating(place, row.percent_of)
        if fault:
            yield "percent_of", repr(row.percent_of), fault
            return
        unit = None if rating is None else rating.definition.unit
    if row.unit is not None and unit is not None and row.unit != unit:
        what = place.text if row.percent_of is None else f"{place.text}, as part of {row.percent_of},"
        yield "unit", repr(row.unit), f"{unit}, in which {what} is defined"
    symbolic = place.definition.kind in SYMBOLIC
    if symbolic and not row.states:
        names = ", ".join(n for n, _ in place.definition.symbols)
        yield "states", "nothing", f"the value of each symbol that counts ({names}), and `otherwise`"
    elif row.states and (not symbolic or point.writable):
        yield "states", "a value", "only for what is read of an enumeration or a bit field"
    else:
        yield from _state_faults(place, row.states)


def _rating(place: Spot, name: str) -> tuple[Spot | None, str]:
    """(the rating, why it is none)."""
    if place.definition.unit != "%":
        return None, f"nothing: {place.text} is no percentage"
    try:
        return spot(name), ""
    except BadValue as error:
        return None, str(error)


def _state_faults(place: Spot, states: tuple[tuple[str, float], ...]) -> Iterator[tuple[str, str, str]]:
    for symbol, value in states:
        if symbol == OTHERWISE:
            continue
        try:
            _rule(place, symbol, value)
        except BadValue as error:
            yield "states", repr(symbol), str(error)


def _rule(place: Spot, symbol: str, value: float) -> Rule:
    other, _, name = symbol.rpartition(".")
    where = beside(place, other) if other else place
    found = dict(where.definition.symbols).get(name)
    if found is None:
        known = ", ".join(n for n, _ in where.definition.symbols)
        raise BadValue(f"a symbol of {where.text}: {known if known else 'it has none'}")
    return Rule(where, found, value)
