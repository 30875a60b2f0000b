"""What a device recorded by itself, with its own times, and hands over later: never a present value.

A session gives what it is told to the `Collector` of its connection, beside the values of its poll. From
there it goes to the historian alone: nothing that decides ever sees it. The session learns when it is on the
disk, so that no device need forget anything before.
"""

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from ems.clock import wall_s
from ems.records import DeviceSample, JsonValue, TimeBasis
from ems.telemetry import Quality

AHEAD_MAX = timedelta(seconds=5)  # of our clock: a device that is further ahead is set wrong
OLD_MAX = timedelta(days=400)  # behind ours: a clock that began anew at 1970 or 2000 is older
TOLD_S = 600.0  # for so long after it happened a loss, or a wrong clock, stands as an alarm [s wall]
LOSS_EVERY_S = 10.0  # at least, between two events of losses: a device may tell one with every message
OnEvent = Callable[[datetime, str, dict[str, JsonValue]], None]


class Recorded(NamedTuple):
    """One value as a session is told it. `value` is in the point's unit; None where there is none."""

    point: str
    value: float | None
    quality: Quality
    told_at: datetime | None  # the device's own time
    is_synchronised: bool = True  # as the device says


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a device was read, kept with what was read: both are there, or neither."""

    name: str  # of what is read
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples of one device in its order, and what follows from their being stored."""

    device: str
    samples: tuple[DeviceSample, ...]
    mark: Mark | None
    stored: Callable[[], None]  # called by another thread, once all of it is on the disk


class SampleStore(Protocol):
    """Where samples go; `connectors.historian.sqlite.SqliteRecorder` is one."""

    def recorded(self, batch: Batch) -> bool:
        """Queue a batch, never blocking. False: too much waits already, nothing of it is kept."""
        ...

    def mark(self, device: str, name: str) -> str | None:
        """The newest mark of a device by its name; None: there is none, or it cannot be read."""
        ...


class Receipt:
    """Whether a batch is on the disk; for the thread of the event loop that handed it over.

    Parameters
    ----------
    is_refused : it is not kept, and never will be stored.
    is_stored : there is nothing to wait for.
    """

    def __init__(self, *, is_refused: bool = False, is_stored: bool = False) -> None:
        self.is_refused, self.is_stored = is_refused, is_stored
        self._then: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """Call it once the batch is stored; at once where it is."""
        if self.is_stored:
            call()
        else:
            self._then.append(call)

    def settle(self) -> None:
        """It is on the disk."""
        self.is_stored = True
        waiting, self._then = self._then, []
        for call in waiting:
            call()


