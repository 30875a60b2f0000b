"""What OPC UA says, in our words: node ids, values with quality and time, and what a broken server raises."""

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime

from asyncua import ua
from asyncua.ua.uaerrors import UaError

from connectors.link import PointValue
from connectors.point_map import PointCodec
from ems.telemetry import Quality

# Whatever a broken server can make the decoder raise; each means that the stream is not to be trusted.
FAULTS = (
    OSError,
    TimeoutError,
    UaError,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
)


def node_id(address: str, namespaces: Sequence[str]) -> ua.NodeId:
    """The node of an address whose namespace is a URI. Raises UaError where the server has none such."""
    if address.startswith("nsu="):
        uri, _, identifier = address.removeprefix("nsu=").partition(";")
        if uri not in namespaces:
            raise UaError(f"the server has no namespace {uri}")
        address = f"ns={namespaces.index(uri)};{identifier}"
    return ua.NodeId.from_string(address)


def text_of(result: ua.DataValue) -> str | None:
    """A text or a whole number, as text; None for anything else, and with a bad status."""
    status, raw = result.StatusCode, None if result.Value is None else result.Value.Value
    if status is not None and not status.is_good():
        return None
    if isinstance(raw, str):
        return raw.strip() if raw.strip() else None
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else None


def point_value(codec: PointCodec, result: ua.DataValue) -> PointValue:
    """Value, quality and the device's own time of one value that was read or told."""
    source_time = aware(result.SourceTimestamp)
    status = result.StatusCode
    if status is not None and not status.is_good():
        return PointValue(None, Quality.DEVICE_BAD, source_time)
    raw = result.Value.Value if result.Value is not None else None
    if isinstance(raw, float) and not math.isfinite(raw):
        return PointValue(None, Quality.NOT_FINITE, source_time)
    if not isinstance(raw, bool | int | float):
        return PointValue(None, Quality.DEVICE_BAD, source_time)
    return PointValue(*codec.from_raw(raw), source_time)


def sampled_value(codec: PointCodec, result: ua.DataValue, served: datetime | None) -> PointValue:
    """The same of a server that stamps each sample: an old stamp is an old value.

    Parameters
    ----------
    served : the server's own time when it said so; with no stamp to hold against it nothing is known.
    """
    value = point_value(codec, result)
    if value.quality is not Quality.GOOD:
        return value
    told = value.source_time
    if told is None or served is None:
        return PointValue(None, Quality.DEVICE_BAD, told)
    if (served - told).total_seconds() > codec.point.age_s_max:
        return PointValue(value.value, Quality.STALE, told)
    return value


def aware(stamp: datetime | None) -> datetime | None:
    """A time of asyncua, which may or may not say that it is UTC."""
    if stamp is None:
        return None
    return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)


def words(error: BaseException) -> str:
    """Kind and text of an error."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
