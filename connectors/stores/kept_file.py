"""A small file that is whole after any crash: written beside, synced, put in its place, checksummed."""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from ems.errors import BadValue
from ems.records import JsonValue


def keep(file: Path, body: Mapping[str, JsonValue]) -> None:
    """Replace the file, so that a crash at any moment leaves the old one or the new one.

    Raises
    ------
    OSError : it cannot be written; the old one is as it was.
    """
    text = json.dumps(body, allow_nan=False, sort_keys=True)
    put_whole(file, json.dumps({"crc32": _sum(text), "body": text}).encode())


def put_whole(file: Path, raw: bytes, *, mode: int = 0o600) -> None:
    """Replace the file, so that a crash at any moment leaves the old one or the new one.

    Raises
    ------
    OSError : it cannot be written; the old one is as it was.
    """
    draft = file.with_name(f".{file.name}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def kept(file: Path) -> Mapping[str, JsonValue] | None:
    """What was kept last; None: nothing ever was.

    Raises
    ------
    BadValue : there is a file, and it is not what was written.
    """
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadValue(f"{file.name}: {error.strerror}") from None
    try:
        outer = json.loads(raw)
        text = outer["body"]
        sound = outer["crc32"] == _sum(text)
        body = json.loads(text) if sound else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadValue(f"{file.name}: not what was written") from None
    if not isinstance(body, dict):
        raise BadValue(f"{file.name}: its checksum is wrong")
    return body


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
