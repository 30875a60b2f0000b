"""Payloads of Sparkplug B, written and read. Pure.

Source: Eclipse Sparkplug Specification 3.0.0 (2022), chapter 6.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from connectors.sparkplug.sparkplug_pb2 import Payload
from ems.telemetry import Quality

INT32, INT64, DOUBLE, BOOLEAN, STRING = 3, 4, 10, 11, 12  # 6.4.2
BAD, GOOD, STALE = 0, 192, 500  # 6.4.9.1
REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"
Value = float | str | None
Metric = Payload.Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a birth says of a metric once; messages after it name the alias alone."""

    name: str
    alias: int
    datatype: int = DOUBLE
    unit: str = ""
    sign: str = ""  # what it is, and which way is positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One data point. `value` counts where `quality` is good and nowhere else."""

    at_ms: int  # since 1970 UTC
    value: Value = None
    quality: Quality = Quality.GOOD
    historical: bool = False


NOTHING = Told(at_ms=0, quality=Quality.STALE)


def defined(definition: Definition, told: Told) -> Metric:
    """A metric as a birth tells it: name, alias, type, properties and its newest value."""
    metric = _metric(definition, told)
    metric.name = definition.name
    for key, text in (("engUnit", definition.unit), ("sign", definition.sign)):
        if text:
            _property(metric, key).string_value = text
    _quality(metric, told.quality)
    return metric


def valued(definition: Definition, told: Told, *, was_bad: bool) -> Metric:
    """A metric as data tell it; its quality only where it is not the good one that a receiver assumes."""
    metric = _metric(definition, told)
    if told.historical:
        metric.is_historical = True
    if was_bad or told.quality is not Quality.GOOD:
        _quality(metric, told.quality)
    return metric


def birth_of_node(bd_seq: int, definitions: Iterable[Definition], now_ms: int) -> bytes:
    """NBIRTH: always the first of a session, number 0 in its order."""
    payload = Payload(timestamp=now_ms, seq=0)
    payload.metrics.append(_bd_seq(bd_seq, now_ms))
    payload.metrics.add(name=REBIRTH, timestamp=now_ms, datatype=BOOLEAN, boolean_value=False)
    nothing = Told(at_ms=now_ms, quality=Quality.STALE)
    payload.metrics.extend(defined(d, nothing) for d in definitions)
    return payload.SerializeToString()


def death_of_node(bd_seq: int, now_ms: int) -> bytes:
    """NDEATH, the last will: it has no place in the order."""
    return Payload(timestamp=now_ms, metrics=[_bd_seq(bd_seq, now_ms)]).SerializeToString()


def numbered(metrics: Sequence[Metric], seq: int, now_ms: int) -> bytes:
    """DBIRTH, NDATA, DDATA, and with no metrics DDEATH."""
    return Payload(timestamp=now_ms, seq=seq, metrics=metrics).SerializeToString()


def asks_for_rebirth(raw: bytes) -> bool:
    """Whether a command is the one that is heeded. Everything else of any command is nothing to us."""
    try:
        payload = Payload.FromString(raw)
    except DecodeError:
        return False
    return any(m.name == REBIRTH and m.boolean_value and not m.is_null for m in payload.metrics)


def host_state(raw: bytes) -> tuple[bool, int] | None:
    """Whether a host is online, and since when [ms since 1970 UTC]; None: it is no STATE message (6.4.24)."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    match told:
        case {"online": bool(online), "timestamp": int(at_ms)} if type(at_ms) is int and at_ms >= 0:
            return online, at_ms
    return None


def _metric(definition: Definition, told: Told) -> Metric:
    """Without its name. The type stands in data too: receivers there are that cannot read it otherwise."""
    metric = Metric(alias=definition.alias, timestamp=told.at_ms, datatype=definition.datatype)
    if told.value is None or told.quality is not Quality.GOOD:
        metric.is_null = True  # a bad number must not be taken for one by whoever reads no properties
    elif isinstance(told.value, str):
        metric.string_value = told.value
    else:
        metric.double_value = told.value
    return metric


def _quality(metric: Metric, quality: Quality) -> None:
    code = {Quality.GOOD: GOOD, Quality.STALE: STALE}.get(quality, BAD)
    value = _property(metric, "Quality")
    value.type, value.int_value = INT32, code
    _property(metric, "reason").string_value = quality.value


def _property(metric: Metric, key: str) -> Payload.PropertyValue:
    metric.properties.keys.append(key)
    value = metric.properties.values.add()
    value.type = STRING
    return value


def _bd_seq(bd_seq: int, now_ms: int) -> Metric:
    return Metric(name=BD_SEQ, timestamp=now_ms, datatype=INT64, long_value=bd_seq)
