"""Values of MMS, read strictly, and what their quality and time mean here. No I/O.

The package reads leniently what field devices are known to send, an empty INTEGER as 0 for one. A value that
plants are run by is either as the standard says, or no value.
"""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from open61850 import ber
from open61850 import data as iec
from open61850.mms.errors import MmsProtocolError
from open61850.quality import Quality as IecQuality
from open61850.quality import TimeQuality

from connectors.raw_types import Raw
from ems.telemetry import Quality

FAILURE, RESULTS = 0x80, 0xA1
FLOAT_FORMATS = {(5, 8), (9, 11)}  # (bytes, bits of the exponent)
QUALITY_BITS = 13
DEPTH_MAX = 16
EPOCH = datetime.fromtimestamp(0, UTC)


class AccessFault(NamedTuple):
    """An object that could not be read, and why: the code of a DataAccessError."""

    code: int


def access_results(content: bytes) -> list[iec.IECData | AccessFault]:
    """Results of a Read-Response, in order. Raises BerError and MmsProtocolError."""
    lists = [t for t in ber.iter_tlvs(content) if t.tag == RESULTS]
    if len(lists) != 1:
        raise MmsProtocolError(f"{len(lists)} lists of results")
    return values_of(lists[0].value)


def values_of(content: bytes) -> list[iec.IECData | AccessFault]:
    """A list of results, in order. Raises BerError and MmsProtocolError."""
    return [
        AccessFault(ber.decode_integer(t.value)) if t.tag == FAILURE else strict(t.tag, t.value)
        for t in ber.iter_tlvs(content)
    ]


def strict(tag: int, value: bytes, depth: int = 0) -> iec.IECData:
    """One value; what is not built as the standard says is refused. Raises BerError and MmsProtocolError."""
    if tag in (iec.TAG_STRUCTURE, iec.TAG_ARRAY):
        if depth >= DEPTH_MAX:
            raise MmsProtocolError("values inside values without end")
        inner = [strict(t.tag, t.value, depth + 1) for t in ber.iter_tlvs(value)]
        return iec.StructureData(inner) if tag == iec.TAG_STRUCTURE else iec.ArrayData(inner)
    n = len(value)
    good = {
        iec.TAG_BOOLEAN: n == 1,
        iec.TAG_INTEGER: 1 <= n <= 8,
        iec.TAG_UNSIGNED: 1 <= n <= 9,
        iec.TAG_FLOAT: n > 0 and (n, value[0]) in FLOAT_FORMATS,
        iec.TAG_BIT_STRING: n >= 1 and value[0] <= 7 and not (n == 1 and value[0]),
        iec.TAG_UTC_TIME: n == 8,
    }.get(tag, True)
    if not good:
        raise MmsProtocolError(f"a value with tag {tag:#x} and {n} bytes")
    return iec.decode_data(tag, value)


class Told(NamedTuple):
    """What the device says beside a value."""

    quality: Quality
    reason: str  # why it is not good
    is_substituted: bool


def quality_of(value: iec.IECData) -> Told | None:
    """Quality of IEC 61850-7-3 (2010), 6.2; None: it is none."""
    if not isinstance(value, iec.BitStringData) or 8 * len(value.value) - value.unused_bits != QUALITY_BITS:
        return None
    told = IecQuality.from_bitstring(value)
    why = f"the device says {told}"
    if told.test:
        return Told(Quality.DEVICE_BAD, why, told.substituted)
    if told.operator_blocked or "old-data" in told.details:
        return Told(Quality.STALE, why, told.substituted)
    if told.validity == "good":
        return Told(Quality.GOOD, "", told.substituted)
    if told.validity == "questionable" and told.details == ("out-of-range",):
        return Told(Quality.OUT_OF_RANGE, why, told.substituted)
    return Told(Quality.DEVICE_BAD, why, told.substituted)


class Stamp(NamedTuple):
    """Time of a value as far as it can be believed: None where its clock cannot be, and why."""

    at: datetime | None
    doubt: str


def stamp_of(value: iec.IECData) -> Stamp | None:
    """Time and its quality (IEC 61850-7-2 (2010), 6.1.2.9); None: it is none."""
    if not isinstance(value, iec.TimestampData):
        return None
    clock = TimeQuality.from_octet(value.quality)
    if clock.clock_failure:
        return Stamp(None, "its clock has failed")
    if clock.clock_not_synchronized:
        return Stamp(None, "its clock is not synchronised")
    return Stamp(None, "its time was never set") if value.value <= EPOCH else Stamp(value.value, "")


def raw_of(value: iec.IECData, type_name: str) -> Raw | None:
    """The raw value of a type of a point map; None: it is of another one.

    A Dbpos counts 0 intermediate, 1 off, 2 on, 3 bad (IEC 61850-7-3).
    """
    match value:
        case iec.BoolData() if type_name == "BOOLEAN":
            return value.value
        case iec.FloatData() if type_name == ("FLOAT64" if value.double else "FLOAT32"):
            return value.value
        case iec.BitStringData() if type_name == "Dbpos" and (len(value.value), value.unused_bits) == (1, 6):
            return value.value[0] >> 6
        case iec.IntData() | iec.UIntData() if type_name == "ENUMERATED" or type_name.startswith("INT"):
            return value.value
    return None


def data_of(raw: Raw, type_name: str, *, unsigned: bool = False) -> iec.IECData:
    """The value to send for a raw value of a type of a point map."""
    if type_name == "BOOLEAN":
        return iec.BoolData(bool(raw))
    if type_name in ("FLOAT32", "FLOAT64"):
        assert math.isfinite(raw), "the codec sends finite numbers alone"
        return iec.FloatData(float(raw), double=type_name == "FLOAT64")
    return iec.UIntData(int(raw)) if unsigned else iec.IntData(int(raw))


def text_of(value: iec.IECData | AccessFault) -> str | None:
    """A text or a whole number, as text; None for anything else."""
    if isinstance(value, iec.VisibleStringData | iec.MmsStringData):
        return value.value.strip() or None
    return str(value.value) if isinstance(value, iec.IntData | iec.UIntData) else None
