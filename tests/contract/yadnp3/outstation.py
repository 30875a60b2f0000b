"""An outstation made of opendnp3 (Apache-2.0; the fork yadnp3), in an environment of its own.

usage: .venv/bin/python outstation.py PORT EVENTS UNSOLICITED       (the environment beside this file)

Sixteen points of each kind; 64 events are kept of each where EVENTS is 64. Reads one JSON order a line and
answers each with one line of JSON behind `> `; ends when its input does.
"""

import json
import os
import sys
from typing import Any, ClassVar

import opendnp3 as dnp

POINTS, MASTER, OUTSTATION = 16, 1, 10
CONFIRM_MS = dnp.TimeDuration.Milliseconds(1000)


class Commands(dnp.ICommandHandler):  # type: ignore[misc]
    """Carries commands out, or says why not, and shows them as the status of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.refusing = dnp.CommandStatus.SUCCESS
        self.refusing_select = dnp.CommandStatus.SUCCESS
        self.seen: list[list[Any]] = []
        self.station: Any = None
        self.held: dict[str, Any] = {}  # what each point is now, by kind and index

    def Begin(self) -> None: ...
    def End(self) -> None: ...

    def note(self, kind: str, command: Any, index: int) -> None:
        if isinstance(command, dnp.ControlRelayOutputBlock):
            code = f"{command.opType.name} {command.tcc.name} {command.count} {command.onTimeMS}"
            self.seen.append([kind, type(command).__name__, index, code])
        else:
            self.seen.append([kind, type(command).__name__, index, command.value])

    def Select(self, command: Any, index: int) -> Any:
        self.note("select", command, index)
        return self.refusing_select

    def Operate(self, command: Any, index: int, handler: Any, kind: Any) -> Any:
        self.note(kind.name, command, index)
        if self.refusing != dnp.CommandStatus.SUCCESS:
            return self.refusing
        changes = dnp.UpdateBuilder()
        if isinstance(command, dnp.ControlRelayOutputBlock):
            on = command.opType == dnp.OperationType.LATCH_ON or command.tcc == dnp.TripCloseCode.CLOSE
            changes.Update(dnp.BinaryOutputStatus(on), index)
            self.held[f"bo {index}"] = on
        else:
            changes.Update(dnp.AnalogOutputStatus(float(command.value)), index)
            self.held[f"ao {index}"] = command.value
        self.station.Apply(changes.Build())
        return dnp.CommandStatus.SUCCESS


class Application(dnp.IOutstationApplication):  # type: ignore[misc]
    """What the device itself says, and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[str, bool] = {}
        self.clock_ms: list[int] = []

    def SupportsWriteAbsoluteTime(self) -> bool:
        return True

    def WriteAbsoluteTime(self, timestamp: Any) -> bool:
        self.clock_ms.append(
            int(timestamp.msSinceEpoch if hasattr(timestamp, "msSinceEpoch") else timestamp.value)
        )
        self.says["needTime"] = False
        return True

    def SupportsWriteTimeAndInterval(self) -> bool:
        return False

    def SupportsAssignClass(self) -> bool:
        return False

    def GetApplicationIIN(self) -> Any:
        told = dnp.ApplicationIIN()
        for name, value in self.says.items():
            setattr(told, name, value)
        return told

    def ColdRestartSupport(self) -> Any:
        return dnp.RestartMode.UNSUPPORTED

    def WarmRestartSupport(self) -> Any:
        return dnp.RestartMode.UNSUPPORTED

    def Now(self) -> Any:
        return dnp.DNPTime(0)


class Outstation:
    """The outstation, and what is ordered of it."""

    KINDS: ClassVar = {
        "analog": lambda v: dnp.Analog(float(v)),
        "binary": lambda v: dnp.Binary(bool(v)),
        "counter": lambda v: dnp.Counter(int(v)),
        "double": lambda v: dnp.DoubleBitBinary(getattr(dnp.DoubleBit, v)),
        "ao": lambda v: dnp.AnalogOutputStatus(float(v)),
        "bo": lambda v: dnp.BinaryOutputStatus(bool(v)),
    }

    def __init__(self, port: int, events: int, unsolicited: bool) -> None:
        self.manager = dnp.DNP3Manager(1)
        self.channel = self.manager.AddTCPServer(
            "server",
            dnp.levels.NOTHING,
            dnp.ServerAcceptMode.CloseExisting,
            dnp.IPEndpoint("127.0.0.1", port),
            None,
        )
        config = dnp.OutstationStackConfig(dnp.DatabaseConfig(POINTS))
        config.outstation.eventBufferConfig = dnp.EventBufferConfig.AllTypes(events)
        config.outstation.params.allowUnsolicited = unsolicited
        # On a busy machine it may lose a confirmation (CONFIRM_PAUSE_S), and shall not wait for it for long.
        params = config.outstation.params
        params.solConfirmTimeout = params.unsolConfirmTimeout = CONFIRM_MS
        config.link.LocalAddr, config.link.RemoteAddr = OUTSTATION, MASTER
        self.commands, self.application = Commands(), Application()
        self.station = self.channel.AddOutstation("outstation", self.commands, self.application, config)
        self.commands.station = self.station
        self.station.Enable()

    def put(self, rows: list[list[Any]]) -> bool:
        changes = dnp.UpdateBuilder()
        for kind, index, value, flags, at_ms in rows:
            made = self.KINDS[kind](value)
            state = made.flags.value & {"binary": 0x80, "bo": 0x80, "double": 0xC0}.get(kind, 0)
            made.flags, made.time = dnp.Flags(state | flags), dnp.DNPTime(at_ms)
            changes.Update(made, index)
            self.commands.held[f"{kind} {index}"] = value
        self.station.Apply(changes.Build())
        return True

    def obey(self, do: str, **more: Any) -> Any:
        match do:
            case "put":
                return self.put(more["rows"])
            case "get":
                return self.commands.held[more["point"]]
            case "refuse":
                self.commands.refusing = getattr(dnp.CommandStatus, more["status"])
                self.commands.refusing_select = getattr(dnp.CommandStatus, more.get("select", "SUCCESS"))
            case "says":
                self.application.says = more["bits"]
            case "restart":
                self.station.SetRestartIIN()
            case "clock":
                told, self.application.clock_ms = self.application.clock_ms, []
                return told
            case "seen":
                seen, self.commands.seen = self.commands.seen, []
                return seen
        return True


def main() -> None:
    port, events, unsolicited = sys.argv[1:]
    outstation = Outstation(int(port), int(events), unsolicited == "yes")
    print("> true", flush=True)
    for line in sys.stdin:
        print(f"> {json.dumps(outstation.obey(**json.loads(line)))}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
