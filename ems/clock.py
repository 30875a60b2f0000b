"""The only place that asks what time it is.

Control time is `monotonic_s` (never steps); record time is `now` (aware UTC).
Everything else gets a Clock handed in, so that a simulation can own time.
"""

import asyncio
import ctypes
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

TIMEX_BYTES = 256  # struct timex is 208 bytes on 64-bit machines, 128 on others
STATUS_AT = 5 * ctypes.sizeof(ctypes.c_long)  # after modes (padded), offset, freq, maxerror, esterror
TIME_ERROR = 5
STA_UNSYNC = 0x40
TIMESYNC = Path("/run/systemd/timesync/synchronized")  # touched by systemd-timesyncd at each synchronisation
TIMESYNC_S = 3.0 * 2048.0  # an older one: it has missed three of its longest polls
AHEAD_S = 60.0  # a touch so far to come: the clock was set back since


class Clock(Protocol):
    """Control and record time."""

    def now(self) -> datetime:
        """Aware UTC time for records."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only ever grow, for ages, leases and time-outs [s]."""
        ...

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until `monotonic_s()` has reached the given value [s]."""
        ...


class SystemClock:
    """Real time of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_s - time.monotonic()))


class VirtualClock:
    """Time that moves only when told to. `monotonic_s` counts seconds since `start`."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be an aware datetime")
        self._start = start.astimezone(UTC)
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def advance(self, dt_s: float) -> None:
        """Move time forward by `dt_s` [s]."""
        if dt_s < 0:
            raise ValueError(f"time does not run backwards: {dt_s} s")
        self._elapsed_s += dt_s

    async def sleep_until(self, monotonic_s: float) -> None:
        self._elapsed_s = max(self._elapsed_s, monotonic_s)


def kernel_synchronised() -> bool | None:
    """Whether the kernel's clock is disciplined by NTP, PTP or GPS; None where the kernel cannot be asked.

    Source: Linux adjtimex(2), state TIME_ERROR or status STA_UNSYNC: the clock is not synchronised.
    """
    if sys.platform != "linux":
        return None
    asked = ctypes.create_string_buffer(TIMEX_BYTES)  # modes 0: read only
    state = ctypes.CDLL(None).adjtimex(asked)
    if state < 0:
        return None
    status = int.from_bytes(asked.raw[STATUS_AT : STATUS_AT + 4], sys.byteorder)
    return state != TIME_ERROR and not status & STA_UNSYNC


def timesyncd_synchronised(file: Path = TIMESYNC) -> bool | None:
    """Whether systemd-timesyncd has set the clock lately; None where it has not since the machine started.

    Source: systemd-timesyncd.service(8), FILES. The file stays when synchronisation is lost: its age counts.
    """
    try:
        age_s = time.time() - file.stat().st_mtime
    except OSError:
        return None
    return -AHEAD_S <= age_s <= TIMESYNC_S


def synchronised() -> bool | None:
    """Whether this machine's clock is synchronised: what the kernel says, else what systemd-timesyncd left.

    None: nobody can be asked. The kernel refuses to tell under ProtectClock= of systemd, reading included.
    """
    told = kernel_synchronised()
    return timesyncd_synchronised() if told is None else told


def vouched() -> bool:
    """Whether somebody says that this machine's clock is synchronised."""
    return synchronised() is True


def wall_s() -> float:
    """Wall seconds for measuring how long something took (solves, cycles); never for control [s]."""
    return time.perf_counter()


async def wall_sleep(seconds: float) -> None:
    """Sleep in wall time, for supervisors and retry loops outside the control path [s]."""
    await asyncio.sleep(seconds)
