"""The pace of an edge without its decisions, for devices that poll by themselves."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.field import FieldIO
from ems.clock import Clock, SystemClock
from ems.commands import Command, WriteOutcome
from ems.site import Protocol as Wire
from ems.site import SerialLine
from ems.telemetry import Quality, Reading
from tests.contract.adversary import ROWS, Adversary
from tests.contract.plants import connection, site_of


@dataclass(frozen=True)
class BusUnit:
    """A unit on a serial line."""

    device: str
    unit: int


class Loop:
    """Tell the next tick, read, write, wait for the grid."""

    def __init__(
        self,
        devices: Mapping[str, Adversary] | Mapping[str, BusUnit],
        dt_s: float,
        timeout_s: float,
        back_off_s_max: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self.clock, self.dt_s = SystemClock() if clock is None else clock, dt_s
        connections = []
        for name, device in devices.items():
            if isinstance(device, BusUnit):
                base = dataclasses.replace(
                    connection(name, Wire.MODBUS_RTU, 0, timeout_s),
                    host="",
                    serial=SerialLine(device=device.device, baud=19200, parity="none", stop_bits=2),
                    unit_id=device.unit,
                )
            else:
                base = connection(name, Wire.MODBUS_TCP, device.port, timeout_s)
            rows = tuple(dataclasses.replace(r, point=r.point.replace("dev", name)) for r in ROWS)
            connections.append(dataclasses.replace(base, points=rows, poll_s=dt_s))
        self.events: list[tuple[str, str]] = []
        self.io = FieldIO(
            site_of(*connections),
            clock=self.clock,
            phased=True,
            back_off_s_max=back_off_s_max,
            on_event=lambda at, kind, fields: self.events.append((kind, str(fields["device"]))),
        )
        self.due_s = self.clock.monotonic_s()
        self.seen: list[tuple[float, dict[str, Reading]]] = []
        self.outcomes: dict[str, list[WriteOutcome]] = {name: [] for name in devices}

    async def ticks(self, n: int, writes: Sequence[Command] = ()) -> None:
        for _ in range(n):
            self.io.expect_tick(self.due_s + self.dt_s)
            readings = {r.point: r for r in await self.io.read_all()}
            self.seen.append((self.clock.monotonic_s(), readings))
            for result in await self.io.write(writes):
                self.outcomes[result.command.point.partition(".")[0]].append(result.outcome)
            self.due_s = max(self.due_s + self.dt_s, self.clock.monotonic_s())
            await self.clock.sleep_until(self.due_s)

    async def until_good(self, name: str, ticks: int = 60) -> None:
        """Tick until a device is read again."""
        for _ in range(ticks):
            await self.ticks(1)
            if self.last(name).is_good:
                return
        raise AssertionError(f"{name} never came back")

    def last(self, name: str) -> Reading:
        return self.seen[-1][1][f"{name}.a"]

    def ages_s(self, name: str) -> list[float]:
        """Age of the value of a device at each tick; infinite where there was none."""
        found = [(at_s, readings[f"{name}.a"]) for at_s, readings in self.seen]
        return [at_s - r.arrived_s if r.is_good else float("inf") for at_s, r in found]

    def polls(self, name: str) -> int:
        """Polls a device has answered so far."""
        return int(str(self.io.links()[f"{name}_link"]["polls"]))

    def qualities(self, name: str) -> list[Quality]:
        """Quality of a device's value at each tick."""
        return [readings[f"{name}.a"].quality for _, readings in self.seen]


def open_files() -> int:
    """File descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
