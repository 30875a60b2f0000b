"""A GOOSE publisher made of libiec61850, in a process and an environment of its own (GPLv3).

usage: .venv/bin/python publisher.py INTERFACE       (the environment beside this file)

Reads one JSON order a line and answers each with one line of JSON behind `> `; ends when its input does.
"""

import json
import os
import sys
from typing import Any

from pyiec61850 import pyiec61850 as lib

MAKE = {
    "bool": lib.MmsValue_newBoolean,
    "int": lib.MmsValue_newIntegerFromInt32,
    "unsigned": lib.MmsValue_newUnsignedFromUint32,
    "float": lib.MmsValue_newFloat,
    "time_ms": lib.MmsValue_newUtcTimeByMsTime,
}


def value_of(kind: str, told: Any) -> Any:
    if kind == "bits":  # [size, number], the first bit the most significant
        size, number = told
        made = lib.MmsValue_newBitString(size)
        lib.MmsValue_setBitStringFromIntegerBigEndian(made, number)
        return made
    if kind == "structure":
        made = lib.MmsValue_createEmptyStructure(len(told))
        for i, (inner, what) in enumerate(told):
            lib.MmsValue_setElement(made, i, value_of(inner, what))
        return made
    return MAKE[kind](told)


class Publisher:
    """One control block."""

    def __init__(self, interface: str) -> None:
        self.interface, self.made = interface, None

    def open(self, order: dict[str, Any]) -> bool:
        parameters = lib.CommParameters()
        parameters.appId, parameters.vlanId = order["app_id"], order.get("vlan", 0)
        parameters.vlanPriority = 4
        address = bytes.fromhex(order["destination"].replace(":", ""))
        lib.CommParameters_setDstAddress(parameters, *address)
        self.made = lib.GoosePublisher_createEx(parameters, self.interface, "vlan" in order)
        lib.GoosePublisher_setGoCbRef(self.made, order["control_block"])
        lib.GoosePublisher_setDataSetRef(self.made, order["data_set"])
        lib.GoosePublisher_setGoID(self.made, order["go_id"])
        lib.GoosePublisher_setConfRev(self.made, order["conf_rev"])
        lib.GoosePublisher_setTimeAllowedToLive(self.made, order["alive_ms"])
        return True

    def answer(self, order: dict[str, Any]) -> Any:
        match order["do"]:
            case "open":
                return self.open(order)
            case "set":
                for name, told in order["set"].items():
                    getattr(lib, f"GoosePublisher_set{name}")(self.made, told)
            case "publish":
                if order.get("change"):
                    lib.GoosePublisher_increaseStNum(self.made)
                values = lib.LinkedList_create()
                for kind, told in order["values"]:
                    lib.LinkedList_add(values, value_of(kind, told))
                sent = int(lib.GoosePublisher_publish(self.made, values))
                lib.LinkedList_destroyDeep_MmsValueDelete(values)
                return sent
        return True


publisher = Publisher(sys.argv[1])
for line in sys.stdin:
    print(f"> {json.dumps(publisher.answer(json.loads(line)))}", flush=True)
os._exit(0)
