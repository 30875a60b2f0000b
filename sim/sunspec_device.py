"""A simulated SunSpec device: the models that a map names, values from the world when they are read."""

import math
from collections.abc import Iterator, Sequence

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from connectors.point_map import PointCodec
from connectors.sunspec.chain import END, MARK
from connectors.sunspec.definitions import HEADER, ModelDef, model_def
from connectors.sunspec.link import IDENTITY
from connectors.sunspec.numbers import KINDS, NO_EXPONENT, scaled, unscaled
from connectors.sunspec.places import Key, Spot
from connectors.sunspec.rows import Row, row_of
from ems.errors import EmsError
from ems.site import IdentityField
from sim.devices import REFUSAL, WRITES
from sim.world import World
from sim.writes import WriteVerdict

BASE = 40000
PERCENT_MAX = 100.0


class SunSpecDevice:
    """One unit behind a Modbus TCP server, with the models that its map needs, in order of their ids.

    A setpoint counts when what enables it is written, as the published models have it.

    Parameters
    ----------
    world : the plant.
    codecs : points of the unit, by the map of its connection.
    unit_id : answers to this unit only.
    identity : what it says it is in model 1.
    """

    def __init__(
        self,
        world: World,
        codecs: Sequence[PointCodec],
        *,
        unit_id: int,
        identity: Sequence[tuple[IdentityField, str]] = (),
    ) -> None:
        self._world, self._unit_id = world, unit_id
        self._rows = [row_of(c) for c in codecs]
        spots = [s for r in self._rows for s in r.spots()]
        self._at: dict[Key, int] = {}  # first register of each model
        self._words: list[int] = list(MARK)
        for key in sorted({Key(1, 1), *(s.key for s in spots)}):
            self._at[key] = BASE + len(self._words)
            self._words += _empty(key)
        self._words += [END, 0]
        self._exponents = dict(self._scales())
        for (key, at), exponent in self._exponents.items():
            self._words[self._at[key] - BASE + at] = exponent & 0xFFFF
        for row in self._rows:
            if row.percent_of is not None:
                self._store(row.percent_of, _most(row))
            for place in () if row.control is None else row.control.spots():
                self._store(place, 0.0)  # it is there: timer and reversion are taken as they are written
        self._name(identity)

    def sim_device(self) -> SimDevice:
        """The pymodbus side of it."""
        block = SimData(BASE, values=list(self._words), datatype=DataType.REGISTERS)
        return SimDevice(id=self._unit_id, simdata=[block], action=self._action)

    def _scales(self) -> Iterator[tuple[tuple[Key, int], int]]:
        """Exponent of each scale factor that a row needs: the finest in which everything fits."""
        largest: dict[tuple[Key, int], float] = {}
        for row in self._rows:
            own = PERCENT_MAX if row.percent_of is not None else _most(row)
            for place, value in ((row.place, own), (row.percent_of, _most(row))):
                if place is not None and place.exponent_at is not None:
                    key = (place.key, place.exponent_at)
                    room = place.kind.span / 2 - 2
                    largest[key] = max(largest.get(key, 0.0), value / room)
        for key, ratio in largest.items():
            yield key, max(-3, math.ceil(math.log10(ratio))) if ratio > 0.0 else 0

    def _name(self, identity: Sequence[tuple[IdentityField, str]]) -> None:
        common = model_def(1)
        assert common is not None, "model 1 is published"
        for field, text in identity:
            point = common.top.point(IDENTITY.get(field.name, ""))
            if point is not None:
                letters = text.encode("ascii")[: 2 * point.size].ljust(2 * point.size, b"\0")
                at = self._at[Key(1, 1)] - BASE + point.offset
                self._words[at : at + point.size] = _words(letters)

    def _exponent(self, place: Spot) -> int:
        at = place.exponent_at
        return place.exponent if at is None else self._exponents.get((place.key, at), 0)

    def _store(self, place: Spot, value: float | None) -> None:
        """Put a value [unit of the definition] into its registers; None: not implemented."""
        missing = place.kind.missing
        count = missing if value is None else round(unscaled(value, self._exponent(place)))
        raw = math.nan if count is None else count
        at = self._at[place.key] - BASE + place.offset
        words = _words(place.kind.form.pack(raw))
        self._words[at : at + len(words)] = words

    def _held(self, place: Spot) -> float:
        at = self._at[place.key] - BASE + place.offset
        words = self._words[at : at + place.kind.registers]
        raw = place.kind.form.unpack(b"".join(w.to_bytes(2, "big") for w in words))[0]
        return scaled(raw, self._exponent(place))

    async def _action(
        self,
        function_code: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if values is not None and function_code in WRITES:
            self._words[address - BASE : address - BASE + count] = [int(v) for v in values]
            refused = self._taken(address, count)
            if refused is not None:
                return refused
        else:
            readings = self._world.readings()
            for row in self._rows:
                self._show(row, readings.get(row.codec.point.point))
        registers[address - start : address - start + count] = self._words[address - BASE :][:count]
        return None

    def _show(self, row: Row, value: float | None) -> None:
        """What the world holds of a point, in the registers of its models."""
        if row.rules:
            self._show_state(row, value)
            return
        raw = None if value is None else float(row.codec.raw_reported(value))
        if raw is not None and row.percent_of is not None:
            raw = PERCENT_MAX * raw / _most(row)
        self._store(row.place, raw)
        if row.control is not None:
            control = row.control
            self._store(control.enable, float(control.recipe.enabled))
            if control.mode is not None and control.recipe.mode is not None:
                self._store(control.mode, float(control.recipe.mode[1]))
            if control.mirror is not None:
                self._store(control.mirror, None if raw is None else -raw)

    def _show_state(self, row: Row, value: float | None) -> None:
        """The symbols that make the state; those of other points than the first are off."""
        if value is None:
            self._store(row.place, None)
            return
        for place in {r.place for r in row.rules if r.place.is_bits}:
            self._store(place, 0.0)
        named = {r.number for r in row.rules if r.place == row.place}
        other = next(n for n in range(len(named) + 1) if n not in named)
        if not row.place.is_bits:
            self._store(row.place, float(other))
        rule = next((r for r in row.rules if r.value == value), None)
        if rule is not None:
            self._store(rule.place, float(1 << rule.number if rule.place.is_bits else rule.number))

    def _taken(self, address: int, count: int) -> ExcCodes | None:
        """Hand over what a write made effective."""
        for row in self._rows:
            if not row.codec.point.writable:
                continue
            key = row.place if row.control is None else row.control.enable
            at = self._at[key.key] + key.offset
            if not address <= at < address + count:
                continue
            if row.control is not None and self._held(key) != row.control.recipe.enabled:
                continue
            value = self._held(row.place)
            if row.percent_of is not None:
                value = value * _most(row) / PERCENT_MAX
            told = row.codec.from_raw(value).value
            assert told is not None, "registers hold finite numbers"
            verdict = self._world.write(row.codec.point.point, told)
            if verdict is not WriteVerdict.ACCEPTED:
                return REFUSAL[verdict]
        return None


def _most(row: Row) -> float:
    """Largest value of a row [unit of its definition, or of its rating]."""
    point = row.codec.point
    return max(abs(float(row.codec.raw_reported(v))) for v in (point.low, point.high))


def _empty(key: Key) -> list[int]:
    """Registers of a model with nothing implemented."""
    definition = model_def(key.model)
    if definition is None or definition.top.size is None:
        raise EmsError(f"no SunSpec device with model {key} is simulated: its length is not fixed")
    words = list(_nothing(definition))
    words[:HEADER] = [key.model, len(words) - HEADER]
    return words


def _nothing(definition: ModelDef) -> Iterator[int]:
    groups = [definition.top]
    for group in definition.top.groups:
        groups += [group] * (0 if group.count is None else group.count)
    for group in groups:
        for point in group.points:
            kind = KINDS.get(point.kind)
            if kind is not None:
                yield from _words(kind.form.pack(math.nan if kind.missing is None else kind.missing))
            else:
                yield from [NO_EXPONENT & 0xFFFF if point.kind == "sunssf" else 0] * point.size


def _words(payload: bytes) -> list[int]:
    return [int.from_bytes(payload[i : i + 2], "big") for i in range(0, len(payload), 2)]
