"""Count and hash of records, byte for byte as `digest` of schema.sql makes them of what is stored."""

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from connectors.historian.schema import QUALITY_CODES
from connectors.historian.spool import Record

CODES = {quality.value: code for quality, code in QUALITY_CODES.items()}
_NUMBER, _LENGTH, _VALUE, _CODE = (struct.Struct(f">{c}").pack for c in "qidh")


class Digest(NamedTuple):
    """Of a span of numbers."""

    records: int
    readings: int
    sha256: bytes


def digest(records: Iterable[Record]) -> Digest:
    """Of records in the order of their numbers."""
    heads, tails = [], []
    for r in records:
        body = body_of(r)
        raw = b"" if body is None else body.encode()
        at_ms = -1 if r.at_ms is None else r.at_ms
        heads.append(_NUMBER(r.seq) + r.kind.encode() + _NUMBER(at_ms) + _LENGTH(len(raw)) + raw)
        for point, (value, quality, lag_ms) in sorted(r.values.items()) if r.values is not None else ():
            name = point.encode()
            number = b"\0" if value is None else b"\1" + _VALUE(value)
            told = _LENGTH(len(name)) + name + number + _CODE(CODES[quality]) + _NUMBER(at_ms - lag_ms)
            tails.append(_NUMBER(r.seq) + told)
    return Digest(len(heads), len(tails), hashlib.sha256(b"".join(heads + tails)).digest())


def body_of(record: Record) -> str | None:
    """What is stored of a record besides its values; None: nothing more than when it was."""
    return None if record.values is not None else record.text
