"""The ports of an edge with its invariants at them: what passes is judged, and nothing is changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from dispatch.layout import Layout
from dispatch.supervision.invariants_now import InvariantsNow
from ems.alarms import AlarmBook
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.errors import InvariantBroken
from ems.ports import DeviceIO, LastWord, Recorder, TurnIO
from ems.records import JsonValue, StatusRow
from ems.telemetry import Reading, Snapshot


class WatchedIO:
    """`DeviceIO` that asks the invariants of each command right before the device has it."""

    def __init__(self, inner: DeviceIO, layout: Layout, invariants: InvariantsNow) -> None:
        self._inner, self._layout, self._invariants = inner, layout, invariants

    async def read_all(self) -> Sequence[Reading]:
        """What arrives."""
        return await self._inner.read_all()

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Judge, then write.

        Raises
        ------
        InvariantBroken : a command must not go on the wire; none of these does.
        """
        for command in commands:
            self._invariants.writing(command, self._layout.device(command.point))
        return await self._inner.write(commands)

    async def close(self) -> None:
        """Release what is held."""
        await self._inner.close()


class WatchedTurnIO(WatchedIO):
    """The same over devices that wait for their turn: judged when it has come, as it is sent."""

    def __init__(self, inner: DeviceIO, turns: TurnIO, layout: Layout, invariants: InvariantsNow) -> None:
        super().__init__(inner, layout, invariants)
        self._turns = turns

    async def write_in_turn(self, commands: Sequence[Command], last_word: LastWord) -> Sequence[WriteResult]:
        """Judge what `last_word` lets pass, then let it be sent.

        Raises
        ------
        InvariantBroken : one must not go on the wire; it did not.
        """
        judged: dict[str, Command] = {}
        broken: list[InvariantBroken] = []

        def judge(command: Command) -> Command | None:
            word = last_word(command)
            if word is None or judged.get(word.command_id) == word:  # of a command with several requests
                return word
            try:
                self._invariants.writing(word, self._layout.device(word.point))
            except InvariantBroken as what:
                broken.append(what)
                return None
            judged[word.command_id] = word
            return word

        results = await self._turns.write_in_turn(commands, judge)
        if broken:
            raise broken[0]
        return results


def watched_io(inner: DeviceIO, layout: Layout, invariants: InvariantsNow) -> WatchedIO:
    """The devices of an edge with its invariants at them, whichever way they are written to."""
    if isinstance(inner, TurnIO):
        return WatchedTurnIO(inner, inner, layout, invariants)
    return WatchedIO(inner, layout, invariants)


class WatchedRecorder:
    """`Recorder` that tells the invariants of intents and outcomes."""

    def __init__(self, inner: Recorder, invariants: InvariantsNow) -> None:
        self._inner, self._invariants = inner, invariants

    def readings(self, snapshot: Snapshot) -> None:
        """Store every reading of a snapshot."""
        self._inner.readings(snapshot)

    def intent(self, command: Command) -> None:
        """A command is about to be sent."""
        self._inner.intent(command)
        self._invariants.intended(command)

    def outcome(self, result: WriteResult) -> None:
        """What became of it."""
        self._inner.outcome(result)
        self._invariants.recorded(result)

    def refusal(self, refusal: Refusal) -> None:
        """A write that was refused."""
        self._inner.refusal(refusal)

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """An event with its fields."""
        self._inner.event(at, kind, fields)

    def status(self, row: StatusRow) -> None:
        """Upsert the one status row of this process."""
        self._inner.status(row)

    def condition(self, condition: PlantCondition) -> None:
        """Make the plant's condition readable for the planner."""
        self._inner.condition(condition)

    def alarms(self, book: AlarmBook) -> None:
        """Make the alarms readable."""
        self._inner.alarms(book)
