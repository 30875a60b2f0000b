"""An engine made of can-j1939 (MIT) on an adapter of python-can (LGPLv3), in an environment of its own.

usage: .venv/bin/python peer.py PORT       (the environment beside this file)

Reads one JSON order a line and answers each with one line of JSON behind `> `; ends when its input does.
"""

import json
import os
import sys
from typing import Any

import j1939


class Engine:
    """One controller application, with an address that it claims."""

    def __init__(self, port: str) -> None:
        self.ecu = j1939.ElectronicControlUnit()
        self.ecu.connect(interface="slcan", channel=port, bitrate=250000, sleep_after_open=0.0)
        self.ca: Any = None
        self.repeated: dict[int, list[int]] = {}
        self.faults: list[dict[str, int]] = []
        self.dm1: Any = None

    def claim(self, address: int, identity: int) -> int:
        name = j1939.Name(
            arbitrary_address_capable=0, industry_group=j1939.Name.IndustryGroup.Industrial,
            vehicle_system_instance=0, vehicle_system=0, function=0, function_instance=0, ecu_instance=0,
            manufacturer_code=100, identity_number=identity,
        )  # fmt: skip
        if self.ca is not None:
            self.ca.stop()
        self.ca = self.ecu.add_ca(name=name, device_address=address)
        self.ca.start()
        return int.from_bytes(bytes(name.bytes), "little")

    def send(self, pgn: int, data: list[int]) -> bool:
        return bool(self.ca.send_pgn(pgn >> 16, pgn >> 8 & 0xFF, pgn & 0xFF, 6, data))

    def repeat(self, cookie: Any) -> bool:
        for pgn, data in list(self.repeated.items()):
            self.send(pgn, data)
        return True

    def active(self) -> tuple[dict[str, int], list[dict[str, int]]]:
        return {"rsl": j1939.DtcLamp.ON, "awl": j1939.DtcLamp.NA}, [dict(f) for f in self.faults]

    def answer(self, order: dict[str, Any]) -> Any:
        match order["do"]:
            case "claim":
                return self.claim(order["address"], order["identity"])
            case "state":
                return int(self.ca.state)
            case "send":
                return bool(self.send(order["pgn"], order["data"]))
            case "repeat":
                first = not self.repeated
                self.repeated = {int(k): v for k, v in order["groups"].items()}
                if first:
                    self.ca.add_timer(0.1, self.repeat)
            case "faults":
                self.faults = order["faults"]
                if self.dm1 is None:
                    self.dm1 = j1939.Dm1(self.ca)
                    self.dm1.start_send(self.active, cycletime=0.2)
        return True


engine = Engine(sys.argv[1])
for line in sys.stdin:
    print(f"> {json.dumps(engine.answer(json.loads(line)))}", flush=True)
os._exit(0)
