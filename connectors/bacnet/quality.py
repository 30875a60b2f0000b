"""What a BACnet object says of its own value. Pure. Source: ANSI/ASHRAE 135-2020, 12.2.7 to 12.2.10."""

from typing import NamedTuple

from connectors.bacnet.apdu import ERROR, Denied
from connectors.bacnet.asking import Told
from connectors.bacnet.names import RELIABILITIES, UNKNOWN_PROPERTY
from connectors.bacnet.tags import APPLICATION, BOOLEAN, ENUMERATED, MalformedTags, bits_of, natural

IN_ALARM, FAULT, OVERRIDDEN, OUT_OF_SERVICE = range(4)
FLAGS = 4


class Judged(NamedTuple):
    """Why a value is not good, "": it is; and what else its object says."""

    bad: str
    overridden: bool = False  # by somebody at the device
    in_alarm: bool = False


def is_absent(told: Told | None) -> bool:
    """The object does not have this property."""
    return isinstance(told, Denied) and told.kind == ERROR and told.code == UNKNOWN_PROPERTY


def judged(flags: Told | None, reliability: Told | None, out_of_service: Told | None) -> Judged:
    """Quality by the properties of an object that it has; None: not asked, since it does not have it."""
    for told in (flags, reliability, out_of_service):
        if isinstance(told, Denied) and not is_absent(told):
            return Judged(f"its state is not told: {told}")
    try:
        return _judged(*(None if isinstance(t, Denied) else t for t in (flags, reliability, out_of_service)))
    except MalformedTags as error:
        return Judged(f"its state is not told: {error}")


def _judged(flags: Told | None, reliability: Told | None, out_of_service: Told | None) -> Judged:
    assert not isinstance(flags, Denied), "sorted out before"
    assert not isinstance(reliability, Denied)
    assert not isinstance(out_of_service, Denied)
    bits: tuple[bool, ...] = (False,) * FLAGS
    if flags is not None:
        told = bits_of(flags[0]) if len(flags) == 1 else None
        if told is None or len(told) != FLAGS:
            raise MalformedTags("status flags that are none")
        bits = told
    why = 0
    if reliability is not None:
        if len(reliability) != 1 or reliability[0][:2] != (APPLICATION, ENUMERATED):
            raise MalformedTags("a reliability that is none")
        why = natural(reliability[0].data)
    out = bits[OUT_OF_SERVICE]
    if out_of_service is not None:
        if len(out_of_service) != 1 or out_of_service[0][:2] != (APPLICATION, BOOLEAN):
            raise MalformedTags("an out-of-service that is none")
        out = out or bool(out_of_service[0].data[0])
    bad = ""
    if out:
        bad = "out of service"
    elif why:
        bad = f"fault: {RELIABILITIES.get(why, 'reliability')} ({why})"
    elif bits[FAULT]:
        bad = "fault"
    return Judged(bad, bits[OVERRIDDEN], bits[IN_ALARM])
