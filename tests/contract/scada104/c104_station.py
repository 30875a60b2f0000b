"""A controlled station made of c104 (lib60870-C, GPLv3), in a process and an environment of its own.

c104_station.py PORT; tells `"ready"` when it listens; then takes one JSON command a line and answers each:
`{"do": "set", "address": 11, "value": 1.5, "quality": ["Invalid"], "at": 1700000000.0, "tell": true}`,
`{"do": "stop"}`, `{"do": "start"}`.
"""

import datetime
import json
import sys
from typing import Any

import c104

POINTS = {
    11: "M_ME_TF_1", 12: "M_ME_NC_1", 13: "M_ME_NB_1", 14: "M_ME_NA_1", 15: "M_SP_TB_1", 16: "M_DP_NA_1",
    17: "M_IT_NA_1", 18: "M_ST_NA_1",
}  # fmt: skip
INFOS = {
    "M_ME_TF_1": c104.ShortInfo, "M_ME_NC_1": c104.ShortInfo, "M_ME_NB_1": c104.ScaledInfo,
    "M_ME_NA_1": c104.NormalizedInfo, "M_SP_TB_1": c104.SingleInfo, "M_DP_NA_1": c104.DoubleInfo,
}  # fmt: skip
NUMBERS = {
    "M_ME_NB_1": lambda v: c104.Int16(int(v)), "M_ME_NA_1": c104.NormalizedFloat, "M_SP_TB_1": bool,
    "M_DP_NA_1": lambda v: list(c104.Double.__members__.values())[int(v)],
}  # fmt: skip


def quality_of(names: list[str]) -> c104.Quality:
    quality = c104.Quality()
    for name in names:
        quality = quality | c104.Quality.__members__[name]
    return quality


def main() -> None:
    server = c104.Server(ip="127.0.0.1", port=int(sys.argv[1]), tick_rate_ms=50)
    station = server.add_station(common_address=47)
    points = {
        a: station.add_point(io_address=a, type=c104.Type.__members__[kind]) for a, kind in POINTS.items()
    }
    server.start()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)
        if ask["do"] in ("stop", "start"):
            getattr(server, ask["do"])()
        else:
            point = points[ask["address"]]
            kind = POINTS[ask["address"]]
            at = ask.get("at")
            recorded = None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC)
            if kind == "M_IT_NA_1":
                point.info = c104.BinaryCounterInfo(
                    int(ask["value"]), c104.UInt5(3), c104.BinaryCounterQuality(), recorded_at=recorded
                )
            else:
                value = NUMBERS.get(kind, float)(ask["value"])
                point.info = INFOS[kind](
                    value, quality=quality_of(ask.get("quality", [])), recorded_at=recorded
                )
            if ask.get("tell"):
                point.transmit(cause=c104.Cot.SPONTANEOUS)
        print(json.dumps(True), flush=True)


main()
