"""The chain of models that a SunSpec device tells: found, walked to its end, not believed beyond. Pure.

Everything in it comes from the device: lengths that lie, a chain without end, or one that runs past the last
register end in `ChainError`; nothing of such a device is read or written.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.link import LinkError
from connectors.sunspec.definitions import HEADER
from connectors.sunspec.places import Key

MARK = (0x5375, 0x6E53)  # "SunS"
# The three addresses of the specification, then those of devices that count registers from one, or to one.
BASES = (40000, 50000, 0, 39999, 40001, 49999, 50001, 1)
COMMON = 1  # the model that comes first, and tells who is there
END = 0xFFFF
MODELS_MAX = 128
LAST_REGISTER = 65535
ReadWords = Callable[[int, int], Awaitable[tuple[int, ...] | None]]  # (address, count); None: refused


class ChainError(LinkError):
    """What the device tells is no chain of models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of a device."""

    key: Key
    address: int  # of its id
    length: int  # registers behind its header, as the device tells it

    @property
    def end(self) -> int:
        """Register behind it."""
        return self.address + HEADER + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """All models of a device in their order."""

    base: int
    models: tuple[Model, ...]

    def find(self, key: Key) -> Model | None:
        """The model of this id and number, or None."""
        return next((m for m in self.models if m.key == key), None)

    def __str__(self) -> str:
        return f"{self.base}: " + " ".join(f"{m.key.model}/{m.length}" for m in self.models)


async def find_base(read: ReadWords, candidates: tuple[int, ...] = BASES) -> int:
    """The register at which the device says that it speaks SunSpec. Raises ChainError: nowhere."""
    for base in candidates:
        if await read(base, 2) == MARK:
            return base
    raise ChainError(f"no SunSpec device: 'SunS' is not at {', '.join(str(b) for b in candidates)}")


async def walk(read: ReadWords, base: int) -> Chain:
    """Every model from `base` to the end of the chain.

    Raises
    ------
    ChainError : it has no end, does not begin with model 1, or leaves the registers there are.
    LinkError : as `read`.
    """
    models: list[Model] = []
    counts: dict[int, int] = {}
    at = base + len(MARK)
    while at + HEADER - 1 <= LAST_REGISTER:
        header = await read(at, HEADER)
        if header is None:
            raise ChainError(f"the chain has no end: {_after(models)} there is no register {at}")
        model, length = header
        if model == END and models:
            return Chain(base=base, models=tuple(models))
        if model == 0 or (not models and model != COMMON):
            raise ChainError(f"no chain of models: {_after(models)} comes model {model} at register {at}")
        if len(models) == MODELS_MAX:
            raise ChainError(f"the chain has more than {MODELS_MAX} models")
        counts[model] = counts.get(model, 0) + 1
        models.append(Model(key=Key(model, counts[model]), address=at, length=length))
        at = models[-1].end
    raise ChainError(f"the chain leaves the registers: {_after(models)} the next model would be at {at}")


def _after(models: list[Model]) -> str:
    if not models:
        return "behind 'SunS'"
    last = models[-1]
    return f"behind model {last.key.model}, of {last.length} registers from {last.address},"
