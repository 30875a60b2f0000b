"""A BACnet/IP device made of bacpypes3, in a process and an environment of its own.

device.py PORT DEVICE; tells "> true" when it is up; then takes one JSON command a line and answers each.
"""

import asyncio
import json
import sys
from pathlib import Path

from bacpypes3.app import Application
from bacpypes3.local.analog import AnalogInputObject, AnalogOutputObject, AnalogValueObject
from bacpypes3.local.binary import BinaryInputObject, BinaryOutputObject
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.multistate import MultiStateInputObject, MultiStateValueObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.object import AccumulatorObject, LargeAnalogValueObject
from bacpypes3.pdu import IPv4Address
from bacpypes3.primitivedata import Null, ObjectIdentifier, Real

port, device = int(sys.argv[1]), int(sys.argv[2])
inputs = int(sys.argv[3]) if len(sys.argv) > 3 else 4


def objects() -> list[object]:
    """Made where a loop runs: they begin tasks of their own."""
    return [
        DeviceObject(
            objectIdentifier=f"device,{device}", objectName="peer", vendorIdentifier=999,
            vendorName="Example Chillers", modelName="CH-900", firmwareRevision="2.4",
            applicationSoftwareVersion="7", serialNumber="A-17",
            maxApduLengthAccepted=1476, segmentationSupported="segmentedBoth",
        ),
        NetworkPortObject(
            IPv4Address(f"127.0.0.1:{port}"), objectIdentifier="network-port,1", objectName="port"
        ),
        *(
            AnalogInputObject(
                objectIdentifier=f"analog-input,{i}", objectName=f"measured {i}",
                description=f"power of part {i}",
                presentValue=1.5 + i, units="kilowatts", statusFlags=[0, 0, 0, 0], eventState="normal",
                outOfService=False, reliability="no-fault-detected",
            )
            for i in range(inputs)
        ),
        AnalogOutputObject(
            objectIdentifier="analog-output,1", objectName="setpoint", presentValue=0.0,
            relinquishDefault=12.0, units="kilowatts", statusFlags=[0, 0, 0, 0], eventState="normal",
            outOfService=False,
        ),
        AnalogValueObject(
            objectIdentifier="analog-value,1", objectName="plain", presentValue=5.0, units="percent",
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False,
        ),
        BinaryInputObject(
            objectIdentifier="binary-input,1", objectName="running", presentValue="active",
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False, polarity="normal",
        ),
        BinaryOutputObject(
            objectIdentifier="binary-output,1", objectName="enable", presentValue="inactive",
            relinquishDefault="inactive", statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False,
            polarity="normal",
        ),
        MultiStateInputObject(
            objectIdentifier="multi-state-input,1", objectName="mode", presentValue=3, numberOfStates=4,
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False,
        ),
        MultiStateValueObject(
            objectIdentifier="multi-state-value,1", objectName="state", presentValue=2, numberOfStates=4,
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False,
        ),
        AccumulatorObject(
            objectIdentifier="accumulator,1", objectName="energy", presentValue=65000, units="kilowattHours",
            statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False, scale=None,
            maxPresValue=4294967295,
        ),
        LargeAnalogValueObject(
            objectIdentifier="large-analog-value,1", objectName="total", presentValue=1234567.25,
            units="kilowattHours", statusFlags=[0, 0, 0, 0], eventState="normal", outOfService=False,
        ),
    ]  # fmt: skip


async def main() -> None:
    app = Application.from_object_list(objects())
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():  # it binds when it gets round to it
        await asyncio.sleep(0.01)
    print("> true", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        found = app.objectIdentifier[ObjectIdentifier(order["object"])]
        answer: object = True
        if order["do"] == "set":
            setattr(found, order["property"], order["value"])
        elif order["do"] == "command":
            value = Null(()) if order["value"] is None else Real(order["value"])
            await found.write_property("presentValue", value, None, order["priority"])
        else:
            told = getattr(found, order["property"])
            answer = (
                [None if v.null is not None else v.real for v in told]
                if isinstance(told, list)
                else float(told)
            )
        print("> " + json.dumps(answer), flush=True)


asyncio.run(main())
