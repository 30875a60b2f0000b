"""Properties asked for in as few requests as the device takes, one by one where it takes no more."""

from collections.abc import Iterator, Mapping, Sequence

from connectors.bacnet import apdu, names
from connectors.bacnet.apdu import ABORT, APDU_MAX, ERROR, READ_MULTIPLE, READ_PROPERTY, REJECT, Asked, Denied
from connectors.bacnet.session import Session
from connectors.bacnet.tags import MalformedTags, Tag
from connectors.link import LinkError
from ems.bacnet import PRIORITY_ARRAY, RELIABILITY, STATUS_FLAGS

Told = tuple[Tag, ...] | Denied
# Bytes of a property in an answer, with the tags around it
SIZES = {STATUS_FLAGS: 7, RELIABILITY: 7, PRIORITY_ARRAY: 16 * 9 + 4}
VALUE_BYTES, TEXT_BYTES, OBJECT_BYTES, HEAD_BYTES = 14, 70, 7, 3
TEXTS = (12, 28, 44, 70, 77, 121, 372)
APDU_MIN = 50
MULTIPLE = 14  # bit of protocol-services-supported


def size_of(asked: Asked) -> int:
    """Bytes of an answer that a property is reckoned to take; a text may take more."""
    return SIZES.get(asked[1], TEXT_BYTES if asked[1] in TEXTS else VALUE_BYTES)


class Asker:
    """Reads of one session.

    Parameters
    ----------
    session : that is open.
    apdu_bytes : what an answer may have.
    multiple : whether several properties may be asked for at once.
    """

    def __init__(self, session: Session, *, apdu_bytes: int = APDU_MAX, multiple: bool = True) -> None:
        self._session = session
        self._room = max(APDU_MIN, min(apdu_bytes, APDU_MAX))
        self.multiple = multiple

    async def read(self, asked: Sequence[Asked]) -> dict[Asked, Told]:
        """Each property, or why it is not told. Raises LinkError."""
        out: dict[Asked, Told] = {}
        if self.multiple:
            for batch in self._batches(asked):
                out |= await self._many(batch)
            return out
        for one in asked:
            out[one] = await self.one(one)
        return out

    def _batches(self, asked: Sequence[Asked]) -> Iterator[list[Asked]]:
        """Properties that fit into one answer, those of an object together where they can be."""
        batch: list[Asked] = []
        room, before = self._room - HEAD_BYTES, None
        for one in asked:
            need = size_of(one) + (OBJECT_BYTES if one[0] != before else 0)
            if batch and need > room:
                yield batch
                batch, room = [], self._room - HEAD_BYTES
                need = size_of(one) + OBJECT_BYTES
            batch.append(one)
            room, before = room - need, one[0]
        if batch:
            yield batch

    async def _many(self, batch: Sequence[Asked]) -> Mapping[Asked, Told]:
        if not self.multiple or len(batch) == 1:
            return {one: await self.one(one) for one in batch}
        try:
            data = await self._session.ask(READ_MULTIPLE, apdu.read_many(batch))
            return apdu.told_many(batch, data)
        except MalformedTags as error:
            self._session.drop(str(error))
            raise LinkError(str(error)) from None
        except Denied as why:
            if is_unsupported(why):
                self.multiple = False
            elif is_too_much(why):
                self._room = max(APDU_MIN, self._room // 2)
                half = len(batch) // 2
                return {**await self._many(batch[:half]), **await self._many(batch[half:])}
        return {one: await self.one(one) for one in batch}  # so that one that is denied spoils no other

    async def one(self, asked: Asked) -> Told:
        """One property, or why it is not told. Raises LinkError."""
        try:
            return apdu.told_one(asked, await self._session.ask(READ_PROPERTY, apdu.read_one(asked)))
        except MalformedTags as error:
            self._session.drop(str(error))
            raise LinkError(str(error)) from None
        except Denied as why:
            return why


def is_unsupported(why: Denied) -> bool:
    """The device does not know the service."""
    return (why.kind, why.code) in ((REJECT, names.REJECT_SERVICE), (ERROR, names.UNRECOGNIZED))


def is_too_much(why: Denied) -> bool:
    """The answer is larger than the device can send, or we take."""
    if why.kind == ABORT:
        return why.code in names.ABORTS_BIG
    if why.kind == ERROR:
        return why.code in names.ERRORS_BIG
    return why.kind == REJECT and why.code in (names.REJECT_OVERFLOW, names.REJECT_MANY)
