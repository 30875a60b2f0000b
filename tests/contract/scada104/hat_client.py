"""A controlling station made of hat-drivers (Apache-2.0, pure Python), in an environment of its own.

hat_client.py; takes one JSON command a line and answers each with one JSON line, like `c104_client.py`.
"""

import asyncio
import json
import sys
from typing import Any

from hat.drivers import iec104, tcp

heard: list[dict[str, Any]] = []


def told(msg: Any) -> dict[str, Any]:
    """What arrived, as hat-drivers decodes it."""
    out: dict[str, Any] = {"how": type(msg).__name__, "cause": getattr(msg.cause, "name", str(msg.cause))}
    for name in ("asdu_address", "io_address", "originator_address", "request", "is_negative_confirm"):
        if hasattr(msg, name):
            out[name] = getattr(msg, name)
    data = getattr(msg, "data", None) or getattr(msg, "command", None)
    if data is not None:
        value = data.value
        out["value"] = getattr(value, "name", None) or getattr(value, "value", value)
        if hasattr(data, "quality"):
            out["bad"] = sorted(k for k, v in data.quality._asdict().items() if v is True)
    if getattr(msg, "time", None) is not None:
        out["at"] = iec104.time_to_datetime(msg.time).timestamp()
    return out


async def listen(connection: iec104.Connection) -> None:
    while True:
        heard.extend(told(m) for m in await connection.receive())


async def do(what: str, ask: dict[str, Any], state: dict[str, Any]) -> Any:
    if what == "connect":
        state["connection"] = await iec104.connect(tcp.Address("127.0.0.1", ask["port"]))
        state["listening"] = asyncio.create_task(listen(state["connection"]))
        return True
    if what == "heard":
        out = list(heard)
        heard.clear()
        return out
    common = {"is_test": False, "originator_address": 5, "asdu_address": ask["station"]}
    act = iec104.CommandReqCause.ACTIVATION
    if what == "interrogate":
        msg: Any = iec104.InterrogationMsg(request=20, is_negative_confirm=False, cause=act, **common)
    elif what == "counters":
        msg = iec104.CounterInterrogationMsg(
            request=5, freeze=iec104.FreezeCode.READ, is_negative_confirm=False, cause=act, **common
        )
    else:
        msg = iec104.CommandMsg(
            io_address=ask["address"],
            command=iec104.FloatingCommand(iec104.FloatingValue(ask["value"]), select=ask["select"]),
            is_negative_confirm=False,
            time=None,
            cause=act,
            **common,
        )
    await state["connection"].send([msg])
    return None


async def main() -> None:
    print(json.dumps("ready"), flush=True)
    state: dict[str, Any] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        ask = json.loads(line)
        print(json.dumps(await do(ask.pop("do"), ask, state)), flush=True)


asyncio.run(main())
