"""An IEC 61850 server made of libiec61850, in a process and an environment of its own (GPLv3).

usage: .venv/bin/python server.py PORT       (the environment beside this file)

Reads one JSON order a line and answers each with one line of JSON behind `> `; listens when told to, and
ends when its input does.
"""

import json
import os
import sys
import time
from typing import Any

from pyiec61850 import pyiec61850 as lib

ORIGIN = lib.CDC_CTL_OPTION_ORIGIN | lib.CDC_CTL_OPTION_CTL_NUM
CANCEL = lib.CDC_CTL_MODEL_HAS_CANCEL
MODELS = {  # name -> (how its objects are made, what they say)
    "None": (lib.CDC_CTL_MODEL_DIRECT_NORMAL, lib.CONTROL_MODEL_STATUS_ONLY),
    "Direct": (lib.CDC_CTL_MODEL_DIRECT_NORMAL, lib.CONTROL_MODEL_DIRECT_NORMAL),
    "Sbo": (lib.CDC_CTL_MODEL_SBO_NORMAL | CANCEL, lib.CONTROL_MODEL_SBO_NORMAL),
    "DirectEnhanced": (lib.CDC_CTL_MODEL_DIRECT_ENHANCED, lib.CONTROL_MODEL_DIRECT_ENHANCED),
    "Timed": (
        lib.CDC_CTL_MODEL_DIRECT_NORMAL | lib.CDC_CTL_MODEL_IS_TIME_ACTIVATED,
        lib.CONTROL_MODEL_DIRECT_NORMAL,
    ),
    "SboEnhanced": (lib.CDC_CTL_MODEL_SBO_ENHANCED | CANCEL, lib.CONTROL_MODEL_SBO_ENHANCED),
}
PUT = {
    "float": lib.IedServer_updateFloatAttributeValue,
    "int": lib.IedServer_updateInt32AttributeValue,
    "bool": lib.IedServer_updateBooleanAttributeValue,
    "text": lib.IedServer_updateVisibleStringAttributeValue,
    "quality": lib.IedServer_updateQuality,
    "dbpos": lib.IedServer_updateDbposValue,
}
GET = {
    "float": lib.IedServer_getFloatAttributeValue,
    "int": lib.IedServer_getInt32AttributeValue,
    "bool": lib.IedServer_getBooleanAttributeValue,
    "dbpos": lib.IedServer_getBitStringAttributeValue,
}
DATA_SETS = {
    "Objects": ("MMXU1$MX$TotW", "MMXU1$MX$PhV", "ZBAT1$MX$Soc"),
    "Events": ("GGIO1$ST$Ind1", "MMXU1$MX$TotW"),
    "Parts": ("GGIO1$ST$IntIn1$stVal", "GGIO1$ST$IntIn1$q", "GGIO1$ST$Ind1$stVal", "GGIO1$SP$WSet"),
}
STATUS = {  # kind of control -> (its status, how that is told, how the value of a command is read)
    "An": ("mxVal.f", "float", lambda v: lib.MmsValue_toFloat(lib.MmsValue_getElement(v, 0))),
    "Sp": ("stVal", "bool", lib.MmsValue_getBoolean),
    "Dp": ("stVal", "dbpos", lambda v: 2 if lib.MmsValue_getBoolean(v) else 1),
    "In": ("stVal", "int", lib.MmsValue_toInt32),
}


class Handler(lib.ControlHandlerForPython):  # type: ignore[misc]
    """Carries a command out: its value becomes the status."""

    def __init__(self, device: "Device", name: str) -> None:
        super().__init__()
        self.device, self.name = device, name

    def trigger(self) -> None:
        self._libiec61850_control_handler_result = self.device.carry_out(
            self.name, self._libiec61850_mms_value
        )


