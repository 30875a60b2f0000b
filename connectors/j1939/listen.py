"""What is said on a CAN bus, for whoever writes a site file or looks for a fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from connectors.j1939.messages import ANNOUNCE, CLAIM, EVERYBODY, PART, Assembly, fault_codes, identifier_of
from connectors.j1939.wire import Frame, Slcan, SocketCan
from ems.clock import wall_s
from ems.j1939 import DM1

STEP_S = 0.1
GROUPS_MAX = 2000  # of one sender


@dataclass(slots=True)
class Group:
    """A parameter group of one sender, and its last message."""

    first_s: float
    last_s: float
    data: bytes
    messages: int = 1

    @property
    def period_s(self) -> float | None:
        """How often it came; None: once."""
        return (self.last_s - self.first_s) / (self.messages - 1) if self.messages > 1 else None


@dataclass(slots=True)
class Sender:
    """Who talks under one address."""

    name: int | None = None
    groups: dict[int, Group] = field(default_factory=dict)
    assembly: Assembly = field(default_factory=Assembly)

    def take(self, pgn: int, data: bytes, at_s: float) -> None:
        """A whole message has come."""
        known = self.groups.get(pgn)
        if known is not None:
            known.last_s, known.data, known.messages = at_s, data, known.messages + 1
        elif len(self.groups) < GROUPS_MAX:
            self.groups[pgn] = Group(at_s, at_s, data)


@dataclass(slots=True)
class Tally:
    """What was heard so far."""

    senders: dict[int, Sender] = field(default_factory=dict)

    def take(self, frame: Frame, at_s: float) -> None:
        """A frame has come."""
        told = identifier_of(frame[0])
        if told is None or (told.destination != EVERYBODY and told.pgn in (ANNOUNCE, PART)):
            return
        sender = self.senders.setdefault(told.source, Sender())
        if told.pgn == CLAIM and len(frame[1]) == 8:
            sender.name = int.from_bytes(frame[1], "little")
        elif told.pgn == ANNOUNCE:
            sender.assembly.announced(frame[1], at_s)
        elif told.pgn == PART:
            if (whole := sender.assembly.part(frame[1], at_s)) is not None:
                sender.take(*whole, at_s)
        else:
            sender.take(told.pgn, frame[1], at_s)


def listen(where: str, bitrate: int, for_s: float, tally: Tally, is_over: Callable[[], bool]) -> None:
    """Listen for so long [s wall]. Raises LinkError."""
    wire = Slcan(where, bitrate) if "/" in where else SocketCan(where, None)
    wire.open()
    try:
        until_s = wall_s() + for_s
        while wall_s() < until_s and not is_over():
            for frame, age_s in wire.frames(STEP_S):
                tally.take(frame, wall_s() - age_s)
    finally:
        wire.close()


def described(tally: Tally, only: str) -> Iterator[str]:
    """Senders and their groups, one line each."""
    for source, sender in sorted(tally.senders.items()):
        lines = [line for pgn in sorted(sender.groups) if only in (line := _line(pgn, sender.groups[pgn]))]
        if not lines:
            continue
        yield f"source {source}" + ("" if sender.name is None else f"  NAME {sender.name:#018x}")
        yield from lines
        if (dm1 := sender.groups.get(DM1)) is not None:
            yield from (f"  active fault: {code}" for code in fault_codes(dm1.data))


def _line(pgn: int, group: Group) -> str:
    every = "once" if group.period_s is None else f"every {group.period_s:.2g} s"
    return f"  PGN {pgn} {every}  {group.data.hex(' ').upper()}"
