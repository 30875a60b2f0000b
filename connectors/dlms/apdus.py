"""Answers of a meter (IEC 62056-5-3). Pure. What is not whole, or not what was asked for, is refused."""

from typing import NamedTuple

from connectors.dlms.data import Cursor, Datum, Malformed, read_datum

AARE, RLRE, INITIATE_RESPONSE, SERVICE_ERROR, EXCEPTION = 0x61, 0x63, 0x08, 0x0E, 0xD8
GET_RESPONSE, ACTION_RESPONSE = 0xC4, 0xC7
GLO_INITIATE_RESPONSE, GLO_GET, GLO_ACTION, GENERAL_GLO = 0x28, 0xCC, 0xCF, 0xDB
NOTIFICATIONS = (0x0F, 0xC2, 0xCA)  # data, event, event with the global key: nobody asked
CONTEXT, MECHANISM = b"\x60\x85\x74\x05\x08\x01", b"\x60\x85\x74\x05\x08\x02"  # object identifiers
PLAIN, CIPHERED = 1, 3  # application contexts with logical names
NONE, LOW, GMAC = 0, 1, 5  # mechanisms
MULTIPLE, BLOCKS, GET, SELECTIVE, PROTECTION = 1 << 9, 1 << 12, 1 << 4, 1 << 2, 1 << 22  # conformance
DIAGNOSES = {
    0: "no reason", 1: "no reason given", 2: "application context not supported",
    3: "calling AP title not recognised", 11: "authentication mechanism not recognised",
    12: "authentication mechanism required", 13: "authentication failed", 14: "authentication required",
}  # fmt: skip
OF_WHO_WE_ARE = (11, 12, 13)
ACCESS = {
    1: "hardware fault", 2: "temporary failure", 3: "reading is denied", 4: "object undefined",
    9: "object class inconsistent", 11: "object unavailable", 12: "type unmatched",
    13: "scope of access violated", 14: "data block unavailable", 15: "long get aborted",
    16: "no long get in progress", 19: "data block number invalid", 250: "other reason",
}  # fmt: skip
EXCEPTIONS = {
    1: "operation not possible", 2: "service not supported", 3: "other reason", 4: "PDU too long",
    5: "deciphering error", 6: "invocation counter error",
}  # fmt: skip


class Denied(NamedTuple):
    """An attribute that was not told, and why."""

    code: int
    said: str = ""

    @property
    def why(self) -> str:
        """In words."""
        return self.said or f"{ACCESS.get(self.code, 'data access result')} ({self.code})"


Result = Datum | Denied


class Welcome(NamedTuple):
    """What a meter says to being associated with (AARE)."""

    result: int  # 0: accepted
    diagnosis: int
    context: int
    mechanism: int
    title: bytes
    challenge: bytes
    information: bytes

    @property
    def why(self) -> str:
        """Of the refusal."""
        return DIAGNOSES.get(self.diagnosis, f"diagnosis {self.diagnosis}")


class Agreed(NamedTuple):
    """What was negotiated."""

    conformance: int
    request_bytes_max: int


class Block(NamedTuple):
    """One block of a long answer."""

    is_last: bool
    number: int
    data: bytes | Denied


class Exceptional(NamedTuple):
    """The meter does not carry out the service at all."""

    why: str
    is_over: bool = False  # it knows of no association
    of_keys: bool = False


def welcome_of(apdu: bytes) -> Welcome:
    """Read an AARE. Raises Malformed."""
    outer = Cursor(apdu)
    if outer.byte() != AARE:
        raise Malformed(f"APDU {apdu[0]:#04x}, where an AARE was to come")
    body = Cursor(outer.take(outer.length()))
    outer.end()
    parts: dict[int, bytes] = {}
    while body.left:
        tag = body.byte()
        part = body.take(body.length())
        if tag in parts:
            raise Malformed(f"{tag:#04x} twice in an AARE")
        parts[tag] = part
    for tag in (0xA1, 0xA2, 0xA3):
        if tag not in parts:
            raise Malformed(f"an AARE without {tag:#04x}")
    context = _oid(_inner(parts[0xA1], 0x06), CONTEXT)
    mechanism = _oid(parts[0x89], MECHANISM) if 0x89 in parts else NONE
    diagnosis = parts[0xA3]
    source = diagnosis[0] if diagnosis else 0
    if source not in (0xA1, 0xA2):
        raise Malformed("an AARE without its diagnosis")
    return Welcome(
        result=_integer(parts[0xA2]),
        diagnosis=_integer(_inner(diagnosis, source)),
        context=context,
        mechanism=mechanism,
        title=_inner(parts[0xA4], 0x04) if 0xA4 in parts else b"",
        challenge=_inner(parts[0xAA], 0x80) if 0xAA in parts else b"",
        information=_inner(parts[0xBE], 0x04) if 0xBE in parts else b"",
    )


def _inner(data: bytes, tag: int) -> bytes:
    cursor = Cursor(data)
    if cursor.byte() != tag:
        raise Malformed(f"{data[0]:#04x}, where {tag:#04x} was to come")
    inner = cursor.take(cursor.length())
    cursor.end()
    return inner


