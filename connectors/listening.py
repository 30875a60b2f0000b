"""A thread that listens to a wire on which nobody is asked, and passes on no more than the edge can bear."""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from connectors.link import LinkError
from ems.clock import wall_s

STEP_S = 0.1
SO_TIMESTAMPNS = 35  # socket(7): the kernel stamps each frame as it comes
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Wire(Protocol[T_co]):
    """What is listened to."""

    def frames(self, wait_s: float) -> Iterator[tuple[T_co, float]]:
        """What has come, each with how long ago [s]; waits so long for the first. Raises LinkError."""
        ...

    def close(self) -> None:
        """End to listen."""
        ...


def waited_s(stamp: bytes) -> float:
    """How long a frame has waited in the kernel, by its stamp [s]; 0 where the clock was set back since."""
    if len(stamp) < 16:
        return 0.0
    seconds, nanoseconds = struct.unpack("qq", stamp[:16])
    return max(0.0, 1e-9 * (time.time_ns() - 1_000_000_000 * int(seconds) - int(nanoseconds)))


class Listener(Generic[T]):
    """The thread.

    Parameters
    ----------
    wire : open; closed by the thread when it ends.
    take : told each frame, with the moment it came on the wall clock that does not jump [s].
    rate_per_s, burst : no more are fetched; what comes faster is left to the kernel, which drops it.
    """

    def __init__(
        self, wire: Wire[T], take: Callable[[T, float], None], *, rate_per_s: float, burst: float
    ) -> None:
        self._wire, self._take, self._rate_per_s, self._burst = wire, take, rate_per_s, burst
        self.error: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Let the thread end by itself."""
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """Wait for that [s wall]."""
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether somebody listens."""
        return self._thread.is_alive() and self.error is None

    def check(self) -> None:
        """Raises LinkError where nobody listens any more, or whatever has ended the thread unexpectedly."""
        if self.error is not None:
            raise self.error
        if not self._thread.is_alive():
            raise LinkError("nobody listens any more")

    def _run(self) -> None:
        room, then_s = self._burst, wall_s()
        try:
            while not self._closing.is_set():
                came = 0
                for frame, age_s in self._wire.frames(STEP_S):
                    came += 1
                    self._take(frame, wall_s() - age_s)
                now_s = wall_s()
                room = min(self._burst, room + self._rate_per_s * (now_s - then_s)) - came
                then_s = now_s
                if room < 0.0:
                    self._closing.wait(-room / self._rate_per_s)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  raised where the device is read
            self.error = error
        finally:
            self._wire.close()
