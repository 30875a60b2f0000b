"""What every protocol adapter offers to the device task that drives it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from connectors.expiry import Expiry
from connectors.point_map import PointCodec
from connectors.raw_types import Raw
from connectors.wire_log import Tap
from ems.commands import WriteOutcome
from ems.telemetry import Quality


class LinkError(Exception):
    """The connection cannot be used any more; it is closed and made anew."""


class Untrusted(LinkError):
    """Who is there is not proved, or we cannot prove who we are; a person has to look."""


class Refused(Untrusted):
    """The device refuses who we are. It is asked again slowly: accounts are locked after a few tries."""


class NotSent(LinkError):
    """Nothing was sent: the connection was down already, or it was too late for it."""


class PointValue(NamedTuple):
    """What one point was read as.

    `source_time` is the device's own time where it tells one; `age_s` is how long ago the device was asked,
    or proved by itself that it is still so [s wall]; None: it was asked when this read began, or later.
    """

    value: float | None
    quality: Quality
    source_time: datetime | None
    age_s: float | None = None


class WriteReply(NamedTuple):
    """What is known after one write."""

    outcome: WriteOutcome
    detail: str


Latest = Callable[[PointCodec, float], float]
Late = Callable[[], bytes]  # a request as it may be sent now; raises NotSent or BadValue


def as_decided(codec: PointCodec, value: float) -> float:
    """The value as it was handed in: nothing is asked again."""
    return value


def raw_now(codec: PointCodec, value: float, latest: Latest) -> Callable[[], Raw]:
    """What goes on the wire, asked for when it is held; it may raise NotSent or BadValue."""
    return lambda: codec.to_raw(latest(codec, value))


async def in_turn(
    values: Sequence[tuple[PointCodec, float]], write: Callable[[PointCodec, float], Awaitable[WriteReply]]
) -> list[WriteReply]:
    """Write one value after the other; none any more after one of which it is unknown what became."""
    replies: list[WriteReply] = []
    for codec, value in values:
        replies.append(await write(codec, value))
        if replies[-1].outcome is WriteOutcome.UNKNOWN:
            rest = WriteReply(WriteOutcome.NOT_SENT, "the write before it was not answered")
            return replies + [rest] * (len(values) - len(replies))
    return replies


class DeviceLink(Protocol):
    """One connection to one device: made, used, dropped, made again. Nothing is retried inside."""

    @property
    def connected(self) -> bool:
        """Whether requests may be sent."""
        ...

    async def connect(self) -> None:
        """Open a fresh connection within its deadline. Raises LinkError."""
        ...

    async def identify(self) -> dict[str, str | None]:
        """What the device says it is, by the identity block of its map. Raises LinkError as `read` does."""
        ...

    async def read(self) -> dict[str, PointValue]:
        """Read every mapped point. Raises LinkError when the link can no longer be trusted."""
        ...

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        """Send each value once, in order; stop sending after the first without an answer, and at `until_s`.

        `until_s` is wall time (`ems.clock.wall_s`): a value of an old cycle is not sent late. `latest` gives
        the value as it may be sent now, and raises NotSent where it may not: it is asked when the wire is
        held, with no wait left before the bytes. Never raises.
        """
        ...

    async def disconnect(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A link that counts more than its requests, for the status row."""

    @property
    def counts(self) -> dict[str, int]:
        """What happened, by name."""
        ...


@runtime_checkable
class Certified(Protocol):
    """A link that may have certificates."""

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """Of the last attempt to connect."""
        ...


@runtime_checkable
class Diagnosing(Protocol):
    """A link whose device tells fault codes."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Those that are active, in words."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A link that knows why a single point has no value."""

    refused: dict[str, str]  # point -> why


@runtime_checkable
class Tapped(Protocol):
    """A link that tells every byte of its connections, from the next one on."""

    tap: Tap
