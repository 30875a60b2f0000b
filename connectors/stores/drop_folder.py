"""Files that people drop for a process of another user: how they are dropped, and how they are read.

A name in a folder that others may write is worth nothing: it may be a link to somebody else's file, a pipe
that never ends, or another file a moment later. What counts is what the kernel says of the file once it is
open. Here it is opened once, asked, and read from the same handle.
"""

import os
import pwd
import stat
from pathlib import Path

from ems.errors import BadValue

BYTES_MAX = 4096
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def drop_file(folder: Path, name: str, text: str) -> Path:
    """Put a file into a folder, whole or not at all.

    Raises
    ------
    OSError : there is no such folder, or it is not for this user.
    """
    draft, file = folder / f".{name}", folder / name
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as stream:
        os.fchmod(stream.fileno(), 0o644)  # for the reader, another user; the folder hides it
        stream.write(text)
    draft.rename(file)
    return file


def read_plain(file: Path | str, *, dir_fd: int | None = None) -> tuple[os.stat_result, str]:
    """(what the kernel says of it, text) of a plain file of at most 4096 bytes that its owner alone writes.

    Raises
    ------
    OSError : it cannot be opened; also a symbolic link.
    BadValue : it is not plain, not its owner's alone, too large, or no text.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, dir_fd=dir_fd), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BadValue("not a plain file of its own")
        if status.st_mode & _WRITABLE_BY_OTHERS:
            raise BadValue("others than its owner may write it")
        raw = stream.read(BYTES_MAX + 1)
    if len(raw) > BYTES_MAX:
        raise BadValue(f"more than {BYTES_MAX} bytes")
    try:
        return status, raw.decode()
    except UnicodeDecodeError:
        raise BadValue("not text") from None


def owner_name(uid: int) -> str:
    """The user of a number; a number that nobody has is no name of a user. May wait for another machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def insecure(folder: os.stat_result) -> str | None:
    """Why nobody knows who put a file into such a folder, or who took one out; None: it is well kept."""
    mode = stat.S_IMODE(folder.st_mode)
    if folder.st_uid != os.geteuid():
        return (
            f"it belongs to uid {folder.st_uid}, not to uid {os.geteuid()}"  # asked in each cycle: no names
        )
    if mode & stat.S_IWOTH:
        return f"its mode is {mode:04o}: everybody may write; allowed: 1730"
    if mode & stat.S_IWGRP and not mode & stat.S_ISVTX:
        return f"its mode is {mode:04o}: members of its group may move each other's files; allowed: 1730"
    return None
