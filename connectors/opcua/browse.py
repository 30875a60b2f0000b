"""What an OPC UA server holds below its folder Objects: variables as a point map names them, and values."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from connectors.link import LinkError
from connectors.opcua import limits
from connectors.opcua.client import OpcUaLink
from connectors.opcua.nodes import HIERARCHICAL, OBJECTS
from connectors.opcua.values import FAULTS, words
from connectors.plain_text import plain
from ems.clock import SystemClock
from ems.site import Connection
from ems.ua_path import path_text

SERVER = ua.NodeId.from_string("i=2253")  # what a server tells of itself: no point of a plant
AT_ONCE = 50  # nodes in one request
REFERENCES = 500  # of one node in one answer; the rest is asked for on its own
NODES_MAX = 100_000
DEPTH_MAX = 50
TEXT_MAX, PLACE_MAX = 60, 1000  # characters
WRITABLE = 2  # bit of UserAccessLevel
_TOLD = (AttributeIds.Value, AttributeIds.UserAccessLevel)


class Line(NamedTuple):
    """One variable: its address and type in a point map, and what is there now."""

    place: str
    type_name: str
    about: str


class _Found(NamedTuple):
    node: ua.NodeId
    steps: tuple[tuple[int, str], ...]  # browse names from Objects on, by index of their namespace
    is_variable: bool


class _Closed(NamedTuple):
    node: ua.NodeId
    why: str


class _Asker(NamedTuple):
    session: UaSession
    limits: limits.Limits

    @property
    def variables_max(self) -> int:
        """Of which one request reads all that is told of them; 0: the server has said nothing."""
        most = self.limits.reads_max
        return max(1, most // len(_TOLD)) if most > 0 else 0


async def browse(connection: Connection, host: str, port: int) -> AsyncIterator[Line]:
    """Every variable, folder by folder, each once; the server's own diagnostics are left out.

    Raises
    ------
    LinkError : it cannot be reached, is not who was agreed, or tells more nodes than can be true.
    """
    link = OpcUaLink(
        connection, [], host=host, port=port, timeout_s=connection.timeout_s, now=SystemClock().now
    )
    await link.connect()
    try:
        asker = _Asker(link.session, link.operation_limits)
        async for line in _walk(asker, link.namespaces, connection.timeout_s):
            yield line
    except FAULTS as error:
        raise LinkError(f"it cannot be browsed: {words(error)}") from None
    finally:
        await link.disconnect()


async def _walk(asker: _Asker, namespaces: Sequence[str], timeout_s: float) -> AsyncIterator[Line]:
    known = {OBJECTS, SERVER}
    level = [_Found(OBJECTS, (), is_variable=False)]
    for _ in range(DEPTH_MAX):
        below: list[_Found] = []
        for some in _batches(level, asker.limits.browses_max):
            async with asyncio.timeout(timeout_s):
                told, faults = await _children(asker, some)
            for fault in faults:
                yield Line(plain(_address(fault.node, namespaces), PLACE_MAX), "-", fault.why)
            found = [f for f in told if f.node not in known]
            found = list({f.node: f for f in found}.values())
            known |= {f.node for f in found}
            if len(known) > NODES_MAX:
                raise LinkError(f"it tells more than {NODES_MAX} nodes")
            for few in _batches([f for f in found if f.is_variable], asker.variables_max):
                async with asyncio.timeout(timeout_s):
                    lines = await _lines(asker, few, namespaces)
                for line in lines:
                    yield line
            below += found
        if not below:
            return
        level = below
    raise LinkError(f"its nodes go on below the {DEPTH_MAX}th")


def _batches(found: Sequence[_Found], most: int) -> Iterator[Sequence[_Found]]:
    """So many that one request asks for them, within its time; 0: the server has said nothing."""
    return limits.portions(found, min(most, AT_ONCE) if most > 0 else AT_ONCE)


async def _children(asker: _Asker, parents: Sequence[_Found]) -> tuple[list[_Found], list[_Closed]]:
    """What the nodes refer to on this server, in their order, and those of which it is not told."""
    asked = [
        ua.BrowseDescription(
            NodeId=p.node,
            BrowseDirection=ua.BrowseDirection.Forward,
            ReferenceTypeId=HIERARCHICAL,
            NodeClassMask=ua.UInt32(ua.NodeClass.Object | ua.NodeClass.Variable),
            ResultMask=ua.UInt32(ua.BrowseResultMask.All),
        )
        for p in parents
    ]
    results = await limits.browse(asker.session, asked, REFERENCES, asker.limits.browses_max)
    out: list[_Found] = []
    closed: list[_Closed] = []
    for parent, result in zip(parents, results, strict=True):
        if not result.StatusCode.is_good():
            if len(parents) == 1:
                closed.append(_Closed(parent.node, f"cannot be browsed: {result.StatusCode.name}"))
                continue
            found, more = await _children(asker, [parent])  # alone: too many at once may be its reason
            out, closed = out + found, closed + more
            continue
        for reference in await _whole(asker.session, result):
            name, target = reference.BrowseName, reference.NodeId
            if isinstance(target, ua.ExpandedNodeId) and (target.ServerIndex or target.NamespaceUri):
                continue  # of another server
            node = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
            steps = (*parent.steps, (name.NamespaceIndex, name.Name or ""))
            out.append(_Found(node, steps, reference.NodeClass == ua.NodeClass.Variable))
    return out, closed


async def _whole(session: UaSession, result: ua.BrowseResult) -> list[ua.ReferenceDescription]:
    """All references of a node, also those that did not fit into the first answer."""
    found = list(result.References or [])
    point = result.ContinuationPoint
    while point:
        question = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=[point])
        (more,) = await session.browse_next(question)
        more.StatusCode.check()
        found += more.References or []
        if len(found) > NODES_MAX or (more.ContinuationPoint and not more.References):
            raise UaError("the references of one node have no end")
        point = more.ContinuationPoint
    return found


async def _lines(asker: _Asker, variables: Sequence[_Found], namespaces: Sequence[str]) -> list[Line]:
    asked = [ua.ReadValueId(NodeId=f.node, AttributeId=a) for f in variables for a in _TOLD]
    told = await limits.read(asker.session, asked, asker.limits.reads_max)
    return [_line(f, told[2 * i], told[2 * i + 1], namespaces) for i, f in enumerate(variables)]


def _line(found: _Found, value: ua.DataValue, access: ua.DataValue, namespaces: Sequence[str]) -> Line:
    level = None if access.Value is None else access.Value.Value
    writable = isinstance(level, int) and bool(level & WRITABLE)
    steps = [(_uri(i, namespaces), name) for i, name in found.steps]
    path = path_text(steps) if all(name and not {";", "}"} & set(uri) for uri, name in steps) else ""
    about = [_value(value), *(["writable"] if writable else []), path]
    place = plain(_address(found.node, namespaces), PLACE_MAX)
    return Line(place, _type(value), plain("; ".join(a for a in about if a), 2 * PLACE_MAX))


def _address(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """As a point map writes it: by the URI of its namespace."""
    text = node.to_string()
    if node.NamespaceIndex == 0:
        return text
    return f"nsu={_uri(node.NamespaceIndex, namespaces)};{text.partition(';')[2]}"


def _uri(index: int, namespaces: Sequence[str]) -> str:
    if index >= len(namespaces):
        raise UaError(f"a node of namespace {index}, the server has {len(namespaces)}")
    return namespaces[index]


def _type(value: ua.DataValue) -> str:
    """The type that is sent, which a map names; an array says how long it is."""
    variant = value.Value
    if variant is None or variant.VariantType is ua.VariantType.Null:
        return "-"
    many = isinstance(variant.Value, list)
    return f"{variant.VariantType.name}[{len(variant.Value)}]" if many else str(variant.VariantType.name)


def _value(value: ua.DataValue) -> str:
    if value.StatusCode is not None and not value.StatusCode.is_good():
        return str(value.StatusCode.name)
    raw: Any = None if value.Value is None else value.Value.Value
    if isinstance(raw, ua.EUInformation):
        raw = raw.DisplayName.Text
    if isinstance(raw, ua.LocalizedText):
        raw = raw.Text
    if isinstance(raw, datetime):
        raw = f"{raw:%Y-%m-%d %H:%M:%S} UTC"
    text = f"{raw:g}" if isinstance(raw, float) else "" if raw is None else str(raw)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."
