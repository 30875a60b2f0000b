"""`DeviceIO` straight onto a World: readings and writes without sockets; its coroutines never wait."""

from collections.abc import Sequence

from ems.clock import Clock
from ems.commands import Command, WriteOutcome, WriteResult
from ems.points import POINTS, Access, point_id
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.world import World, WriteVerdict

OUTCOMES = {
    WriteVerdict.ACCEPTED: WriteOutcome.CONFIRMED,
    WriteVerdict.UNKNOWN_POINT: WriteOutcome.REJECTED,
    WriteVerdict.READ_ONLY: WriteOutcome.REJECTED,
    WriteVerdict.BAD_VALUE: WriteOutcome.REJECTED,
    WriteVerdict.SILENT: WriteOutcome.UNKNOWN,
}


def mapped_points(site: Site) -> tuple[str, ...]:
    """Points the EMS reads: those of the connections, or every point there can be when the site has none."""
    if site.connections:
        beats = {c.watchdog_point for c in site.connections}
        return tuple(m.point for c in site.connections for m in c.points if m.point not in beats)
    return tuple(
        point_id(asset, spec.name)
        for asset, kind in site.asset_kinds().items()
        for spec in POINTS[kind]
        if spec.access is Access.READ
    )


class WorldIO:
    """All devices of a world, read and written in memory.

    Parameters
    ----------
    world : the plant.
    clock : time stamps of the readings.
    """

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._points = mapped_points(world.site)

    async def read_all(self) -> Sequence[Reading]:
        """One reading per mapped point; COMM_FAILED where the device is silent or holds no value yet."""
        values = self._world.readings()
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        return [
            Reading(
                point=point,
                value=(value := values.get(point)),
                quality=Quality.GOOD if value is not None else Quality.COMM_FAILED,
                source_time=now,
                arrived_s=now_s,
            )
            for point in self._points
        ]

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Give each command to its device; one result each."""
        return [self._write(command) for command in commands]

    async def close(self) -> None:
        """Nothing to release."""

    def _write(self, command: Command) -> WriteResult:
        verdict = self._world.write(command.point, command.value)
        return WriteResult(
            command=command,
            outcome=OUTCOMES[verdict],
            detail=verdict.value,
            finished_at=self._clock.now(),
        )
