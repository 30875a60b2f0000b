"""What a driver raises beside `LinkError`: a fault of ours, which costs the one device it was met at."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from connectors.link import LinkError
from ems.clock import wall_s

log = structlog.get_logger()

LOG_EVERY_S = 600.0  # wall: a traceback of one kind of a device is logged no more often
TEXT_MAX = 200  # characters of what an exception says: a device may have written them


class DriverFault(LinkError):
    """The driver of one device has met what it was not written for; `__cause__` is what it raised."""


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever a driver raises inside, `LinkError` and no memory excepted, is raised as a `DriverFault`.

    What ends a task or the process is none: it passes, as do exceptions of whoever is told of events.
    """
    try:
        yield
    except (LinkError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ExceptionGroup) and error.subgroup(MemoryError) is not None:
            raise
        raise DriverFault(words(error)) from error


def words(error: BaseException) -> str:
    """Type and text of what a driver raised, in one line of bounded length."""
    said = " ".join(str(error).split())
    said = said if len(said) <= TEXT_MAX else said[:TEXT_MAX] + "..."
    kind = type(error).__name__
    return f"{kind} in the driver: {said}" if said else f"{kind} in the driver"


class FaultLog:
    """Tracebacks of one device's driver: one of each kind, and again after a while."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._logged_s: dict[str, float] = {}  # type of exception -> wall time

    def told(self, fault: DriverFault) -> None:
        """Log it, unless one of its kind was logged lately."""
        kind, now_s = type(fault.__cause__).__name__, wall_s()
        last_s = self._logged_s.get(kind)
        if last_s is None or now_s - last_s >= LOG_EVERY_S:
            self._logged_s[kind] = now_s
            log.error("device.driver.fault", device=self._device, exc_info=fault.__cause__)
