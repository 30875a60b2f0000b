"""A controlled station made of hat-drivers (Apache-2.0, pure Python), in an environment of its own.

hat_station.py PORT; tells `"ready"` when it listens. Its common address is 47; it has a float at 11, a double
point at 16 and a counter at 17, and tells a change of the float, with its time, after each interrogation of
its counters.
"""

import asyncio
import datetime
import json
import sys
from typing import Any

from hat.drivers import iec104, tcp

AT = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
FINE = iec104.MeasurementQuality(
    invalid=False, not_topical=False, substituted=False, blocked=False, overflow=False
)
SEEN = iec104.IndicationQuality(invalid=False, not_topical=False, substituted=False, blocked=False)
COUNTED = iec104.CounterQuality(invalid=False, adjusted=False, overflow=False, sequence=1)


def data(address: int, value: Any, cause: Any, at: Any = None) -> iec104.DataMsg:
    return iec104.DataMsg(
        is_test=False, originator_address=0, asdu_address=47, io_address=address, data=value, time=at,
        cause=cause,
    )  # fmt: skip


def power(kw: float, cause: Any, at: Any = None) -> iec104.DataMsg:
    return data(11, iec104.FloatingData(iec104.FloatingValue(kw), FINE), cause, at)


async def serve(connection: iec104.Connection) -> None:
    while True:
        for msg in await connection.receive():
            con = msg._replace(cause=iec104.CommandResCause.ACTIVATION_CONFIRMATION)
            end = msg._replace(cause=iec104.CommandResCause.ACTIVATION_TERMINATION)
            if isinstance(msg, iec104.InterrogationMsg):
                why = iec104.DataResCause.INTERROGATED_STATION
                breaker = iec104.DoubleData(iec104.DoubleValue.ON, SEEN)
                await connection.send([con, power(-12.5, why), data(16, breaker, why), end])
            elif isinstance(msg, iec104.CounterInterrogationMsg):
                energy = iec104.BinaryCounterData(iec104.BinaryCounterValue(-7), COUNTED)
                why = iec104.DataResCause.INTERROGATED_COUNTER
                stamp = iec104.time_from_datetime(AT)
                change = power(-13.5, iec104.DataResCause.SPONTANEOUS, stamp)
                await connection.send([con, data(17, energy, why), end, change])


async def main() -> None:
    async def connected(connection: iec104.Connection) -> None:
        connection.async_group.spawn(serve, connection)

    await iec104.listen(connected, tcp.Address("127.0.0.1", int(sys.argv[1])))
    print(json.dumps("ready"), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
