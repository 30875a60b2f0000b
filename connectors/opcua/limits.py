"""How many nodes a server takes in one request, and requests no larger than that.

Source: OPC 10000-5 (1.05), 6.3.11, OperationLimitsType.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import BadTooManyOperations, UaError, UaStatusCodeError

Q = TypeVar("Q")
A = TypeVar("A")

# OperationLimits in ServerCapabilities of the Server object
_IDS = (11705, 11707, 11714, 11712, 11710)
READS, WRITES, ITEMS, PATHS, BROWSES = (ua.NodeId.from_string(f"i={i}") for i in _IDS)
NAMES = {
    READS: ("Read", "MaxNodesPerRead"),
    WRITES: ("Write", "MaxNodesPerWrite"),
    ITEMS: ("CreateMonitoredItems", "MaxMonitoredItemsPerCall"),
    PATHS: ("TranslateBrowsePathsToNodeIds", "MaxNodesPerTranslateBrowsePathsToNodeIds"),
    BROWSES: ("Browse", "MaxNodesPerBrowse"),
}
ROUND_TRIPS = 2  # to be told them


class TooManyOperations(UaError):
    """A server refused a whole request because of its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Nodes in one request; 0: the server tells no limit."""

    reads_max: int = 0
    writes_max: int = 0
    items_max: int = 0
    paths_max: int = 0
    browses_max: int = 0


NONE_TOLD = Limits()


async def told(session: UaSession) -> Limits:
    """What the server tells of itself. One that refuses to tell has no limits that we know of.

    Raises
    ------
    UaError : the answer is not one to what was asked.
    """
    (reads,) = await _numbers(session, [READS], 0)
    writes, items, paths, browses = await _numbers(session, [WRITES, ITEMS, PATHS, BROWSES], reads)
    return Limits(reads_max=reads, writes_max=writes, items_max=items, paths_max=paths, browses_max=browses)


async def _numbers(session: UaSession, nodes: Sequence[ua.NodeId], most: int) -> list[int]:
    try:
        return [_number(r) for r in await read(session, [value_of(n) for n in nodes], most)]
    except (UaStatusCodeError, TooManyOperations):
        return [0] * len(nodes)


def _number(result: ua.DataValue) -> int:
    status, raw = result.StatusCode, None if result.Value is None else result.Value.Value
    if (status is not None and not status.is_good()) or not isinstance(raw, int) or isinstance(raw, bool):
        return 0
    return 0 if raw == 0 else max(1, raw)


def value_of(node: ua.NodeId) -> ua.ReadValueId:
    """The question for a node's value."""
    return ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value)


def portions(of: Sequence[Q], most: int) -> Iterator[Sequence[Q]]:
    """All of them in their order, at most so many at a time; 0: all at once."""
    step = most if most > 0 else max(1, len(of))
    return (of[i : i + step] for i in range(0, len(of), step))


async def read(session: UaSession, values: Sequence[ua.ReadValueId], most: int) -> list[ua.DataValue]:
    """Values in the order of the questions.

    Parameters
    ----------
    most : in one request; 0: as many as there are.

    Raises
    ------
    TooManyOperations : refused because of its length, with what was asked.
    UaError : the server answers more or fewer questions than there were.
    """

    async def ask(some: Sequence[ua.ReadValueId]) -> list[ua.DataValue]:
        both = ua.TimestampsToReturn.Both
        return await session.read(
            ua.ReadParameters(NodesToRead=list(some), TimestampsToReturn=both, MaxAge=0)
        )

    return await _answers(READS, ask, values, most)


async def write(session: UaSession, values: Sequence[ua.WriteValue], most: int) -> list[ua.StatusCode]:
    """Write these. As `read`; where there are several requests and one fails, those before it were sent."""

    async def ask(some: Sequence[ua.WriteValue]) -> list[ua.StatusCode]:
        return await session.write(ua.WriteParameters(NodesToWrite=list(some)))

    return await _answers(WRITES, ask, values, most)


async def monitor(
    session: UaSession, subscription_id: int, items: Sequence[ua.MonitoredItemCreateRequest], most: int
) -> list[ua.MonitoredItemCreateResult]:
    """Add items to a subscription. As `read`."""

    async def ask(some: Sequence[ua.MonitoredItemCreateRequest]) -> list[ua.MonitoredItemCreateResult]:
        return await session.create_monitored_items(
            ua.CreateMonitoredItemsParameters(
                SubscriptionId=ua.IntegerId(subscription_id),
                TimestampsToReturn=ua.TimestampsToReturn.Both,
                ItemsToCreate=list(some),
            )
        )

    return await _answers(ITEMS, ask, items, most)


async def follow(session: UaSession, paths: Sequence[ua.BrowsePath], most: int) -> list[ua.BrowsePathResult]:
    """Where browse paths lead. As `read`."""

    async def ask(some: Sequence[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        return await session.translate_browsepaths_to_nodeids(list(some))

    return await _answers(PATHS, ask, paths, most)


async def browse(
    session: UaSession, nodes: Sequence[ua.BrowseDescription], references: int, most: int
) -> list[ua.BrowseResult]:
    """What nodes refer to. As `read`.

    Parameters
    ----------
    references : of one node in one answer; for the rest there is a continuation point.
    """

    async def ask(some: Sequence[ua.BrowseDescription]) -> list[ua.BrowseResult]:
        return await session.browse(
            ua.BrowseParameters(
                View=ua.ViewDescription(),
                RequestedMaxReferencesPerNode=ua.UInt32(references),
                NodesToBrowse=list(some),
            )
        )

    return await _answers(BROWSES, ask, nodes, most)


async def _answers(
    kind: ua.NodeId, ask: Callable[[Sequence[Q]], Awaitable[list[A]]], questions: Sequence[Q], most: int
) -> list[A]:
    service, limit = NAMES[kind]
    out: list[A] = []
    for some in portions(questions, most):
        try:
            answers = await ask(some)
        except BadTooManyOperations:
            tells = f"its {limit} is {most}" if most > 0 else f"it tells no {limit}"
            raise TooManyOperations(
                f"the server has answered BadTooManyOperations to a {service} of {len(some)} nodes; {tells}"
            ) from None
        if len(answers) != len(some):
            raise UaError(f"{len(answers)} results for {len(some)} nodes of a {service}")
        out += answers
    return out
