"""The edge's dealings with people and services: what they hand in, what outlives a restart, what they see."""

from dataclasses import dataclass

from cli.process_config import ProcessConfig
from connectors.stores.alarm_desk import AlarmDesk
from connectors.stores.failing import Failing, Told
from connectors.stores.owner_names import OwnerNames
from connectors.stores.request_desk import RequestDesk, stood_before
from connectors.stores.standing import StandingStore
from dispatch.authority.view import Look, counts, shown
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Decisions
from ems.clock import Clock
from ems.control_site import ControlParams
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
    control : who may ask, and the mode of a first start.
    ran_before : whether an edge has recorded something in this folder before.
    beside : files are written in threads, so that no cycle waits for the disk; in virtual time none does.
    """

    def __init__(
        self,
        config: ProcessConfig,
        clock: Clock,
        told: Told,
        control: ControlParams,
        *,
        ran_before: bool,
        beside: bool = False,
    ) -> None:
        self._clock = clock
        self._users = Failing("users", told)
        names = OwnerNames(self._users)
        names.learn(control.users)
        self._names = names
        self._alarms = AlarmDesk(config.alarm_desk, told, name_of=names, beside=beside)
        # in lock-step the clock begins anew with each run of its keeper
        self._store = StandingStore(
            config.directory, clock=clock, epoch_of_clock=str(config.keeper_port), told=told, beside=beside
        )
        ran_before = ran_before or stood_before(config.directory)
        self.standing: Standing | None = self._store.load(ran_before=ran_before)
        if self.standing is None:  # from now on a file that is gone was taken away
            self._store.keep(Standing(plant=control.start_mode))
            self._store.settle()
        self._desk = RequestDesk(config.directory, clock=clock, told=told, name_of=names, beside=beside)

    def keep(self, standing: Standing) -> None:
        """What must outlive a restart; asked in each cycle, and waits for no disk."""
        self._store.keep(standing)

    @property
    def unwritten(self) -> bool:
        """Whether a restart would find other orders than stand now, and more than a moment long."""
        return self._store.overdue

    def close(self) -> None:
        """Have the last of everything on the disk, as far as it answers in time; orders first."""
        for one in (self._store, self._desk, self._alarms):
            one.close()

    def serve(self, runtime: EdgeRuntime) -> None:
        """Before the first cycle: what stood before the restart."""
        runtime.release = self._alarms.release  # the first cycle must not write

    def hear(self, runtime: EdgeRuntime) -> None:
        """Hand everything that has come since the last cycle to the next one."""
        runtime.alarm_actions += self._alarms.collect()
        runtime.release = self._alarms.release
        runtime.received += self._desk.collect()
        self._names.settle()

    def failing(self) -> dict[str, str]:
        """What is wrong with the desks and with who asks, for the alarm; empty: nothing."""
        found = {
            "requests": self._desk.wrong or self._desk.failing.now,
            "alarm-desk": self._alarms.failing.now,
            "users": self._users.now,
        }
        return {place: why for place, why in found.items() if why is not None}

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
                "requests_refused": self._desk.wrong or self._desk.failing.now,
                "standing_unwritten": self._store.overdue,
                "standing_waits": self._store.unwritten,
                **counts(state.authority),
            },
        )
