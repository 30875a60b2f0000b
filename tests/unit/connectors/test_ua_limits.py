"""What a server tells of its limits, and requests no larger than that."""

from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import BadServiceUnsupported, BadTooManyOperations, UaError

from connectors.opcua.limits import BROWSES, ITEMS, NONE_TOLD, PATHS, READS, WRITES, Limits, portions, told

BAD = ua.StatusCode(ua.UInt32(StatusCodes.BadNodeIdUnknown))


class Session:
    """Answers reads from a table; `refuses` more than so many nodes."""

    def __init__(self, values: dict[ua.NodeId, Any], refuses: int = 100) -> None:
        self.values, self.refuses, self.sizes = values, refuses, list[int]()

    async def read(self, parameters: ua.ReadParameters) -> list[ua.DataValue]:
        nodes = parameters.NodesToRead
        self.sizes.append(len(nodes))
        if len(nodes) > self.refuses:
            raise BadTooManyOperations
        return [self._of(self.values.get(n.NodeId)) for n in nodes]

    def _of(self, value: Any) -> ua.DataValue:
        return ua.DataValue(StatusCode=BAD) if value is None else ua.DataValue(ua.Variant(value))


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (None, 0),
        (0, 0),
        (1, 1),
        (3, 3),
        (2**32 - 1, 2**32 - 1),
        (-1, 1),
        (2.5, 0),
        (True, 0),
        ("3", 0),
        ([3], 0),
    ],
)
async def test_told_each_kind_of_number_what_it_means(raw, wanted):
    limits = await told(cast(Any, Session({WRITES: raw})))
    assert limits == Limits(writes_max=wanted)


async def test_told_all_of_them_read_no_more_at_once_than_it_says():
    session = Session({READS: 2, WRITES: 3, ITEMS: 4, PATHS: 5, BROWSES: 6}, refuses=2)
    limits = await told(cast(Any, session))
    assert limits == Limits(reads_max=2, writes_max=3, items_max=4, paths_max=5, browses_max=6)
    assert session.sizes == [1, 2, 2]


async def test_told_refused_none_that_we_know_of():
    class Refusing(Session):
        async def read(self, parameters: ua.ReadParameters) -> list[ua.DataValue]:
            raise BadServiceUnsupported

    assert await told(cast(Any, Refusing({}))) == NONE_TOLD
    assert await told(cast(Any, Session({}, refuses=1))) == NONE_TOLD


async def test_told_fewer_answers_than_questions_not_believed():
    class Short(Session):
        async def read(self, parameters: ua.ReadParameters) -> list[ua.DataValue]:
            return (await super().read(parameters))[1:]

    with pytest.raises(UaError, match="0 results for 1 nodes of a Read"):
        await told(cast(Any, Short({})))


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [
        (0, 0, []),
        (0, 3, []),
        (5, 0, [5]),
        (5, 1, [1, 1, 1, 1, 1]),
        (5, 2, [2, 2, 1]),
        (5, 5, [5]),
        (5, 9, [5]),
    ],
)
def test_portions_all_in_their_order(count, most, sizes):
    got = list(portions(range(count), most))
    assert [len(p) for p in got] == sizes
    assert [i for p in got for i in p] == list(range(count))
