"""What `ems check` says of SunSpec maps: names, units and symbols that the published models do not have."""

from collections.abc import Iterable, Iterator

from connectors.sunspec.control import control_of, silence_fault
from connectors.sunspec.places import Key, spot
from connectors.sunspec.rows import row_faults
from ems.errors import BadValue, EmsError, Problem
from ems.site import Connection, Devices, Site


def sunspec_problems(site: Site | Devices) -> list[Problem]:
    """What of a site's SunSpec maps, and of the silences of their setpoints, cannot be worked with."""
    mine = [c for c in site.connections if c.protocol.family == "sunspec"]
    problems = [p for c in mine for p in _of_map(c)]
    return problems if problems else list(_of_silences(site, mine))


def _of_map(connection: Connection) -> Iterator[Problem]:
    try:
        for point in connection.points:
            for key, found, allowed in row_faults(point):
                where = f"connections.{connection.id}.points.{point.point}.{key}"
                yield Problem(file="", line=None, key=where, found=found, allowed=allowed)
        yield from _enabled_twice(connection)
    except EmsError as error:
        where = f"connections.{connection.id}.protocol"
        yield Problem(file="", line=None, key=where, found=connection.protocol.value, allowed=str(error))


def _enabled_twice(connection: Connection) -> Iterator[Problem]:
    """Two setpoints that one register enables would take each other's place by turns."""
    first: dict[tuple[Key, int], str] = {}
    for point in (p for p in connection.points if p.writable):
        try:
            control = control_of(spot(point.address))
        except BadValue:
            continue  # told already
        if control is None:
            continue
        place = (control.enable.key, control.enable.offset)
        if (other := first.setdefault(place, point.point)) != point.point:
            where = f"connections.{connection.id}.points.{point.point}.address"
            allowed = f"one setpoint that {control.enable.text} enables: it is that of {other!r}"
            yield Problem(file="", line=None, key=where, found=repr(point.address), allowed=allowed)


def _of_silences(site: Site | Devices, connections: Iterable[Connection]) -> Iterator[Problem]:
    """What the site file says of a setpoint's silence, and its model cannot be set to do."""
    for point in (p for c in connections for p in c.points if p.writable):
        authority = site.authority.setpoints.get(point.point)
        if authority is None or not (fault := silence_fault(spot(point.address), authority)):
            continue
        behaviour = authority.safety.behaviour
        found = f"{behaviour.on_silence} after {behaviour.timeout_s:g} s"
        key = f"authority.{point.point}.silence"
        yield Problem(file="", line=None, key=key, found=found, allowed=fault)
