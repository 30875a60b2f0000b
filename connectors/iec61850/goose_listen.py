"""What is published as GOOSE on an interface, for whoever writes a site file or looks for a fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from open61850 import data as iec

from connectors.iec61850.goose_frame import Malformed, Message, header_of, message_of
from connectors.iec61850.goose_wire import Wire
from connectors.iec61850.values import AccessFault, quality_of
from ems.clock import wall_s

BLOCKS_MAX = 1000  # more are not told apart
STEP_S = 0.1
POSITIONS = ("0 intermediate", "1 off", "2 on", "3 bad")


@dataclass(slots=True)
class Heard:
    """One control block, and its last message."""

    app_id: int
    destination: str
    source: str
    message: Message
    messages: int = 0
    changes: int = 0  # of stNum


@dataclass(slots=True)
class Tally:
    """What was heard so far."""

    blocks: dict[tuple[str, int, str], Heard]
    malformed: int = 0
    more: int = 0  # of further control blocks

    def take(self, frame: bytes) -> None:
        """A frame has come."""
        try:
            header = header_of(frame)
            message = message_of(frame, header)
        except Malformed:
            self.malformed += 1
            return
        source = frame[6:12].hex(":")
        key = (message.control_block, header.app_id, source)
        known = self.blocks.get(key)
        if known is None and len(self.blocks) >= BLOCKS_MAX:
            self.more += 1
            return
        if known is None:
            known = Heard(header.app_id, header.destination.hex(":"), source, message)
            self.blocks[key] = known
        known.messages += 1
        known.changes += message.state != known.message.state
        known.message = message


def listen(interface: str, for_s: float, tally: Tally, is_over: Callable[[], bool]) -> None:
    """Listen for so long [s wall]. Raises LinkError."""
    wire = Wire(interface, (), ())
    wire.open()
    try:
        until_s = wall_s() + for_s
        while wall_s() < until_s and not is_over():
            for frame, _ in wire.frames(STEP_S):
                tally.take(frame)
    finally:
        wire.close()


def described(value: iec.IECData | AccessFault) -> Iterator[str]:
    """A value in the words of a point map, one line each; parts of a structure behind their numbers."""
    match value:
        case AccessFault():
            yield f"no value (error {value.code})"
        case iec.StructureData() | iec.ArrayData():
            inner = value.members if isinstance(value, iec.StructureData) else value.elements
            for index, part in enumerate(inner):
                yield from (f"({index}) {line}" for line in described(part))
        case iec.BoolData():
            yield f"BOOLEAN {str(value.value).lower()}"
        case iec.BitStringData() if (len(value.value), value.unused_bits) == (1, 6):
            yield f"Dbpos {POSITIONS[value.value[0] >> 6]}"
        case iec.BitStringData() if (told := quality_of(value)) is not None:
            yield f"q {told.reason.removeprefix('the device says ') or 'good'}"
        case iec.FloatData():
            yield f"FLOAT{64 if value.double else 32} {value.value:g}"
        case iec.IntData():
            yield f"INT {value.value}"
        case iec.UIntData():
            yield f"INT...U {value.value}"
        case iec.TimestampData():
            yield f"t {value.value.isoformat()}"
        case _:
            yield repr(value)
