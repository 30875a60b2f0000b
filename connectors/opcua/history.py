"""Raw history of a server's nodes (OPC 10000-11 (1.05), 6.5.3): asked page by page."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from connectors.link import LinkError
from connectors.opcua.client import OpcUaLink
from connectors.opcua.nodes import resolve
from connectors.opcua.values import FAULTS, aware, words

PAGE = 5000  # values asked for at once
TICK = timedelta(microseconds=1)  # finest step of our times
EMPTY_MAX = 100  # pages without a value that promise more


class Past(NamedTuple):
    """One value of a history: when (aware, UTC), a number or nothing, and whether it is good."""

    at: datetime
    value: float | None
    good: bool


class NotKept(LinkError):
    """A node whose history cannot be had, or holds something else than numbers."""


async def find(link: OpcUaLink, tags: list[str], timeout_s: float) -> dict[str, ua.NodeId]:
    """Nodes of these addresses, node ids or browse paths; one that leads nowhere is left out.

    Raises
    ------
    LinkError : a namespace is missing, a path is not clear, or the server does not answer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            most = link.operation_limits.paths_max
            return await resolve(link.session, {t: t for t in tags}, link.namespaces, paths_max=most)
    except FAULTS as error:
        raise LinkError(words(error)) from None


async def raw_history(
    link: OpcUaLink, node: ua.NodeId, start: datetime, end: datetime, *, timeout_s: float
) -> AsyncGenerator[Past, None]:
    """Values in [start, end), as the server keeps them, oldest first.

    After the last page the server is asked once more for what is later: one that cuts an answer short without
    saying so is found by that.

    Raises
    ------
    NotKept : the server keeps no history of the node, or of something else than numbers.
    LinkError : it does not answer, or repeats itself.
    """
    last: datetime | None = None
    while True:
        begun = start if last is None else last + TICK
        count = 0
        async for page in _pages(link.session, node, begun, end, timeout_s):
            for raw in page:
                past = _past(raw)
                if not start <= past.at < end:
                    continue
                if last is not None and past.at <= last:
                    if past.at == last or past.at < begun:  # of values of one time the first counts
                        continue
                    raise LinkError(f"history: {past.at} comes after {last}")
                last, count = past.at, count + 1
                yield past
        if not count or last is None or last + TICK >= end:
            return


async def _pages(
    session: UaSession, node: ua.NodeId, start: datetime, end: datetime, timeout_s: float
) -> AsyncGenerator[list[ua.DataValue], None]:
    """Pages of one question, by its continuation points; the last of them is given back if we leave early."""
    point: bytes | None = None
    empty = 0
    try:
        while True:
            result = await _asked(session, _question(node, start, end, point), timeout_s)
            was, point = point, result.ContinuationPoint
            code = result.StatusCode.value
            if code == StatusCodes.BadContinuationPointInvalid and was is not None:
                return  # forgotten by the server: what is missing is asked for from its time on
            if not result.StatusCode.is_good():
                raise NotKept(result.StatusCode.name)
            values = _values(result)
            empty = 0 if values else empty + 1
            if empty > EMPTY_MAX:
                raise LinkError("history: the server promises more and gives nothing")
            yield values
            if not point:
                return
    finally:
        if point:
            release = _question(node, start, end, point)
            release.ReleaseContinuationPoints = True
            await _given_back(session, release, timeout_s)


def _question(
    node: ua.NodeId, start: datetime, end: datetime, point: bytes | None
) -> ua.HistoryReadParameters:
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=start,
        EndTime=end,
        NumValuesPerNode=PAGE,
        ReturnBounds=False,
    )
    value_id = ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point)
    return ua.HistoryReadParameters(
        HistoryReadDetails=details,
        TimestampsToReturn=ua.TimestampsToReturn.Both,
        ReleaseContinuationPoints=False,
        NodesToRead=[value_id],
    )


async def _asked(
    session: UaSession, question: ua.HistoryReadParameters, timeout_s: float
) -> ua.HistoryReadResult:
    try:
        async with asyncio.timeout(timeout_s):
            results = await session.history_read(question)
    except FAULTS as error:
        raise LinkError(f"history: {words(error)}") from None
    if len(results) != 1:
        raise LinkError(f"history: {len(results)} results for one node")
    return results[0]


async def _given_back(session: UaSession, release: ua.HistoryReadParameters, timeout_s: float) -> None:
    """Let the server forget a continuation point; where it does not answer the session ends anyway."""
    try:
        async with asyncio.timeout(timeout_s):
            await session.history_read(release)
    except (OSError, TimeoutError, UaError):
        return


def _values(result: ua.HistoryReadResult) -> list[ua.DataValue]:
    data: Any = result.HistoryData
    if isinstance(data, ua.HistoryData):
        return list(data.DataValues or [])
    if data is None or (isinstance(data, ua.ExtensionObject) and not data.Body):
        return []  # GoodNoData
    raise NotKept(f"{type(data).__name__} instead of HistoryData")


def _past(raw: ua.DataValue) -> Past:
    at = aware(raw.SourceTimestamp) or aware(raw.ServerTimestamp)
    if at is None:
        raise NotKept("a value without a time")
    value = None if raw.Value is None else raw.Value.Value
    if value is not None and not isinstance(value, bool | int | float):
        raise NotKept(f"{type(value).__name__} {value!r:.40}")
    good = raw.StatusCode is None or raw.StatusCode.is_good()
    return Past(at, None if value is None else float(value), good)
