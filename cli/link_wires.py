"""Which wire a link of the site file goes over. What a wire needs is loaded where one is used."""

from collections.abc import Callable
from pathlib import Path

from connectors.link import Refused
from connectors.telemetry.wire import Desk, Wire
from ems.links import DatabaseLink, ExportLink
from ems.site import Site, TelemetryLink

INSTALL = "pip install 'hybrid-ems[{}]'"


def wire_of(
    link: TelemetryLink | DatabaseLink | ExportLink, site: Site, folder: Path, directory: Path
) -> Callable[[Desk], Wire]:
    """What makes a connection of a link, not opened yet.

    Parameters
    ----------
    folder : that files named in the site file are relative to.
    directory : of the run.
    """
    if isinstance(link, TelemetryLink):
        if link.sparkplug is not None:
            try:
                from connectors.telemetry.sparkplug_wire import wires
            except ImportError as error:
                why = f"Sparkplug B needs the package protobuf, which cannot be loaded ({error}): "
                return _missing(why + INSTALL.format("sparkplug"))
            return wires(link, link.sparkplug, site, folder, directory)
        from connectors.telemetry.mqtt_wire import MqttWire

        return lambda desk: MqttWire(link, desk, folder)
    if isinstance(link, ExportLink):
        from connectors.files.wire import FilesWire

        return lambda desk: FilesWire(link, site, desk, folder)
    try:
        from connectors.postgres.wire import Pace, PostgresWire
    except ImportError as error:
        why = f"PostgreSQL is reached by the package psycopg, which cannot be loaded ({error}): "
        return _missing(why + INSTALL.format("postgresql"))
    pace = Pace()
    return lambda desk: PostgresWire(link, site, desk, folder, pace)


def _missing(why: str) -> Callable[[Desk], Wire]:
    def nothing(_: Desk) -> Wire:
        raise Refused(why)

    return nothing
