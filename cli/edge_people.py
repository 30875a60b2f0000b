"""The edge's dealings with people and services: what they hand in, what outlives a restart, what they see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cli.process_config import ProcessConfig
from connectors.stores.alarm_desk import AlarmDesk
from connectors.stores.request_desk import RequestDesk
from connectors.stores.standing import StandingStore
from dispatch.authority.view import Look, counts, shown
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Decisions
from ems.clock import Clock
from ems.records import JsonValue
from ems.requests import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a cycle tells of authority in the status row."""

    authority: dict[str, JsonValue]
    counts: dict[str, JsonValue]


class People:
    """Both desks and the store of what authority keeps, around one edge.

    Parameters
    ----------
    config : of the running plant.
    clock : the edge's own.
    told : told of events beside the cycle.
    """

    def __init__(
        self, config: ProcessConfig, clock: Clock, told: Callable[[str, Mapping[str, JsonValue]], None]
    ) -> None:
        self._clock = clock
        self._alarms = AlarmDesk(config.alarm_desk, told)
        # in lock-step the clock begins anew with each run of its keeper
        self._store = StandingStore(
            config.directory, clock=clock, epoch_of_clock=str(config.keeper_port), told=told
        )
        self._desk = RequestDesk(config.directory, clock=clock, told=told)
        self.standing: Standing | None = self._store.load(ran_before=self._desk.asked_before)

    def keep(self, standing: Standing) -> None:
        """What must outlive a restart, whenever it changes."""
        self._store.keep(standing)

    @property
    def unwritten(self) -> bool:
        """Whether a restart would find other orders than stand now."""
        return self._store.unwritten

    def serve(self, runtime: EdgeRuntime) -> None:
        """Before the first cycle: what stood before the restart."""
        runtime.release = self._alarms.release  # the first cycle must not write

    def hear(self, runtime: EdgeRuntime) -> None:
        """Hand everything that has come since the last cycle to the next one."""
        runtime.alarm_actions += self._alarms.collect()
        runtime.release = self._alarms.release
        runtime.received += self._desk.collect()

    def shown(self, runtime: EdgeRuntime, decisions: Decisions) -> Shown:
        """Who commands what after a cycle."""
        state = runtime.state
        look = Look(
            layout=runtime.setup.layout,
            memory=state.authority,
            at=decisions.at,
            now_s=self._clock.monotonic_s(),
        )
        return Shown(
            authority=shown(look),
            counts={
                "epoch": state.epoch,
                "held_safe": state.held_safe,
                "requests_refused": self._desk.wrong,
                "standing_unwritten": self._store.unwritten,
                **counts(state.authority),
            },
        )
