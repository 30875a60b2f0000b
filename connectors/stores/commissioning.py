"""The record of commissioning: what was found at which device, under which site file. JSON, renewed whole.

Each entry carries a hash over itself and the one before it, so that a line that was edited, left out or moved
is seen. That is no signature: whoever can write the file can make a new chain.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ems.errors import ConfigError, Problem
from ems.records import JsonValue

FORMAT = 1
NOTE = "each hash covers its entry and the hash before it; this shows edits, it is no signature"
START = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the record."""

    n: int
    at: str  # ISO 8601, UTC
    user: str
    kind: str  # site | identity | row | accept
    data: Mapping[str, JsonValue]
    hash: str


Record = tuple[Entry, ...]


def appended(record: Record, *, at: str, user: str, kind: str, data: Mapping[str, JsonValue]) -> Record:
    """The record with one entry more."""
    before = record[-1].hash if record else START
    n = len(record) + 1
    return (
        *record,
        Entry(n=n, at=at, user=user, kind=kind, data=data, hash=_hash(before, n, at, user, kind, data)),
    )


def write_record(path: Path, record: Record) -> None:
    """Replace the file whole or not at all, and have it on the disk."""
    entries = [dataclasses.asdict(e) for e in record]
    text = json.dumps({"format": FORMAT, "note": NOTE, "entries": entries}, indent=1) + "\n"
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_record(path: Path) -> Record:
    """Read a record and follow its chain.

    Raises
    ------
    ConfigError : there is none, it is no record, of another format, or an entry was changed.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _refused(path, "(the file)", "nothing", "a record made by `ems commission`") from None
    except OSError as error:
        raise _refused(path, "(the file)", str(error.strerror), "a readable file") from None
    entries = _entries(path, raw)
    before = START
    for place, e in enumerate(entries, start=1):
        if e.n != place or e.hash != _hash(before, e.n, e.at, e.user, e.kind, e.data):
            key, why = f"entries[{place - 1}]", "it was edited, or an entry before it is missing"
            raise _refused(path, key, "another hash than its contents have", "an unchanged record", why)
        before = e.hash
    return entries


def identities_of(record: Record) -> dict[str, dict[str, str]]:
    """Connection id -> what its device said it is, as it was commissioned last."""
    out: dict[str, dict[str, str]] = {}
    for e in record:
        told = e.data.get("told")
        if e.kind == "identity" and isinstance(told, dict):
            out[str(e.data["connection"])] = {str(k): str(v) for k, v in told.items()}
    return out


def _entries(path: Path, raw: bytes) -> Record:
    """The entries of a file that has the form of a record, whatever they say."""
    try:
        whole: Any = json.loads(raw)
    except ValueError as error:
        raise _refused(path, "(the file)", f"no JSON: {error}", "a whole record") from None
    if not isinstance(whole, dict) or whole.keys() != {"format", "note", "entries"}:
        raise _refused(path, "(the file)", "other keys", "format, note and entries")
    if whole["format"] != FORMAT:
        why = "commission anew with this version"
        raise _refused(path, "format", repr(whole["format"]), str(FORMAT), why)
    if not isinstance(whole["entries"], list):
        raise _refused(path, "entries", "no list", "a list of entries")
    return tuple(_entry(path, i, e) for i, e in enumerate(whole["entries"]))


def _entry(path: Path, place: int, found: Any) -> Entry:
    kinds = {"n": int, "at": str, "user": str, "kind": str, "data": dict, "hash": str}
    good = isinstance(found, dict) and found.keys() == kinds.keys()
    if not good or not all(type(found[k]) is kind for k, kind in kinds.items()):
        raise _refused(path, f"entries[{place}]", "other keys or types", ", ".join(kinds))
    return Entry(**found)


def _hash(before: str, n: int, at: str, user: str, kind: str, data: Mapping[str, JsonValue]) -> str:
    text = json.dumps([before, n, at, user, kind, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _refused(path: Path, key: str, found: str, allowed: str, message: str = "") -> ConfigError:
    return ConfigError(
        [Problem(file=str(path), line=None, key=key, found=found, allowed=allowed, message=message)]
    )
