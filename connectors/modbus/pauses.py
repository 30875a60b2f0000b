"""Pauses that Modbus devices need, against how often they are asked: writes wait behind reads."""

from collections.abc import Iterator

from connectors.modbus.planned import planned_reads
from connectors.modbus.registers import PAUSES_MAX, terms_of
from connectors.modbus.rtu_link import bus_key
from connectors.sunspec.places import spot
from ems.errors import BadValue, Problem
from ems.site import Connection, Devices, Site

MODELS_S_MAX = 0.1  # a setpoint of a SunSpec model takes up to three writes, between reads, in one cycle


def pause_problems(site: Site | Devices) -> list[Problem]:
    """Lines on which pauses leave no time for writes."""
    lines: dict[object, list[Connection]] = {}
    for c in site.connections:
        if c.protocol.wire.is_modbus:
            key = bus_key(c, c.host, c.port) if c.protocol.is_rtu else c.id
            lines.setdefault(key, []).append(c)
    return [p for units in lines.values() for p in _of_line(units)]


def _of_line(units: list[Connection]) -> Iterator[Problem]:
    pause_s = max(terms_of(c).pause_s for c in units)
    slowest = next(c for c in units if terms_of(c).pause_s == pause_s)
    share = sum(_requests(c) * pause_s / c.poll_s for c in units)
    models = any(c.protocol.family == "sunspec" for c in units)
    allowed = ""
    if share > PAUSES_MAX:
        asked = sum(_requests(c) / c.poll_s for c in units)
        allowed = f"{PAUSES_MAX / asked:.3g} s or less, half of the time of {asked:.3g} requests a second"
    elif models and pause_s > MODELS_S_MAX:
        allowed = f"{MODELS_S_MAX:g} s or less with {slowest.protocol}: a setpoint takes several requests"
    if allowed:
        key = f"connections.{slowest.id}.modbus.pause_s"
        yield Problem(file="", line=None, key=key, found=f"{pause_s:g} s", allowed=allowed)


def _requests(c: Connection) -> int:
    """Requests of one poll; of SunSpec, which finds its registers at the device, one for each model."""
    try:
        if c.protocol.family == "sunspec":
            return len({spot(p.address).key for p in c.points})
        return len(planned_reads(c))
    except BadValue:
        return 1  # its map is told as wrong already
