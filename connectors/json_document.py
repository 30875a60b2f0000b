"""What a JSON document says of one point. Pure; whatever is not exactly as the map says is no value."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.point_map import PointCodec
from connectors.raw_types import Kind, Raw
from ems.json_place import JsonPlace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = {"s": 1.0, "ms": 0.001}
NOT_GIVEN = object()  # nothing stands at a place


class Malformed(Exception):
    """A document that is not as the map says."""


def parsed(payload: bytes) -> Any:
    """The document in a payload: JSON in UTF-8, each key once, no NaN (RFC 8259). Raises Malformed."""
    try:
        return json.loads(payload.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error) or type(error).__name__) from None


def at_pointer(document: Any, pointer: str) -> Any:
    """What stands at a JSON pointer (RFC 6901); NOT_GIVEN where nothing does."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key, NOT_GIVEN)
        elif isinstance(document, list):
            inside = key.isascii() and key.isdigit() and len(key) < 9 and int(key) < len(document)
            document = document[int(key)] if inside else NOT_GIVEN
        else:
            return NOT_GIVEN
    return document


def raw_value(document: Any, codec: PointCodec) -> Raw | None:
    """The raw value of a point; None where the device says that it has none. Raises Malformed."""
    place = _payload(codec)
    found = at_pointer(document, "" if place.value is None else place.value)
    if found is None:
        return None
    if place.words is not None:
        if isinstance(found, str) and found in place.words:
            return place.words.index(found)
    elif codec.raw.kind is Kind.BOOLEAN:
        if isinstance(found, bool) or found in (0, 1):
            return bool(found)
    elif codec.raw.kind is Kind.INTEGER:
        if _is_whole(found) and codec.raw.raw_min <= found <= codec.raw.raw_max:
            return int(found)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            pass
    wanted = f"no {codec.raw.name}" if place.words is None else "none of its codes"
    raise Malformed(f"{codec.point.point}: {_shown(found)} is {wanted}")


def is_good(document: Any, codec: PointCodec) -> bool:
    """Whether the device vouches for the value; true where it is not asked."""
    place = _payload(codec)
    if place.quality is None:
        return True
    found = at_pointer(document, place.quality)
    return any(type(found) is type(word) and found == word for word in place.good)


def stamp(document: Any, codec: PointCodec) -> datetime | None:
    """When the sample was taken; None where the map does not say where that stands. Raises Malformed."""
    place = _payload(codec)
    if place.time is None:
        return None
    found = at_pointer(document, place.time)
    try:
        if place.time_form == "iso" and isinstance(found, str):
            at = datetime.fromisoformat(found)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        elif place.time_form != "iso" and isinstance(found, int | float) and not isinstance(found, bool):
            seconds = float(found) * SECONDS[place.time_form]
            if math.isfinite(seconds):
                return EPOCH + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        pass
    raise Malformed(f"{codec.point.point}: {_shown(found)} is no time ({place.time_form}, with its zone)")


def _payload(codec: PointCodec) -> JsonPlace:
    assert codec.point.payload is not None, "not a point of a document"
    return codec.point.payload


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice")
    return out


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _is_whole(found: Any) -> bool:
    if isinstance(found, float):
        return found.is_integer()
    return isinstance(found, int) and not isinstance(found, bool)


def _shown(found: Any) -> str:
    if found is NOT_GIVEN:
        return "nothing"
    if isinstance(found, dict | list):  # not its contents, however deep they go
        return "an object" if isinstance(found, dict) else "a list"
    return repr(found)[:40]
