"""Present values commanded at a priority, and looked at in the priority array.

Source: ANSI/ASHRAE 135-2020, clauses 15.9 (WriteProperty) and 19.2 (command prioritization).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from connectors.bacnet import names
from connectors.bacnet.apdu import ABORT, WRITE_PROPERTY, Denied, Key, write_one
from connectors.bacnet.asking import Told
from connectors.bacnet.session import Session
from connectors.bacnet.tags import (
    APPLICATION,
    DOUBLE,
    ENUMERATED,
    NULL,
    REAL,
    SIGNED,
    UNSIGNED,
    MalformedTags,
    Tag,
    number_of,
    value_bytes,
    values,
)
from connectors.link import LinkError, NotSent, WriteReply
from connectors.raw_types import Raw
from ems.bacnet import PRESENT_VALUE, PRIORITIES, Place
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue

TAG_OF = {
    "bit": ENUMERATED, "unsigned": UNSIGNED, "signed": SIGNED, "enumerated": ENUMERATED, "real": REAL,
    "double": DOUBLE,
}  # fmt: skip
STEP_RATIO = 0.01  # of a real that may be lost where a device keeps it in steps
CONFIRMED = WriteReply(WriteOutcome.CONFIRMED, "")
TOO_LATE = WriteReply(WriteOutcome.NOT_SENT, "the cycle was over before it could be sent")


@dataclass(slots=True)
class Commanded:
    """A setpoint: where it is commanded, and what we have written there since the start."""

    place: Place
    type_name: str
    usual: int  # priority of the connection
    written: Raw | None = None
    is_sure: bool = True  # the last write was acknowledged

    @property
    def key(self) -> Key:
        """The object."""
        return self.place.object_type, self.place.instance

    @property
    def priority(self) -> int:
        """Ours, 1 the strongest."""
        return self.usual if self.place.priority is None else self.place.priority

    def looked_at(self, told: Told | None) -> Iterator[str]:
        """What a priority array says that somebody should look at."""
        name = names.object_name(self.key)
        if told is None or isinstance(told, Denied):
            return
        entries = list(values(told))
        if len(entries) != len(PRIORITIES):
            yield f"{name}: a priority array of {len(entries)} entries"
            return
        for priority, tag in zip(PRIORITIES, entries, strict=True):
            is_null = (tag.form, tag.number) == (APPLICATION, NULL)
            if priority < self.priority and not is_null:
                yield f"{name}: priority {priority} holds {_shown(tag)}, above ours ({self.priority})"
            elif priority == self.priority and self.written is not None and self.is_sure:
                yield from self._ours(name, tag)

    def _ours(self, name: str, tag: Tag) -> Iterator[str]:
        assert self.written is not None, "the caller has looked"
        shown = number_of_or_none(tag)
        if shown is None or not self._is_near(shown):
            yield (
                f"{name}: priority {self.priority} holds {_shown(tag)}, we wrote {_plain(self.written)}: "
                "the device lost it, or somebody else writes at our priority"
            )

    def _is_near(self, shown: float) -> bool:
        """Whether it is what we wrote, as a device of coarse steps keeps it."""
        assert self.written is not None, "the caller has looked"
        if not isinstance(self.written, float):
            return shown == self.written
        return abs(shown - self.written) <= STEP_RATIO * max(abs(shown), abs(self.written), 1.0)


def number_of_or_none(tag: Tag) -> bool | int | float | None:
    """The number of a tag; None where there is none in it."""
    try:
        return number_of(tag)
    except MalformedTags:
        return None


def _plain(raw: Raw) -> str:
    return f"{raw:g}" if isinstance(raw, float) else f"{raw:d}"


def _shown(tag: Tag) -> str:
    if (tag.form, tag.number) == (APPLICATION, NULL):
        return "nothing"
    number = number_of_or_none(tag)
    return "a structure" if number is None else _plain(number)


async def write(
    session: Session, to: Commanded, raw: Raw, *, until_s: float, latest: Callable[[], Raw]
) -> WriteReply:
    """Write a value at its priority; says in words why not.

    Parameters
    ----------
    latest : the value as it may be sent when its turn has come; raises NotSent or BadValue.

    Raises
    ------
    NotSent, LinkError : it was not sent; it is unknown whether it was carried out.
    """
    if wall_s() >= until_s:
        return TOO_LATE
    sent = [raw]

    def late() -> bytes:
        if wall_s() >= until_s:
            raise NotSent(TOO_LATE.detail)
        sent[0] = latest()
        return _request(to, sent[0])

    before, to.is_sure = to.is_sure, False
    try:
        data = await session.ask(WRITE_PROPERTY, _request(to, raw), once=True, late=late)
    except (NotSent, BadValue):
        to.is_sure = before
        raise
    except Denied as why:
        if why.kind == ABORT:  # what had been done by then is not told
            session.drop(str(why))
            raise LinkError(str(why)) from None
        to.is_sure = before  # what was there before still is
        return WriteReply(WriteOutcome.REJECTED, str(why))
    if data:
        session.drop("bytes behind an acknowledgement")
        raise LinkError(session.broken)
    to.written, to.is_sure = sent[0], True
    return CONFIRMED


def _request(to: Commanded, raw: Raw) -> bytes:
    """Raises BadValue where the value does not fit."""
    try:
        value = value_bytes(TAG_OF[to.type_name], raw)
    except (OverflowError, struct.error):
        raise BadValue(f"{raw} does not fit {to.type_name}") from None
    return write_one((to.key, PRESENT_VALUE, None), value, to.priority)
