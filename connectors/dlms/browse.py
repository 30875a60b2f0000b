"""What a meter shows a client: the objects of its association as a map names them, and what they hold."""

from collections.abc import Sequence
from typing import NamedTuple

from connectors.dlms.apdus import Denied, Result
from connectors.dlms.association import Association
from connectors.dlms.data import ARRAY, INTEGERS, STRUCTURE, Datum, count_of, number_of, text_of
from connectors.dlms.instants import instant_of
from connectors.dlms.names import CLASSES, name_of
from connectors.dlms.requests import ASSOCIATION, Asked
from connectors.dlms.scalers import scaler_of
from connectors.link import LinkError
from connectors.wire_log import QUIET
from ems.dlms import CLOCK, DATA, PROFILE, REGISTER, SCALER_UNIT, Dlms, obis_text, unit_name

OBJECTS = Asked(15, ASSOCIATION, 2)
AT_ONCE = 20  # objects whose values are asked for together
_PERIOD, _ROWS = 4, 7  # attributes of a profile: capture period, entries in use


class Line(NamedTuple):
    """One object, the type a map gives it, and what is there now."""

    place: str
    type_name: str
    about: str


async def browse(host: str, port: int, timeout_s: float, settings: Dlms) -> list[Line]:
    """Every object of the association, in order of its code.

    Raises
    ------
    LinkError : it cannot be reached, refuses the association, or cannot be believed.
    """
    association = Association(settings, timeout_s=timeout_s, tap=QUIET)
    try:
        await association.open(host, port)
        (listed,) = await association.get([OBJECTS], merged=False)
        if isinstance(listed, Denied):
            raise LinkError(f"its list of objects is not told: {listed.why}")
        objects = sorted(objects_of(listed), key=lambda o: (o[1], o[0]))
        lines: list[Line] = []
        for start in range(0, len(objects), AT_ONCE):
            lines += await _lines(association, objects[start : start + AT_ONCE])
        return lines
    except TimeoutError:
        raise LinkError(f"cannot connect in {timeout_s:g} s") from None
    except OSError as error:
        raise LinkError(f"cannot connect: {error}") from None
    finally:
        await association.close()


def objects_of(listed: Datum) -> list[tuple[int, bytes]]:
    """Class and code of each object of a list. Raises LinkError."""
    found: list[tuple[int, bytes]] = []
    rows = listed.value if listed.tag == ARRAY and isinstance(listed.value, tuple) else None
    for row in rows if rows is not None else (listed,):
        parts = row.value
        if row.tag != STRUCTURE or not isinstance(parts, tuple) or len(parts) != 4:
            raise LinkError(f"its list of objects is told as {row.name}")
        class_id, code = count_of(parts[0]), parts[2].value
        if class_id is None or not isinstance(code, bytes) or len(code) != 6:
            raise LinkError("an object without class and code in its list")
        found.append((class_id, code))
    return found


def _asked(class_id: int, code: bytes) -> list[Asked]:
    if class_id in SCALER_UNIT:
        return [Asked(class_id, code, SCALER_UNIT[class_id]), Asked(class_id, code, 2)]
    if class_id in (DATA, CLOCK):
        return [Asked(class_id, code, 2)]
    return [Asked(class_id, code, n) for n in (_PERIOD, _ROWS)] if class_id == PROFILE else []


async def _lines(association: Association, objects: Sequence[tuple[int, bytes]]) -> list[Line]:
    asked = [a for class_id, code in objects for a in _asked(class_id, code)]
    told = dict(zip(asked, await association.get_all(asked), strict=True))
    return [_line(class_id, code, [told[a] for a in _asked(class_id, code)]) for class_id, code in objects]


def _line(class_id: int, code: bytes, told: Sequence[Result]) -> Line:
    place = obis_text(code) + ("" if class_id == REGISTER else f" [class {class_id}]")
    kind, shown = _shown(class_id, told)
    words = (name_of(code), CLASSES.get(class_id, f"class {class_id}"))
    return Line(place, kind, "; ".join(p for p in (shown, *words) if p))


def _shown(class_id: int, told: Sequence[Result]) -> tuple[str, str]:
    """The type a map gives it, and its value."""
    if not told:
        return "", ""
    if isinstance(last := told[-1], Denied):
        return "", last.why
    if class_id == PROFILE:
        period = told[0]
        every_s = count_of(period) if isinstance(period, Datum) else None
        return "", f"{f'every {every_s} s, ' if every_s else ''}{count_of(last)} rows"
    if class_id == CLOCK:
        instant = instant_of(last)
        return "", f"{instant.at:%Y-%m-%d %H:%M:%S} UTC" if instant.at is not None else instant.why
    if class_id == DATA:
        kind = "integer" if count_of(last) is not None else "number" if number_of(last) is not None else ""
        text = text_of(last)
        return kind, last.name if text is None else text
    number, scale = number_of(last), told[0]
    if number is None:
        return "", f"{last.name} is told"
    if isinstance(scale, Denied):
        return "", f"{number:g}, scaler and unit are not told: {scale.why}"
    scaler = scaler_of(scale)
    if scaler.why or scaler.unit is None:
        return "", f"{number:g}, {scaler.why}"
    if last.tag in INTEGERS and scaler.exponent < 0:
        text = f"{number / 10**-scaler.exponent:.{-scaler.exponent}f}"
    elif last.tag in INTEGERS:
        text = f"{int(number) * 10**scaler.exponent}"
    else:
        text = f"{number * 10.0**scaler.exponent:g}"
    return "number", f"{text} {unit_name(scaler.unit)}".removesuffix(" no unit")
