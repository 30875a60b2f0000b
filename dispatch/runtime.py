"""The asynchronous shell around the tick: read, latch, decide, record, write, record. It paces nothing."""

from collections.abc import Callable, Sequence

from dispatch.cycle import EdgeSetup
from dispatch.state import EdgeState
from dispatch.vocabulary import Controller, Decisions
from ems.clock import Clock
from ems.outage import OutageNotice
from ems.ports import DeviceIO, PlanSource, Recorder
from ems.site import Site


class EdgeRuntime:
    """The edge of one site, built alike by the service and by the simulator.

    Parameters
    ----------
    epoch : number of this start of the edge, growing with every restart.
    notices : every announced outage known to the caller; each counts from its `issued_at`. None: the site's.
        May be a callable when notices arrive while the edge runs.
    planner_alive : told by whoever supervises the planner; only changes the label of what is followed.
    peak_import_kw : highest billing interval of the running month, from the historian [kW].
    held_safe : come up held safe, as after a broken invariant.
    """

    def __init__(  # noqa: PLR0913  the composition root wires every port once
        self,
        site: Site,
        *,
        clock: Clock,
        device_io: DeviceIO,
        plans: PlanSource,
        recorder: Recorder,
        controller: Controller,
        shadow: bool,
        epoch: int,
        notices: Sequence[OutageNotice] | Callable[[], Sequence[OutageNotice]] | None = None,
        planner_alive: Callable[[], bool] | None = None,
        peak_import_kw: float = 0.0,
        held_safe: bool = False,
    ) -> None:
        self.setup = EdgeSetup(site=site, controller=controller, shadow=shadow)
        self.state = EdgeState(epoch=epoch, held_safe=held_safe)
        self.last: Decisions | None = None
        self._clock = clock
        self._io = device_io
        self._plans = plans
        self._recorder = recorder
        self._notices = notices
        self._planner_alive = planner_alive
        self._peak_import_kw = peak_import_kw

    async def cycle(self, dt_s: float) -> Decisions:
        """Read, latch, tick, record, write: one cycle whose decisions will stand for `dt_s` [s].

        Raises
        ------
        InvariantBroken : after the safe table was written and the edge latched held safe.
        """
        raise NotImplementedError

    async def safe_stop(self, reason: str = "the edge is stopping") -> None:
        """Write the safe table of the present grid mode through the gate, once, and latch held safe."""
        raise NotImplementedError

    async def run(self, period: Callable[[Decisions | None], float], stop: Callable[[], bool]) -> None:
        """Cycle until `stop()`; `period(last decisions)` gives the length of the next cycle [s].

        The safe table is written on the way out, whatever the reason (stop, cancellation, broken invariant).
        """
        raise NotImplementedError