class Check(lib.CheckHandlerForPython):  # type: ignore[misc]
    """Accepts a selection or a command, or says why not."""

    def __init__(self, device: "Device") -> None:
        super().__init__()
        self.device = device

    def trigger(self) -> None:
        action = self._libiec61850_control_action
        self.device.seen.append([lib.ControlAction_getOrCat(action), lib.ControlAction_getCtlNum(action)])
        if self.device.refusing:
            lib.ControlAction_setAddCause(action, self.device.refusing)
            self._libiec61850_check_handler_result = lib.CONTROL_OBJECT_ACCESS_DENIED
        else:
            self._libiec61850_check_handler_result = lib.CONTROL_ACCEPTED
            self.device.accepted += not lib.ControlAction_isSelect(action)


class Device:
    """A storage unit with one control of each kind and model."""

    def __init__(self) -> None:
        self.refusing = 0  # AddCause of every command
        self.failing = False
        self.accepted = self.done = 0  # commands; with normal security they are answered before they are done
        self.seen: list[list[int]] = []  # orCat and ctlNum of each selection and command
        self.kept: list[Any] = []  # what the library points to
        self.controls: list[tuple[str, int]] = []
        self.model = lib.IedModel_create("BESS")
        ld = lib.LogicalDevice_create("DER", self.model)

        def node(name: str) -> Any:
            return lib.toModelNode(lib.LogicalNode_create(name, ld))

        first = lib.LogicalNode_create("LLN0", ld)
        named = lib.toModelNode(first)
        lib.CDC_ENS_create("Mod", named, 0)
        dpl = lib.CDC_OPTION_DPL_SERNUM | lib.CDC_OPTION_DPL_SWREV | lib.CDC_OPTION_DPL_MODEL
        lib.CDC_DPL_create("PhyNam", node("LPHD1"), dpl)
        mmxu = node("MMXU1")
        lib.CDC_MV_create("TotW", mmxu, 0, False)
        lib.CDC_WYE_create("PhV", mmxu, 0)
        lib.CAC_Unit_create("units", lib.toModelNode(lib.CDC_MV_create("TotVA", mmxu, 0, False)), True)
        lib.CDC_MV_create("Soc", node("ZBAT1"), 0, True)
        ggio = node("GGIO1")
        lib.CDC_INS_create("IntIn1", ggio, 0)
        lib.CDC_SPS_create("Ind1", ggio, 0)
        lib.CDC_DPS_create("Pos1", ggio, 0)
        lib.CDC_ASG_create("WSet", ggio, 0, False)
        for name, (made, told) in MODELS.items():
            lib.CDC_APC_create(f"An{name}", ggio, 0, ORIGIN | made, False)
            lib.CDC_SPC_create(f"Sp{name}", ggio, 0, ORIGIN | made)
            lib.CDC_DPC_create(f"Dp{name}", ggio, 0, ORIGIN | made)
            lib.CDC_INC_create(f"In{name}", ggio, 0, ORIGIN | made)
            self.controls += [(f"{kind}{name}", told) for kind in STATUS]
        self.reporting(first)
        self.server = lib.IedServer_create(self.model)

    def reporting(self, node: Any) -> None:
        """Blocks that report whole objects, and single attributes."""
        for name, members in DATA_SETS.items():
            held = lib.DataSet_create(name, node)
            for member in members:
                self.kept.append(lib.DataSetEntry_create(held, member, -1, None))
        every = (
            lib.TRG_OPT_DATA_CHANGED | lib.TRG_OPT_QUALITY_CHANGED | lib.TRG_OPT_INTEGRITY | lib.TRG_OPT_GI
        )
        options = lib.RPT_OPT_SEQ_NUM
        for name, held in (("urcbObjects", "Objects"), ("urcbParts", "Parts")):
            self.kept.append(
                lib.ReportControlBlock_create(name, node, name, False, held, 1, every, options, 0, 0)
            )
        changes = lib.TRG_OPT_DATA_CHANGED | lib.TRG_OPT_QUALITY_CHANGED
        for name, held in (("brcbEvents", "Events"), ("brcbParts", "Parts")):
            self.kept.append(
                lib.ReportControlBlock_create(name, node, name, True, held, 1, changes, options, 0, 0)
            )

    def node(self, reference: str) -> Any:
        found = lib.IedModel_getModelNodeByObjectReference(self.model, reference)
        assert found is not None, reference
        return found

    def attribute(self, reference: str) -> Any:
        return lib.toDataAttribute(self.node(reference))

    def start(self, port: int) -> bool:
        self.policy(True)
        for name, told in self.controls:
            reference = f"BESSDER/GGIO1.{name}"
            lib.IedServer_updateInt32AttributeValue(
                self.server, self.attribute(f"{reference}.ctlModel"), told
            )
            if told == lib.CONTROL_MODEL_STATUS_ONLY:
                continue
            subscriber, handler, check = lib.ControlSubscriberForPython(), Handler(self, name), Check(self)
            subscriber.setIedServer(self.server)
            subscriber.setControlObject(lib.toDataObject(self.node(reference)))
            subscriber.setControlHandler(handler)
            subscriber.setCheckHandler(check)
            subscriber.subscribe()
            self.kept += [subscriber, handler, check]
        lib.IedServer_start(self.server, port)
        return bool(lib.IedServer_isRunning(self.server))

    def policy(self, allow: bool) -> None:
        policy = lib.ACCESS_POLICY_ALLOW if allow else lib.ACCESS_POLICY_DENY
        lib.IedServer_setWriteAccessPolicy(self.server, lib.IEC61850_FC_SP, policy)

    def carry_out(self, name: str, value: Any) -> Any:
        if not self.failing:
            status, kind, told = STATUS[name[:2]]
            PUT[kind](self.server, self.attribute(f"BESSDER/GGIO1.{name}.{status}"), told(value))
        self.done += 1
        return lib.CONTROL_RESULT_FAILED if self.failing else lib.CONTROL_RESULT_OK

    def obey(self, do: str, **more: Any) -> Any:
        match do:
            case "listen":
                return self.start(int(sys.argv[1]))
            case "put":
                PUT[more["kind"]](self.server, self.attribute(more["ref"]), more["value"])
            case "change":  # of Ind1, with its time, in one moment as devices do
                for value, at_ms in more["rows"]:
                    lib.IedServer_lockDataModel(self.server)
                    self.obey("time", ref="BESSDER/GGIO1.Ind1.t", ms=at_ms, **more["clock"])
                    self.obey("put", kind="bool", ref="BESSDER/GGIO1.Ind1.stVal", value=value)
                    lib.IedServer_unlockDataModel(self.server)
            case "time":
                stamp = lib.Timestamp_create()
                lib.Timestamp_clearFlags(stamp)
                lib.Timestamp_setTimeInMilliseconds(stamp, more["ms"])
                lib.Timestamp_setClockNotSynchronized(stamp, more["unsynchronised"])
                lib.Timestamp_setClockFailure(stamp, more["failed"])
                lib.IedServer_updateTimestampAttributeValue(self.server, self.attribute(more["ref"]), stamp)
            case "get":
                for _ in range(2000):
                    if self.done >= self.accepted:
                        break
                    time.sleep(0.001)
                return GET[more["kind"]](self.server, self.attribute(more["ref"]))
            case "refuse":
                self.refusing = more["cause"]
                self.policy(not self.refusing)
            case "fail":
                self.failing = more["value"]
            case "seen":
                seen, self.seen = self.seen, []
                return seen
        return True


def main() -> None:
    device = Device()
    print("> true", flush=True)
    for line in sys.stdin:
        print(f"> {json.dumps(device.obey(**json.loads(line)))}", flush=True)
    os._exit(0)  # the library ends badly where its handlers are taken down


if __name__ == "__main__":
    main()
