"""Outputs are operated, selected before where the site file says so; the echo must be what was sent.

Source: IEEE 1815-2012, clause 4 (select, operate, direct operate), annex A (g12v1, g41, their status codes).
"""

import struct
from collections.abc import Callable

from connectors.dnp3.session import DIRECT_OPERATE, OPERATE, SELECT, Answer, Ask, Session, refusal
from connectors.link import LinkError, NotSent, WriteReply
from connectors.raw_types import Raw
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.dnp3 import CROB, Place

LATCH_ON, LATCH_OFF, CLOSE, TRIP = 0x03, 0x04, 0x41, 0x81  # control codes
STATUSES = {
    1: "the selection had run out", 2: "not selected before", 3: "format error", 4: "not supported",
    5: "already active", 6: "hardware error", 7: "in local control", 8: "too many operations",
    9: "not authorized", 10: "inhibited by its automation", 11: "processing limited", 12: "out of range",
    13: "in local control downstream", 14: "already complete", 15: "blocked", 16: "cancelled",
    17: "blocked by another master", 18: "failed downstream", 126: "does not take part", 127: "undefined",
}  # fmt: skip
FAILED_DOWNSTREAM = 18  # on its way to another device: it may have been carried out there
ANALOG_CODES = {1: "i", 2: "h", 3: "f", 4: "d"}  # by variation
CONFIRMED = WriteReply(WriteOutcome.CONFIRMED, "")
TOO_LATE = WriteReply(WriteOutcome.NOT_SENT, "the cycle was over before it could be sent")


def command(place: Place, raw: Raw) -> bytes:
    """The object of a command, its status 0 at the end; a float goes as the float it is."""
    if place.command == CROB:
        code = (LATCH_ON if raw else LATCH_OFF) if place.pulse_ms is None else (CLOSE if raw else TRIP)
        pulse_ms = 0 if place.pulse_ms is None else place.pulse_ms
        body = struct.pack("<BBIIB", code, 1, pulse_ms, pulse_ms, 0)
    else:
        body = struct.pack(f"<{ANALOG_CODES[place.variation]}B", raw, 0)
    assert place.command is not None, "a place that is only read is never commanded"
    head = bytes([place.command, place.variation])
    if place.output <= 0xFF:
        return head + bytes([0x17, 1, place.output]) + body
    return head + struct.pack("<BHH", 0x28, 1, place.output) + body


async def operate(
    session: Session, place: Place, latest: Callable[[], Raw], *, select: bool, until_s: float
) -> WriteReply:
    """Carry a command out; says in words why not. Raises LinkError where it is unknown whether it was.

    From `until_s` on nothing is operated any more, though it was selected [s wall]. `latest` gives the value
    as it may be sent now, and raises NotSent or BadValue; what has changed since it was selected is not
    operated.
    """
    async with session.alone() as ask:
        if wall_s() >= until_s:
            return TOO_LATE
        objects = command(place, latest())
        if not select:
            return await _operated(session, ask, DIRECT_OPERATE, objects)
        try:
            _, refused = status_of(await ask(SELECT, objects), objects)
        except LinkError as error:
            session.drop(str(error))
            return WriteReply(WriteOutcome.NOT_SENT, f"not selected: {error}")
        if refused:
            return WriteReply(WriteOutcome.REJECTED, f"not selected: {refused}")
        if wall_s() >= until_s:  # the selection runs out by itself
            return WriteReply(
                WriteOutcome.NOT_SENT, "selected, and the cycle was over before it was operated"
            )
        if command(place, latest()) != objects:
            return WriteReply(WriteOutcome.NOT_SENT, "selected, and another value is allowed now")
        return await _operated(session, ask, OPERATE, objects)


async def _operated(session: Session, ask: Ask, function: int, objects: bytes) -> WriteReply:
    try:
        status, refused = status_of(await ask(function, objects), objects)
    except NotSent:
        raise
    except LinkError as error:
        session.drop(str(error))
        raise
    if status == FAILED_DOWNSTREAM:
        session.drop(refused)
        raise LinkError(refused)
    return WriteReply(WriteOutcome.REJECTED, refused) if refused else CONFIRMED


def status_of(answer: Answer, sent: bytes) -> tuple[int, str]:
    """Status of a command, and why it was refused; "": it was not.

    Raises
    ------
    LinkError : the answer is not that of this command.
    """
    if not answer.objects:
        if refused := refusal(answer.indications):
            return -1, refused
        raise LinkError("an answer to a command without its echo")
    if answer.objects[:-1] != sent[:-1]:
        raise LinkError("the echo is of another command")
    status = answer.objects[-1] & 0x7F
    if status == 0 and (refused := refusal(answer.indications)):
        raise LinkError(f"an echo without error, and {refused}")
    return status, "" if status == 0 else f"{STATUSES.get(status, 'refused')} (status {status})"
