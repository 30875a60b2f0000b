"""Values of a server's history, in the order of their times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua

from connectors.link import LinkError
from connectors.opcua.history import raw_history

START = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """Answers each question with what lies between its times, in the order in which it is kept."""

    def __init__(self, kept: Sequence[tuple[float, float]]) -> None:
        self.kept = [(START + timedelta(seconds=t_s), value) for t_s, value in kept]

    async def history_read(self, asked: Any) -> list[ua.HistoryReadResult]:
        details = asked.HistoryReadDetails
        first, last = (t.replace(tzinfo=UTC) for t in (details.StartTime, details.EndTime))
        values = [
            ua.DataValue(
                ua.Variant(value, ua.VariantType.Double),
                SourceTimestamp=ua.DateTime.fromtimestamp(at.timestamp(), UTC),
            )
            for at, value in self.kept
            if first <= at < last
        ]
        return [ua.HistoryReadResult(HistoryData=ua.HistoryData(DataValues=values))]


async def told(kept: Sequence[tuple[float, float]]) -> list[float | None]:
    link: Any = SimpleNamespace(session=Server(kept))
    end = START + timedelta(hours=1)
    return [x.value async for x in raw_history(link, ua.NodeId(ua.Int32(1)), START, end, timeout_s=1.0)]


async def test_of_values_of_one_time_the_first_is_taken():
    assert await told([(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (3.0, 4.0), (3.0, 5.0)]) == [1.0, 2.0, 4.0]


async def test_values_that_run_backwards_are_refused():
    with pytest.raises(LinkError, match="comes after"):
        await told([(1.0, 1.0), (3.0, 2.0), (2.0, 3.0)])
