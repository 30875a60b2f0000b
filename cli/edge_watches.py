"""What lies beside the edge and is looked after by threads of its own: links, our own
servers, the long-term store, inputs, and the log of wires that somebody asks for.
"""

from cli.edge_people import People
from cli.edge_records import (
    bounded,
    faulty,
    from_elsewhere,
    served,
    trouble,
    undriven,
    unheard,
    unkept,
    untold,
    unwritten,
)
from cli.edge_threads import EndedThreads
from cli.process_config import ProcessConfig
from connectors.field import FieldIO
from connectors.historian.archive.watch import ArchiveWatch, Tell
from connectors.historian.sqlite import SqliteRecorder
from connectors.inputs.watch import InputWatch, OutageWatch, PriceWatch
from connectors.northbound.watch import watch as northbound_watch
from connectors.telemetry.watch import TelemetryWatch
from connectors.utility.watch import watch as utility_watch
from connectors.wire_log import FOLDER, TapOf, WireLog, quiet
from dispatch.vocabulary import Alarm
from ems.clock import Clock
from ems.northbound_names import servers
from ems.site import Site


class Watches:
    """Who looks after links, long-term store and inputs; in lock-step nobody does."""

    def __init__(self, config: ProcessConfig, site: Site, clock: Clock, event: Tell) -> None:
        live = config.keeper_port is None
        self._ended = EndedThreads()
        self._links = TelemetryWatch(site.links if live else (), config.telemetry, now=clock.now)
        served_here = [s.id for s in servers(site)]
        self._servers = northbound_watch(served_here if live else (), config.northbound, now=clock.now)
        utilities = [s.id for s in site.utilities] if live else []
        self._utilities = utility_watch(utilities, config.utility, now=clock.now)
        self._archive = ArchiveWatch(config.archive if live else None, now=clock.now, event=event)
        self._inputs = InputWatch(site.inputs if live else (), config.directory, now=clock.now)
        self.prices = PriceWatch(site.inputs if live else (), site.tariff, config.directory, now=clock.now)
        self.prices.start()
        self.outages = OutageWatch(site.inputs if live else (), config.directory, now=clock.now)
        self.outages.start()
        names = [c.id for c in site.connections]
        self._wires = WireLog(config.directory / FOLDER, names, now=clock.now) if live else None
        self.tap_of: TapOf = quiet if self._wires is None else self._wires.tap
        if self._wires is not None:
            self._wires.start()

    def beside(self, recorder: SqliteRecorder, people: People, io: FieldIO) -> tuple[Alarm, ...]:
        """Alarms of threads, disk, desks, certificates, devices, links, servers, past and inputs."""
        return (
            *self._ended.alarms,
            *unwritten(recorder.trouble, standing_kept=not people.unwritten),
            *trouble(people.failing(), io.expiring()),
            *faulty(io.faults()),
            *undriven(io.driver_faults()),
            *unheard(io.losses(), io.wrong_clocks()),
            *untold(self._links.down, self._links.behind),
            *served(self._servers.seen),
            *bounded(self._utilities.seen),
            *unkept(self._archive.trouble),
            *from_elsewhere(*self._inputs.told),
        )

    def close(self) -> None:
        """Look no more."""
        beside = (self._links, self._servers, self._utilities, self._archive, self._inputs)
        for watch in (*beside, self.prices, self.outages):
            watch.close()
        if self._wires is not None:
            self._wires.close()
        self._ended.close()
