"""A controlling station made of c104 (lib60870-C, GPLv3), in a process and an environment of its own.

c104_client.py; takes one JSON command a line and answers each with one JSON line:
`{"do": "connect", "port": ...}` and what `Scada.do` has a branch for. What arrives meanwhile is kept and
asked for with `{"do": "heard"}`: objects with type, address, cause, value, quality, time, as c104 decodes it.
"""

import json
import sys
import threading
import time
from typing import Any

import c104

heard: list[dict[str, Any]] = []
lock = threading.Lock()


def kept(how: str, message: c104.IncomingMessage) -> None:
    with lock:
        while True:
            info = message.info
            at = getattr(info, "recorded_at", None)
            quality = getattr(info, "quality", None)
            heard.append(
                {
                    "how": how,
                    "type": message.type.name,
                    "address": message.io_address,
                    "cause": message.cot.name,
                    "negative": message.is_negative,
                    "station": message.common_address,
                    "value": plain(getattr(info, "value", None)),
                    "quality": None if quality is None else str(quality),
                    "at": None if at is None else at.timestamp(),
                }
            )
            if not message.next():
                return


def plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def on_receive(
    point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage
) -> c104.ResponseState:
    kept("point", message)
    return c104.ResponseState.SUCCESS


def on_unexpected(connection: c104.Connection, message: c104.IncomingMessage, cause: c104.Umc) -> None:
    kept(cause.name, message)


def on_initialized(client: c104.Client, station: c104.Station, cause: c104.Coi) -> None:
    with lock:
        heard.append({"how": "initialized", "station": station.common_address, "cause": cause.name})


class Scada:
    def __init__(self) -> None:
        self.client: c104.Client | None = None
        self.connection: c104.Connection | None = None

    def connect(
        self,
        port: int,
        station: int,
        points: dict[str, str],
        commands: dict[str, str],
        init: str = "NONE",
        timeout_ms: int = 10_000,
    ) -> bool:
        self.client = c104.Client(tick_rate_ms=50, command_timeout_ms=timeout_ms)
        self.client.on_station_initialized(callable=on_initialized)
        self.connection = self.client.add_connection(
            ip="127.0.0.1", port=port, init=c104.Init.__members__[init]
        )
        self.connection.on_unexpected_message(callable=on_unexpected)
        made = self.connection.add_station(common_address=station)
        for address, kind in points.items():
            point = made.add_point(io_address=int(address), type=c104.Type.__members__[kind])
            point.on_receive(callable=on_receive)
        for address, mode in commands.items():
            kind, _, mode = mode.partition(" ")
            made.add_point(
                io_address=int(address),
                type=c104.Type.__members__[kind],
                command_mode=c104.CommandMode.__members__[mode],
            )
        self.client.start()
        until = time.monotonic() + 20.0
        while time.monotonic() < until:
            if self.connection.state == c104.ConnectionState.OPEN:
                return True
            # Half of its connections stay muted until they are told not to be.
            if self.connection.state == c104.ConnectionState.OPEN_MUTED:
                self.connection.unmute()
            time.sleep(0.02)
        return False

    def do(self, what: str, ask: dict[str, Any]) -> Any:
        if what == "connect":
            return self.connect(**ask)
        if what == "heard":
            with lock:
                out = list(heard)
                heard.clear()
            return out
        connection = self.connection
        assert connection is not None
        if what == "interrogate":
            return connection.interrogation(
                common_address=ask["station"], qualifier=c104.Qoi.__members__[ask.get("of", "STATION")]
            )
        if what == "counters":
            return connection.counter_interrogation(common_address=ask["station"])
        if what == "clock":
            return connection.clock_sync(common_address=ask["station"])
        if what == "test":
            return connection.test(common_address=ask["station"])
        if what in ("mute", "unmute", "disconnect", "connect_again"):
            getattr(connection, what.replace("connect_again", "connect"))()
            return None
        if what == "state":
            return connection.state.name
        point = connection.get_station(common_address=ask["station"]).get_point(io_address=ask["address"])
        if what == "read":
            return point.read()
        assert what == "tell"
        point.value = ask["value"]
        return point.transmit(cause=c104.Cot.ACTIVATION)


def main() -> None:
    scada = Scada()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        print(json.dumps(scada.do(ask.pop("do"), ask)), flush=True)


main()
