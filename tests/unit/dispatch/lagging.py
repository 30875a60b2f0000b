"""Edge and plant with dead times between them: late actuators, a late meter, power watched at 5 Hz."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dispatch.cycle import tick
from dispatch.observing.process_image import ProcessImage
from dispatch.vocabulary import Controller, Decisions, TickInput
from ems.site import Site
from ems.telemetry import Quality, Reading
from tests.unit.dispatch.loop import Loop

FINE_S = 0.2  # physics between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Dead times: from a command to the power it asks for, and from a power to its reading [s]."""

    command_s: Mapping[str, float]  # by point; the others act at once
    reading_s: Mapping[str, float]  # by point or asset; the others are read at once


class LaggingLoop(Loop):
    """A loop whose commands arrive late and whose readings are old. The edge is told neither."""

    def __init__(
        self, controller: Controller, delays: Delays, *, soc: float = 0.6, plant_site: Site | None = None
    ):
        super().__init__(controller, soc=soc, plant_site=plant_site)
        self.delays = delays
        self.waiting: list[tuple[float, str, float]] = []  # when it acts, point, value
        self.seen: list[tuple[float, dict[str, float]]] = []  # true readings by time
        self.poi: list[tuple[float, float]] = []  # time, power at the POI
        self.dt_s = 1.0

    def _fine(self) -> None:
        due = [w for w in self.waiting if w[0] <= self.t + 1e-9]
        self.waiting = [w for w in self.waiting if w[0] > self.t + 1e-9]
        for _, point, value in due:
            self.set[point] = value
        flows = self.physics(FINE_S)
        self.seen.append((self.t, flows.readings()))
        self.seen = self.seen[-100:]
        self.poi.append((self.t, flows.grid_p_kw))

    def _delay_s(self, point: str) -> float:
        r = self.delays.reading_s
        return r.get(point, r.get(point.partition(".")[0], 0.0))

    def _reading(self, point: str) -> float:
        at_s = self.t - self._delay_s(point)
        return next((r[point] for t, r in reversed(self.seen) if t <= at_s + 1e-9), self.seen[0][1][point])

    def once(self) -> Decisions:
        """One cycle of the edge, then the plant until the next."""
        image = ProcessImage({}, {})
        image.update(
            Reading(
                point=p, value=self._reading(p), quality=Quality.GOOD, source_time=self.now, arrived_s=self.t
            )
            for p in self.seen[-1][1]
            if p not in self.world.silent and p.partition(".")[0] not in self.world.silent
        )
        given = TickInput(
            snapshot=image.latch(self.now, self.t), plan=self.plan, outages=self.outages, dt_s=self.dt_s
        )
        self.edge, decisions = tick(self.setup, self.edge, given)
        for c in decisions.commands:
            self.waiting.append((self.t + self.delays.command_s.get(c.point, 0.0), c.point, c.value))
        for _ in range(round(self.dt_s / FINE_S)):
            self._fine()
        assert self.flows is not None
        self.log.append((self.t, decisions, self.flows))
        return decisions

    def run(self, seconds: float, dt_s: float = 1.0, each: Callable[[Loop], None] | None = None) -> Decisions:
        self.dt_s = dt_s
        while len(self.seen) < 5:
            self._fine()
        end = self.t + seconds
        decisions = None
        while self.t < end - 1e-9:
            if each is not None:
                each(self)
            decisions = self.once()
        assert decisions is not None
        return decisions


def reversals(values: list[float], band: float) -> int:
    """How often a series turns back by more than `band` after having moved by more than it."""
    turns, extreme, way = 0, values[0], 0
    for v in values:
        if (way >= 0 and v > extreme) or (way <= 0 and v < extreme):
            if way == 0 and abs(v - extreme) > band:
                way = 1 if v > extreme else -1
            if way != 0:
                extreme = v
            continue
        if way != 0 and abs(v - extreme) > band:
            turns, way, extreme = turns + 1, -way, v
    return turns
