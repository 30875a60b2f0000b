"""Models read into images, and the values in them: a value comes with its scale factor. Pure.

Each image begins with the model's id and length, read in the same request as its first values: a device that
has moved its models is noticed before a value is believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from connectors.sunspec.chain import Chain, Model
from connectors.sunspec.definitions import HEADER, model_def
from connectors.sunspec.numbers import EXPONENT_MAX, SCALE, scaled
from connectors.sunspec.places import Key, Spot
from ems.clock import wall_s
from ems.telemetry import Quality


class Told(NamedTuple):
    """What the registers of a point hold, and the power of ten that belongs to it."""

    raw: float | int
    exponent: int


@dataclass(slots=True)
class Image:
    """What was read of one model in one poll."""

    payload: bytearray
    read: list[tuple[int, int]] = field(default_factory=list)  # [from, to) in registers from the model's id
    fault: Quality = Quality.DEVICE_BAD  # of what was not read
    torn: set[int] = field(default_factory=set)  # exponents that changed while their values were read
    asked_s: float = field(default_factory=wall_s)  # wall time, before its first request

    def has(self, start: int, end: int) -> bool:
        """Whether these registers came in one answer."""
        return any(a <= start and end <= b for a, b in self.read)

    def exponent(self, at: int) -> int | None:
        """A scale factor; None where the device tells none that can be."""
        if at in self.torn or not self.has(at, at + 1):
            return None
        told = SCALE.raw(self.payload, 2 * at)
        if told is None or abs(told) > EXPONENT_MAX:
            return None
        return int(told)


Images = Mapping[Key, Image]


def raw_of(place: Spot, images: Images) -> Told | Quality:
    """Count and exponent of a point, or why there is none."""
    image = images.get(place.key)
    if image is None:
        return Quality.DEVICE_BAD
    if not image.has(place.offset, place.end):
        return image.fault
    raw = place.kind.raw(image.payload, 2 * place.offset)
    if raw is None:
        return Quality.DEVICE_BAD if place.kind.missing is not None else Quality.NOT_FINITE
    exponent: int | None = place.exponent
    if place.exponent_at is not None:
        exponent = image.exponent(place.exponent_at)
    return Quality.DEVICE_BAD if exponent is None else Told(raw, exponent)


def value_of(place: Spot, images: Images) -> float | Quality:
    """A point's value in the unit of its definition, or why there is none."""
    told = raw_of(place, images)
    return told if isinstance(told, Quality) else scaled(told.raw, told.exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """How one model is read."""

    model: Model
    requests: tuple[tuple[int, int], ...]  # (first register from the model's id, count)
    # Exponents that do not come in one answer with their values are read on the other side of them, too.
    before: tuple[tuple[int, int], ...]
    behind: tuple[tuple[int, int], ...]


def plan_models(
    places: Iterable[Spot], chain: Chain, registers_max: int
) -> tuple[dict[Key, ModelPlan], dict[Key, str]]:
    """(how each model is read, why a model cannot be): the places are all that is asked for."""
    wanted: dict[Key, set[Spot]] = {}
    for place in places:
        wanted.setdefault(place.key, set()).add(place)
    plans, faults = {}, {}
    for key, spots in wanted.items():
        model = chain.find(key)
        definition = model_def(key.model)
        if model is None or definition is None:
            faults[key] = f"the device has no model {key}"
        elif not definition.fits(model.length):
            faults[key] = f"the device's model {key} is not as defined: {model.length} registers"
        else:
            room = {s for s in spots if s.end <= HEADER + model.length}
            plans[key] = _plan(model, room, registers_max)
    return plans, faults


def _plan(model: Model, spots: Iterable[Spot], registers_max: int) -> ModelPlan:
    spots = list(spots)
    spans = [(0, HEADER), *((s.offset, s.end) for s in spots)]
    spans += [(s.exponent_at, s.exponent_at + 1) for s in spots if s.exponent_at is not None]
    requests = _grouped(spans, registers_max)

    def order(at: int) -> int:
        return next(i for i, (start, count) in enumerate(requests) if start <= at < start + count)

    told = [(s.exponent_at, s.offset) for s in spots if s.exponent_at is not None]
    late = {e for e, value in told if order(e) > order(value)}
    early = {e for e, value in told if order(e) < order(value)}
    return ModelPlan(
        model=model,
        requests=requests,
        before=_grouped([(at, at + 1) for at in late], registers_max),
        behind=_grouped([(at, at + 1) for at in early], registers_max),
    )


def _grouped(spans: Iterable[tuple[int, int]], registers_max: int) -> tuple[tuple[int, int], ...]:
    """Fewest requests (first register, count) in which no span is split."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and max(end, sum(out[-1])) - out[-1][0] <= registers_max:
            out[-1] = (out[-1][0], max(end, sum(out[-1])) - out[-1][0])
        else:
            out.append((start, end - start))
    return tuple(out)


def compare(image: Image, request: tuple[int, int], words: bytes | int) -> None:
    """Note each exponent of an image that was told otherwise in another answer, or refused there."""
    start, count = request
    for at in range(start, start + count):
        told = b"" if isinstance(words, int) else words[2 * (at - start) : 2 * (at - start) + 2]
        if told != image.payload[2 * at : 2 * at + 2]:
            image.torn.add(at)


def image_of(model: Model) -> Image:
    """An image of which nothing was read yet."""
    return Image(bytearray(2 * (HEADER + model.length)))