def _integer(data: bytes) -> int:
    number = _inner(data, 0x02)
    if len(number) != 1:
        raise Malformed(f"an integer of {len(number)} bytes")
    return number[0]


def _oid(data: bytes, head: bytes) -> int:
    if len(data) != len(head) + 1 or not data.startswith(head):
        raise Malformed(f"object identifier {data.hex()}")
    return data[-1]


def agreed_of(data: bytes) -> Agreed:
    """Read an InitiateResponse. Raises Malformed."""
    cursor = Cursor(data)
    tag = cursor.byte()
    if tag == SERVICE_ERROR:
        raise Malformed(f"initiate error {data[1:].hex()}")
    if tag != INITIATE_RESPONSE:
        raise Malformed(f"APDU {tag:#04x}, where an InitiateResponse was to come")
    quality = cursor.byte()
    if quality > 1:
        raise Malformed(f"presence {quality:#04x} of a quality of service")
    if quality:
        cursor.byte()
    if (version := cursor.byte()) != 6:
        raise Malformed(f"DLMS version {version}")
    if cursor.take(4) != b"\x5f\x1f\x04\x00":
        raise Malformed("a conformance of another form")
    conformance = int.from_bytes(cursor.take(3), "big")
    size = int.from_bytes(cursor.take(2), "big")
    if (name := cursor.take(2)) != b"\x00\x07":
        raise Malformed(f"VAA name {name.hex()}, not that of logical names")
    cursor.end()
    return Agreed(conformance, size)


def exceptional(apdu: bytes) -> Exceptional | None:
    """What of an answer is none at all; None: it is one. Raises Malformed."""
    if apdu[:1] == bytes([SERVICE_ERROR]):
        return Exceptional(f"service error {apdu[1:4].hex()}")
    if apdu[:1] != bytes([EXCEPTION]):
        return None
    cursor = Cursor(apdu[1:])
    state, code = cursor.byte(), cursor.byte()
    why = EXCEPTIONS.get(code, f"exception {code}")
    if code == 6 and cursor.left:
        wanted = int.from_bytes(cursor.take(4), "big")
        why = f"{why}: it wants {wanted} or more"
    cursor.end()
    return Exceptional(why, is_over=state == 1, of_keys=code in (5, 6))


def get_response(apdu: bytes, invoke: int, asked: int) -> "list[Result] | Block":
    """Results of a GET, or one block of them.

    Parameters
    ----------
    invoke : number of the request, 0 to 15.
    asked : attributes of a request with a list; 0: of one attribute.

    Raises
    ------
    Malformed : it is not the answer to that request.
    """
    cursor = _head(apdu, GET_RESPONSE, invoke)
    kind = apdu[1]
    if kind == 1:
        results = [_result(cursor)]
        cursor.end()
        if asked and not isinstance(results[0], Denied):
            raise Malformed("one value, where a list was asked for")
        return results
    if kind == 2:
        last, number, choice = cursor.byte(), int.from_bytes(cursor.take(4), "big"), cursor.byte()
        if last > 1 or choice > 1:
            raise Malformed(f"a block with {last:#04x} and {choice:#04x}")
        data = Denied(cursor.byte()) if choice else cursor.take(cursor.length())
        cursor.end()
        return Block(bool(last), number, data)
    if kind == 3 and asked:
        return _list(cursor, asked)
    raise Malformed(f"a response of kind {kind}")


def results_of(data: bytes, asked: int) -> list[Result]:
    """What the blocks of a long answer are together. Raises Malformed."""
    cursor = Cursor(data)
    if asked:
        return _list(cursor, asked)
    one: Result = read_datum(cursor)
    cursor.end()
    return [one]


def _list(cursor: Cursor, asked: int) -> list[Result]:
    count = cursor.length()
    if count != asked:
        raise Malformed(f"{count} results, and {asked} were asked for")
    results = [_result(cursor) for _ in range(count)]
    cursor.end()
    return results


def _result(cursor: Cursor) -> Result:
    choice = cursor.byte()
    if choice == 0:
        return read_datum(cursor)
    if choice == 1:
        return Denied(cursor.byte())
    raise Malformed(f"a result of kind {choice}")


def action_response(apdu: bytes, invoke: int) -> Result:
    """What a method has returned. Raises Malformed."""
    cursor = _head(apdu, ACTION_RESPONSE, invoke)
    if apdu[1] != 1:
        raise Malformed(f"a response of kind {apdu[1]}")
    if code := cursor.byte():
        return Denied(code)
    told: Result = Datum(0, None)
    if cursor.byte():
        told = _result(cursor)
    cursor.end()
    return told


def _head(apdu: bytes, tag: int, invoke: int) -> Cursor:
    cursor = Cursor(apdu)
    if (found := cursor.byte()) != tag:
        raise Malformed(f"APDU {found:#04x}, where {tag:#04x} was to come")
    cursor.byte()
    if (number := cursor.byte() & 0x0F) != invoke:
        raise Malformed(f"an answer to request {number}, and {invoke} was asked")
    return cursor


def is_release(apdu: bytes) -> bool:
    """Whether it is an RLRE."""
    return apdu[:1] == bytes([RLRE])
