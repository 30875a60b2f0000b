"""What a server tells by itself: what is asked of it, and the book of its messages.

A value is as fresh as the last message that proves the subscription: a change, or a keep-alive. Messages
carry numbers (OPC 10000-4 (1.05), 5.14): one that comes twice is not taken, and after one that is missing
nothing is believed any more; the connection is made anew, and with it every value.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds

from connectors.link import LinkError
from connectors.opcua.limits import monitor
from connectors.opcua.values import FAULTS, aware, words
from connectors.point_map import PointCodec
from ems.site import UaSubscription

LIFETIME_S_MIN = 30.0  # how long a server keeps a subscription that nobody asks for
NUMBERS = 2**32  # of messages; 0 is none
OVERFLOW = 0x480  # of a status: information about a value, and samples before it were dropped
SAMPLES = ua.DataChangeTrigger.StatusValueTimestamp  # a new stamp is a new sample
CHANGES = ua.DataChangeTrigger.StatusValue


class Book:
    """The newest value of each point that one subscription tells, and when it was proved last. No I/O.

    Parameters
    ----------
    points : our handle of each monitored item -> point.
    silence_s : with no message for so long the subscription is dead [s].
    at_s : now [s wall].
    """

    def __init__(self, points: Mapping[int, str], *, silence_s: float, at_s: float) -> None:
        self.values: dict[str, ua.DataValue] = {}
        self.served: datetime | None = None  # the server's own time of its last message
        self.overflows = 0  # values with samples lost before them
        self.repeated = 0  # messages that came again, and samples that were overtaken
        self.changed = asyncio.Event()
        self._points = dict(points)
        self._ours: int | None = None  # id of the subscription
        self._silence_s, self._proved_s = silence_s, at_s
        self._next: int | None = None  # number of the next message with something in it
        self._broken = ""

    def open(self, subscription_id: int) -> None:
        """Messages of this subscription are ours."""
        self._ours = subscription_id

    def leave_out(self, handle: int) -> None:
        """The item of this handle is read instead, whatever is told of it."""
        self._points[handle] = ""

    def age_s(self, now_s: float) -> float:
        """How long ago it was proved [s]."""
        return max(0.0, now_s - self._proved_s)

    def check(self, now_s: float) -> None:
        """Raises LinkError where the subscription is not to be trusted any more."""
        if self._broken:
            raise LinkError(f"subscription: {self._broken}")
        if self.age_s(now_s) > self._silence_s:
            raise LinkError(
                f"subscription: no keep-alive for {self.age_s(now_s):.1f} s: it has died silently"
            )

    @property
    def missing(self) -> list[str]:
        """Points of which nothing was told yet."""
        return [p for p in self._points.values() if p and p not in self.values]

    def take(self, result: ua.PublishResult, at_s: float) -> None:
        """One message, as it comes. Never raises: what is wrong with it is told by `check`."""
        try:
            self._take(result, at_s)
        except FAULTS as error:
            self._break(f"a message that cannot be read: {words(error)}")
        self.changed.set()

    def _break(self, why: str) -> None:
        self._broken = self._broken or why

    def _take(self, result: ua.PublishResult, at_s: float) -> None:
        if result.SubscriptionId != self._ours:
            self._break(f"a message of subscription {result.SubscriptionId}, ours is {self._ours}")
            return
        message = result.NotificationMessage
        data = message.NotificationData or []
        ended = [d for d in data if isinstance(d, ua.StatusChangeNotification)]
        if ended:
            self._break(f"the server has ended it: {ended[0].Status.name}")
            return
        if not self._in_turn(int(message.SequenceNumber), bool(data)):
            return
        for part in data:
            if isinstance(part, ua.DataChangeNotification):
                self._changes(part.MonitoredItems)
        self._proved_s, self.served = at_s, aware(message.PublishTime)

    def _in_turn(self, number: int, full: bool) -> bool:
        """Whether a message is the one to come; a keep-alive carries the number of the next one."""
        wanted = number if self._next is None else self._next
        if not full and (wanted - number) % NUMBERS == 1:
            return True  # some servers tell that of the last message
        ahead = (number - wanted) % NUMBERS
        if ahead == 0:
            self._next = (number % (NUMBERS - 1)) + 1 if full else number
            return True
        if ahead < NUMBERS // 2:
            self._break(f"messages {wanted} to {number - 1} were lost")
        else:
            self.repeated += 1
        return False

    def _changes(self, items: Sequence[ua.MonitoredItemNotification]) -> None:
        """Values of one message; of several samples of a point the newest stands, wherever it comes."""
        here: dict[str, datetime] = {}
        for item in items:
            point = self._points[int(item.ClientHandle)]
            if not point:
                continue
            value = item.Value
            status = 0 if value.StatusCode is None else int(value.StatusCode.value)
            self.overflows += status & 0xFFFF & OVERFLOW == OVERFLOW
            stamp = aware(value.SourceTimestamp)
            if stamp is not None and point in here and stamp < here[point]:
                self.repeated += 1
                continue
            if stamp is not None:
                here[point] = stamp
            self.values[point] = value


async def subscribe(
    client: Client,
    asked: UaSubscription,
    nodes: Sequence[tuple[PointCodec, ua.NodeId]],
    *,
    items_max: int,
    sampled: bool,
    timeout_s: float,
    now_s: Callable[[], float],
) -> Book:
    """Make a subscription with these nodes, and wait until each has told its first value.

    Parameters
    ----------
    nodes : points and where they are; what the server does not tell often enough is left out of the book.
    items_max : how many the server takes in one request; 0: as many as there are.
    sampled : the server stamps each sample, so that a new stamp alone is worth a message.
    timeout_s : deadline of a request [s wall]; the first values and keep-alives may take so much longer.
    now_s : wall time [s].

    Raises
    ------
    LinkError : it is proved too rarely, or the first values do not come.
    """
    handles = {i: codec.point.point for i, (codec, _) in enumerate(nodes, 1)}
    count = max(1, math.ceil(asked.keep_alive_s / asked.publishing_s))
    parameters = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=1000.0 * asked.publishing_s,
        RequestedMaxKeepAliveCount=count,
        RequestedLifetimeCount=max(3 * count, math.ceil(LIFETIME_S_MIN / asked.publishing_s)),
    )
    early: list[ua.PublishResult] = []  # a message may come before we know what it is of
    target: list[Book] = []

    def told(result: ua.PublishResult) -> None:
        if target:
            target[0].take(result, now_s())
        else:
            early.append(result)

    session = client.uaclient.session
    made = await session.create_subscription(parameters, told)
    publishing_s = made.RevisedPublishingInterval / 1000.0
    longest_s = made.RevisedMaxKeepAliveCount * publishing_s + publishing_s
    shortest_s = min((codec.point.age_s_max for codec, _ in nodes), default=math.inf)
    if not longest_s < shortest_s:
        proved = f"the server proves it every {longest_s:g} s at most"
        raise LinkError(f"subscription: {proved}, an age_s_max is {shortest_s:g} s")
    book = Book(handles, silence_s=longest_s + timeout_s, at_s=now_s())
    book.open(int(made.SubscriptionId))
    items = list(_items(nodes, asked, SAMPLES if sampled else CHANGES))
    results = await monitor(session, int(made.SubscriptionId), items, items_max)
    for handle, ((codec, _), result) in enumerate(zip(nodes, results, strict=True), 1):
        slow = result.RevisedSamplingInterval / 1000.0 + publishing_s >= codec.point.age_s_max
        if not result.StatusCode.is_good() or slow:
            book.leave_out(handle)
    target.append(book)
    for message in early:
        book.take(message, now_s())
    await _first_values(book, 2.0 * publishing_s + timeout_s, now_s)
    return book


def _items(
    nodes: Sequence[tuple[PointCodec, ua.NodeId]], asked: UaSubscription, trigger: ua.DataChangeTrigger
) -> Iterator[ua.MonitoredItemCreateRequest]:
    for handle, (_, node) in enumerate(nodes, 1):
        yield ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=handle,
                SamplingInterval=1000.0 * asked.sampling_s,
                Filter=ua.DataChangeFilter(Trigger=trigger),
                QueueSize=asked.queue,
                DiscardOldest=True,
            ),
        )


async def _first_values(book: Book, timeout_s: float, now_s: Callable[[], float]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while book.missing:
                book.check(now_s())
                book.changed.clear()
                await book.changed.wait()
    if missing := book.missing:
        raise LinkError(f"subscription: no first value of {', '.join(missing[:5])}")
