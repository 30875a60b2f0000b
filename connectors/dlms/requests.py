"""What is sent to a meter, written by dlms-cosem: the one module that knows how it is called.

Its objects for what comes back are not used: they take what is left where something is cut short.
"""

from datetime import datetime
from typing import NamedTuple

from dlms_cosem import cosem, enumerations, security
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.exceptions import DecryptionError
from dlms_cosem.protocol import acse, xdlms
from dlms_cosem.protocol.xdlms.invoke_id_and_priority import InvokeIdAndPriority

from connectors.dlms.data import Malformed

RESPONSE_BYTES_MAX = 0xFFFF  # that we take in one APDU
ASSOCIATION = bytes([0, 0, 40, 0, 0, 255])  # the one that we are in
_MECHANISMS = {
    "none": None,
    "low": enumerations.AuthenticationMechanism.LLS,
    "gmac": enumerations.AuthenticationMechanism.HLS_GMAC,
}
ENCRYPTED = security.SecurityControlField(security_suite=0, authenticated=True, encrypted=True)
PROVEN = security.SecurityControlField(security_suite=0, authenticated=True, encrypted=False)
TAG_BYTES = security.TAG_LENGTH


class Asked(NamedTuple):
    """One attribute of one object, and the part of it that is wanted."""

    class_id: int
    obis: bytes
    attribute: int
    selection: bytes = b""  # selector and its parameters


def initiate(*, ciphered: bool) -> bytes:
    """InitiateRequest: reading, and nothing that would write. With ciphering one method, that of pass 3."""
    offered = xdlms.Conformance(
        get=True,
        multiple_references=True,
        block_transfer_with_get_or_read=True,
        selective_access=True,
        action=ciphered,
        general_protection=ciphered,
    )
    request = xdlms.InitiateRequest(
        proposed_conformance=offered, client_max_receive_pdu_size=RESPONSE_BYTES_MAX
    )
    return bytes(request.to_bytes())


def associate(
    way: str, secret: bytes, title: bytes, counter: int | None = None, ciphered_initiate: bytes = b""
) -> bytes:
    """AARQ.

    Parameters
    ----------
    way : none, low or gmac.
    secret : password of low, our challenge of gmac; up to 64 bytes.
    title : our system title, with gmac.
    counter, ciphered_initiate : of gmac, what `initiate` says, encrypted with that invocation counter.
    """
    content = xdlms.InitiateRequest.from_bytes(initiate(ciphered=counter is not None))
    if counter is not None:
        content = xdlms.GlobalCipherInitiateRequest(ENCRYPTED, counter, ciphered_initiate)
    aarq = acse.ApplicationAssociationRequest(
        ciphered=counter is not None,
        system_title=title or None,
        authentication=_MECHANISMS[way],
        authentication_value=None if way == "none" else secret,
        user_information=acse.UserInformation(content=content),
    )
    return bytes(aarq.to_bytes())


def release(counter: int | None = None, ciphered_initiate: bytes = b"") -> bytes:
    """RLRQ; of a ciphered association with what it began with."""
    content = None
    if counter is not None:
        ciphered = xdlms.GlobalCipherInitiateRequest(ENCRYPTED, counter, ciphered_initiate)
        content = acse.UserInformation(content=ciphered)
    reason = enumerations.ReleaseRequestReason.NORMAL
    return bytes(acse.ReleaseRequest(reason=reason, user_information=content).to_bytes())


def get(asked: list[Asked], invoke: int) -> bytes:
    """GET of one attribute, or of several with a list."""
    number = InvokeIdAndPriority(invoke_id=invoke, confirmed=True, high_priority=False)
    if len(asked) == 1:
        one = asked[0]
        plain = xdlms.GetRequestNormal(cosem_attribute=_attribute(one), invoke_id_and_priority=number)
        return _selected(bytes(plain.to_bytes()), one)
    rows = [cosem.CosemAttributeWithSelection(_attribute(a), None) for a in asked]
    return bytes(xdlms.GetRequestWithList(rows, number).to_bytes())


def _attribute(asked: Asked) -> cosem.CosemAttribute:
    interface = enumerations.CosemInterface(asked.class_id)
    return cosem.CosemAttribute(interface, cosem.Obis.from_bytes(asked.obis), asked.attribute)


def _selected(request: bytes, asked: Asked) -> bytes:
    return request[:-1] + b"\x01" + asked.selection if asked.selection else request


def get_next(block: int, invoke: int) -> bytes:
    """GET of the next block."""
    number = InvokeIdAndPriority(invoke_id=invoke, confirmed=True, high_priority=False)
    return bytes(xdlms.GetRequestNext(block, number).to_bytes())


def reply_to_challenge(proof: bytes, invoke: int) -> bytes:
    """The one method that is ever called: reply_to_HLS_authentication of the association (pass 3)."""
    method = cosem.CosemMethod(
        enumerations.CosemInterface.ASSOCIATION_LN, cosem.Obis.from_bytes(ASSOCIATION), 1
    )
    number = InvokeIdAndPriority(invoke_id=invoke, confirmed=True, high_priority=False)
    data = b"\x09" + bytes([len(proof)]) + proof
    return bytes(xdlms.ActionRequestNormal(method, data, number).to_bytes())


def by_range(clock: Asked, start: datetime, end: datetime) -> bytes:
    """Rows of a profile whose time is in [start, end], by the clock that is captured in it; all columns."""
    place = cosem.CosemAttribute(
        enumerations.CosemInterface(clock.class_id), cosem.Obis.from_bytes(clock.obis), clock.attribute
    )
    return bytes(RangeDescriptor(CaptureObject(place, 0), start, end).to_bytes())


def by_entry(first: int, last: int) -> bytes:
    """Rows of a profile by number, from 1 on; all columns. (dlms-cosem has no bytes for this one.)"""
    head = b"\x02\x02\x04"
    rows = b"\x06" + first.to_bytes(4, "big") + b"\x06" + last.to_bytes(4, "big")
    return head + rows + b"\x12\x00\x01\x12\x00\x00"


def encrypt(key: bytes, other: bytes, title: bytes, counter: int, plain: bytes) -> bytes:
    """Ciphered text and its tag, suite 0."""
    return bytes(security.encrypt(ENCRYPTED, title, counter, key, plain, other))


def decrypt(key: bytes, other: bytes, title: bytes, counter: int, ciphered: bytes) -> bytes:
    """The plain text. Raises Malformed where the tag is not the right one."""
    try:
        return bytes(security.decrypt(ENCRYPTED, title, counter, key, ciphered, other))
    except (DecryptionError, ValueError):
        raise Malformed("an answer that was not encrypted with our keys") from None


def prove(key: bytes, other: bytes, title: bytes, counter: int, challenge: bytes) -> bytes:
    """Security control, invocation counter and GMAC over a challenge."""
    tag = security.gmac(PROVEN, title, counter, key, other, challenge)
    return bytes(PROVEN.to_bytes()) + counter.to_bytes(4, "big") + bytes(tag)
