"""What a DNP3 outstation holds, as a point map names it: all of class 0, and what it says it is.

Nothing is changed, no event is taken: whoever it belongs to misses nothing.
"""

import asyncio
import struct
from collections.abc import Iterator
from typing import NamedTuple

from connectors.dnp3.client import CLASS_0
from connectors.dnp3.objects import MalformedObjects, Told, attribute_of
from connectors.dnp3.quality import judged
from connectors.dnp3.session import FAULTS, NEED_TIME, READ, RESTART, Session, refusal
from connectors.link import LinkError
from ems.dnp3 import ANALOG_STATUS, BINARY_STATUS, COUNTER, DOUBLE_BIT

ATTRIBUTES = {252: "manufacturer", 250: "model", 242: "firmware", 248: "serial"}
DOUBLE = ("between", "off", "on", "bad")
SAYS = {RESTART: "it has restarted (IIN1.7)", NEED_TIME: "it needs the time (IIN1.4)", **FAULTS}


class Line(NamedTuple):
    """One place, the type a map gives it, and what is there now."""

    place: str
    type_name: str
    about: str


async def browse(host: str, port: int, timeout_s: float, *, outstation: int, master: int) -> list[Line]:
    """Everything of class 0, in order; then the attributes it tells, and its indications.

    Raises
    ------
    LinkError : it cannot be reached, or its answer cannot be believed.
    """
    session = Session(master=master, outstation=outstation, timeout_s=timeout_s, number=0, heard=None)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_connection(lambda: session, host, port)
        answer = await session.ask(READ, CLASS_0, decode=True)
        if refused := refusal(answer.indications):
            raise LinkError(f"class 0: {refused}")
        newest = {(t.group, t.place): t for t in answer.told}
        lines = [line for _, told in sorted(newest.items()) for line in _lines(told)]
        for variation, name in ATTRIBUTES.items():
            told_of = await session.ask(READ, struct.pack("<BBBBB", 0, variation, 0, 0, 0))
            text = attribute_of(told_of.objects, variation) if told_of.objects else None
            if text is not None:
                lines.append(Line(f"g0v{variation}", "string", f"{text}; identity: {name}"))
        lines += [Line("", "", text) for bit, text in SAYS.items() if answer.indications & bit]
        return lines
    except TimeoutError:
        raise LinkError(f"cannot connect in {timeout_s:g} s") from None
    except OSError as error:
        raise LinkError(f"cannot connect: {error}") from None
    except MalformedObjects as error:
        raise LinkError(str(error)) from None
    finally:
        session.drop("closed")


def _lines(told: Told) -> Iterator[Line]:
    """A point, and the outputs that may be commanded at its index."""
    place = f"g{told.group}/{told.place}"
    why = judged(told.group, told.flags).reason
    if isinstance(told.raw, bool):
        kind, value = "bit", f"{told.raw:d}"
    elif told.group == DOUBLE_BIT:
        kind, value = "bits2", f"{told.raw:d} ({DOUBLE[int(told.raw)]})"
    elif told.group == COUNTER:
        kind, value = "u32", f"{told.raw:d}"
    else:
        kind, value = ("f32", f"{told.raw:g}") if isinstance(told.raw, float) else ("s32", f"{told.raw:d}")
    command = {BINARY_STATUS: "g12v1", ANALOG_STATUS: f"g41v{3 if kind == 'f32' else 1}"}.get(told.group)
    output = f"; output {command}/{told.place}" if command is not None else ""
    yield Line(place, kind, f"{value}{f', {why}' if why else ''}{output}")