class Collector:
    """Takes what one device recorded, judges its times, and hands it to the historian.

    Parameters
    ----------
    device : id of its connection.
    store : None: nobody keeps samples, and sessions leave them in the device as far as they can.
    now : record time.
    on_event : told when samples were lost at the device, and when its clock is not believed.
    """

    def __init__(
        self, device: str, store: SampleStore | None, *, now: Callable[[], datetime], on_event: OnEvent
    ) -> None:
        self._device, self._store, self._now, self._on_event = device, store, now, on_event
        self._lock = threading.Lock()  # `stored` is called by the historian's thread
        self._waiting = 0
        self._taken = self._refused = self._losses = self._doubted = self._timeless = 0
        self._untold_losses, self._loss_told_s = 0, -math.inf  # since the last event, and when that was
        self._lost: tuple[float, str] | None = None  # when [s wall], and why
        self._clock: tuple[float, str] | None = None

    @property
    def is_on(self) -> bool:
        """Whether samples are kept."""
        return self._store is not None

    def take(self, recorded: Sequence[Recorded], mark: Mark | None = None) -> Receipt:
        """Hand samples over in the order of the device, and a mark that is kept with them.

        The same sample (point, time of the device, value) may be handed over again at any time: it is stored
        once. One whose time is not believed is stored each time. Where the receipt is refused, the device is
        to keep them.
        """
        if self._store is None or not (recorded or mark):
            return Receipt(is_stored=True)
        arrived_at, loop, receipt = self._now(), asyncio.get_running_loop(), Receipt()
        samples = tuple(_judged(one, arrived_at) for one in recorded)

        def stored() -> None:
            with self._lock:
                self._waiting -= len(samples)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(receipt.settle)

        with self._lock:
            self._waiting += len(samples)
        if not self._store.recorded(Batch(device=self._device, samples=samples, mark=mark, stored=stored)):
            with self._lock:
                self._waiting -= len(samples)
            self._refused += len(samples)
            return Receipt(is_refused=True)
        self._taken += len(samples)
        self._doubt(samples)
        return receipt

    def lost(self, why: str) -> None:
        """The device says, or its numbers show, that it recorded more than it handed over."""
        self._losses += 1
        self._lost, self._untold_losses = (wall_s(), why), self._untold_losses + 1
        if wall_s() - self._loss_told_s >= LOSS_EVERY_S:
            fields: dict[str, JsonValue] = {"device": self._device, "why": why, "times": self._untold_losses}
            self._on_event(self._now(), "device.records.lost", fields)
            self._loss_told_s, self._untold_losses = wall_s(), 0

    def mark(self, name: str) -> str | None:
        """How far the device was read, as it was stored last."""
        return None if self._store is None else self._store.mark(self._device, name)

    @property
    def counts(self) -> dict[str, int]:
        """What happened since the start, for the status row; empty while nobody keeps samples."""
        if self._store is None:
            return {}
        return {
            "samples": self._taken,
            "samples_waiting": self._waiting,
            "samples_refused": self._refused,
            "samples_lost": self._losses,
            "sample_times_doubted": self._doubted,
            "samples_without_time": self._timeless,
        }

    @property
    def loss(self) -> str:
        """Why samples are missing that the device recorded lately; "": none are."""
        return _lately(self._lost)

    @property
    def clock(self) -> str:
        """Why its clock is not believed, of samples that came lately; "": it is."""
        return _lately(self._clock)

    def _doubt(self, samples: Sequence[DeviceSample]) -> None:
        self._timeless += sum(s.clock is TimeBasis.NONE for s in samples)
        wrong = [s for s in samples if s.clock not in (TimeBasis.DEVICE, TimeBasis.NONE)]
        if not wrong:
            return
        self._doubted += len(wrong)
        was_told, last = bool(self.clock), wrong[-1]
        assert last.told_at is not None, "a time that is doubted was told"
        told = last.told_at.isoformat(timespec="milliseconds")
        why = f"{last.clock.value}: it told {told} at {last.arrived_at.isoformat(timespec='milliseconds')}"
        self._clock = (wall_s(), why)
        if not was_told:
            self._on_event(self._now(), "device.clock.doubted", {"device": self._device, "why": why})


@runtime_checkable
class Recording(Protocol):
    """A link whose device records by itself."""

    collector: Collector


def no_collector() -> Collector:
    """One that keeps nothing."""
    return Collector("", None, now=lambda: datetime.fromtimestamp(0, UTC), on_event=lambda *_: None)


def _judged(one: Recorded, arrived_at: datetime) -> DeviceSample:
    clock = _basis(one, arrived_at)
    sample = DeviceSample(
        point=one.point,
        value=one.value,
        quality=one.quality,
        at=arrived_at,
        told_at=one.told_at,
        arrived_at=arrived_at,
        clock=clock,
    )
    if clock is TimeBasis.DEVICE and one.told_at is not None:
        return replace(sample, at=one.told_at)
    return replace(sample, quality=Quality.STALE) if one.quality is Quality.GOOD else sample


def _basis(one: Recorded, arrived_at: datetime) -> TimeBasis:
    if one.told_at is None:
        return TimeBasis.NONE
    if not one.is_synchronised:
        return TimeBasis.UNSYNCHRONISED
    if one.told_at > arrived_at + AHEAD_MAX:
        return TimeBasis.AHEAD
    return TimeBasis.TOO_OLD if one.told_at < arrived_at - OLD_MAX else TimeBasis.DEVICE


def _lately(seen: tuple[float, str] | None) -> str:
    return seen[1] if seen is not None and wall_s() - seen[0] < TOLD_S else ""
