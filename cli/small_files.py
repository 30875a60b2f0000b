"""The few kilobytes a run is started with, on a disk that takes nothing: they go to memory."""

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger()

FULL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
IN_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it, for this user alone


def with_room(folder: Path, write: Callable[[Path], Path], instead: Path = IN_MEMORY) -> Path:
    """Write into `folder`, or into a new folder in memory where the disk is full, read-only or failing.

    A plant is controlled on a full disk too: what its processes are told at their start must reach them.

    Parameters
    ----------
    write : writes below the folder it is given, and gives the path of what it wrote.

    Raises
    ------
    OSError : neither can be written.
    """
    try:
        return write(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = Path(tempfile.mkdtemp(prefix=f"hybrid-ems-{os.getpid()}-", dir=instead))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        log.error("run.folder.unwritable", folder=str(folder), error=str(error.strerror), instead=str(place))
        return write(place)
