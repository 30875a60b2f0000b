"""A survey of units: who is there, and which device families and standards know them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.identity import from_registers, registers_of, unlike_map
from connectors.scan.asking import (
    Answer,
    Asker,
    Kind,
    identification_request,
    objects_of,
    read_request,
    words_of,
)
from ems.clock import wall_s, wall_sleep
from ems.family import Family
from ems.site import IdentityField

PER_SECOND_MAX = 5.0
SUNSPEC_MARK = (0x5375, 0x6E53)  # "SunS"
SUNSPEC_BASES = (40000, 50000, 0)
DEAF_AFTER = 3  # questions in a row without an answer: nobody is there
STRANGE_AFTER = 2  # answers in a row that are none: whatever it is, it does not speak Modbus


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A family whose identity block a unit fulfils, and what the unit said to it."""

    family: Family
    told: Mapping[str, str | None]


@dataclass(slots=True, kw_only=True)
class Finding:
    """What one unit said, and what it could not be got to say."""

    where: str
    unit: int
    is_there: bool = False
    sunspec_at: int | None = None
    told: dict[str, str] = field(default_factory=dict)  # by function 43
    matches: list[Match] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    questions: int = 0


class Pace:
    """One request in flight over all lines, and no more than a few a second."""

    def __init__(self, per_second_max: float = PER_SECOND_MAX) -> None:
        self._gap_s = 1.0 / per_second_max
        self._next_s = 0.0
        self._turn = asyncio.Lock()

    async def ask(self, asker: Asker, unit: int, pdu: bytes) -> Answer:
        """Wait for the turn, then ask."""
        async with self._turn:
            await wall_sleep(max(0.0, self._next_s - wall_s()))
            self._next_s = wall_s() + self._gap_s
            return await asker.ask(unit, pdu)


class _Unit:
    """The questions to one unit; each is asked once, however many families want to know."""

    def __init__(self, asker: Asker, unit: int, pace: Pace) -> None:
        self.finding = Finding(where=asker.name, unit=unit)
        self._asker, self._unit, self._pace = asker, unit, pace
        self._known: dict[bytes, Answer] = {}
        self._silent = self._garbled = 0

    def is_given_up(self) -> bool:
        """Whether it makes no sense to ask on."""
        deaf = self._silent >= DEAF_AFTER and not self.finding.is_there
        return deaf or self._silent >= 2 * DEAF_AFTER or self._garbled >= STRANGE_AFTER

    async def ask(self, pdu: bytes) -> Answer:
        if pdu in self._known:
            return self._known[pdu]
        if self.is_given_up():
            return Answer(kind=Kind.SILENT, text="given up")
        answer = await self._pace.ask(self._asker, self._unit, pdu)
        self.finding.questions += 1
        self.finding.is_there |= answer.is_there
        self._silent = self._silent + 1 if answer.kind is Kind.SILENT else 0
        self._garbled = self._garbled + 1 if answer.kind is Kind.GARBLED else 0
        if answer.kind in (Kind.SILENT, Kind.GARBLED) and self.is_given_up():
            self.finding.doubts.append(answer.text)
        self._known[pdu] = answer
        return answer

    async def read(self, one: IdentityField) -> str | None:
        """What it tells for a line of an identity block."""
        count = registers_of(one)
        words = words_of(await self.ask(read_request(one.table, int(one.address), count)), count)
        return None if words is None else from_registers(one, words)


async def survey(
    lines: Iterable[tuple[Asker, Sequence[int]]],
    families: Sequence[Family],
    pace: Pace,
    on_unit: Callable[[str, int], None] = lambda where, unit: None,
) -> AsyncIterator[Finding]:
    """Ask every unit of every line, one after the other; each finding comes as soon as it is known.

    Parameters
    ----------
    lines : who asks, and which units.
    families : those with Modbus registers and something to be told by are looked for.
    pace : shared by all lines.
    on_unit : told before a unit is asked.
    """
    for asker, units in lines:
        for unit in units:
            on_unit(asker.name, unit)
            yield await _one(_Unit(asker, unit, pace), asker.can_identify, families)


async def _one(unit: _Unit, can_identify: bool, families: Sequence[Family]) -> Finding:
    finding = unit.finding
    finding.sunspec_at = await _sunspec_at(unit)
    if can_identify and not unit.is_given_up():
        finding.told = objects_of(await unit.ask(identification_request()))
    for family in families:
        if unit.is_given_up():
            break
        if family.protocol.is_modbus and family.is_told and (told := await _fulfils(unit, family.identity)):
            finding.matches.append(Match(family=family, told=told))
    return finding


async def _sunspec_at(unit: _Unit) -> int | None:
    """Where the marker of SunSpec is; None: nowhere."""
    for base in SUNSPEC_BASES:
        answer = await unit.ask(read_request("holding", base, len(SUNSPEC_MARK)))
        if words_of(answer, len(SUNSPEC_MARK)) == SUNSPEC_MARK:
            return base
    return None


async def _fulfils(unit: _Unit, block: Sequence[IdentityField]) -> dict[str, str | None] | None:
    """What a unit tells for an identity block, where it fulfils it; the first line that does not ends it."""
    telling = [f for f in block if f.expected is not None or f.starts is not None or f.one_of]
    told: dict[str, str | None] = {}
    for one in (*telling, *(f for f in block if f not in telling)):
        told[one.name] = await unit.read(one)
        if one in telling and unlike_map([one], told):
            return None
    return told
