"""What a server shows, by name: points of the plant, limits and caps, and how the EMS itself does."""

from collections.abc import Iterator
from dataclasses import dataclass

from ems.control import ControlMode
from ems.control_site import LimitKind
from ems.northbound import ModbusServer
from ems.northbound_iec104 import Iec104Server
from ems.northbound_ua import OpcUaServer
from ems.points import POINTS, Access
from ems.site import GridMode, Site

LIMIT, CAP, EMS = "limit.", "cap.", "ems."
RESERVED = ("limit", "cap", "ems", "server", "answer")  # no asset of a site that serves may have these names
OF_THE_EMS = {  # name -> what it is
    "ems.grid_mode": f"{', '.join(f'{i} {m.value}' for i, m in enumerate(GridMode))}",
    "ems.control": f"the plant's mode of control: {', '.join(f'{i} {m}' for i, m in enumerate(ControlMode))}",
    "ems.ladder_step": "who decides: 1 a plan that is followed, more: what is left without one",
    "ems.alarms_active": "alarms that stand",
    "ems.limits_lost_count": "limits whose value is not heard any more: their value on loss holds",
    "ems.held_safe": "1 while the edge holds the plant safe",
    "ems.shadow": "1 while nothing is written to any device",
}
OF_A_SERVER = {  # what a server without quality and time of its own adds, as whole numbers
    "server.beat": "counts images of a living edge, from 0 again after 65535; stands still when it is away",
    "server.fresh": "1 while the image counts, 0 while nothing of it does",
    "server.age_s": "seconds since the edge told it",
    "server.map_id": "changes with the map: the first 16 bits of its SHA-256",
}
FRESH, MAP_ID, EVENTS_LOST = "server.fresh", "server.map_id", "server.events_lost"
OF_A_STATION = {  # what a controlled station adds, which has quality and time of its own
    FRESH: OF_A_SERVER["server.fresh"],
    MAP_ID: OF_A_SERVER["server.map_id"],
    EVENTS_LOST: "1 once changes were lost for a client that was away for too long, until it interrogates",
}
ANSWER = "answer."  # what the edge made of the last write of a limit
ANSWERS = "0 nothing was written, 1 waits for the edge, 2 done, 3 refused, 4 no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """One value that may be shown.

    `limit` is the id of the limit that is told under this name; None: nothing is ever told here.
    """

    name: str
    unit: str
    meaning: str
    limit: str | None = None


def names(site: Site) -> tuple[Name, ...]:
    """Everything that can be shown of a plant, always in the same order.

    The EMS itself first, then limits and caps, then the mapped points in the order of the site file's assets.
    """
    return (*_of_the_ems(), *_of_limits(site), *_of_points(site))


def servers(site: Site) -> tuple[ModbusServer | OpcUaServer | Iec104Server, ...]:
    """All servers of a site, whatever they speak."""
    return (*site.modbus_servers, *site.opcua_servers, *site.iec104_servers)


def ua_namespace(site: Site) -> str:
    """URI of the names of a plant in an OPC UA server: stays as long as its place in the hierarchy does."""
    h = site.hierarchy
    return f"urn:hybrid-ems:{h.organisation}:{h.portfolio}:{h.plant}"


def _of_the_ems() -> Iterator[Name]:
    for name, meaning in OF_THE_EMS.items():
        yield Name(name=name, unit="", meaning=meaning)


def _of_limits(site: Site) -> Iterator[Name]:
    for x in site.control.limits:
        by_message = x.point is None and not x.contacts
        yield Name(
            name=LIMIT + x.id,
            unit="kW",
            meaning=f"limit on {x.kind.value} as it was told last",
            limit=x.id if by_message else None,
        )
    for kind in LimitKind:
        yield Name(name=cap_name(kind), unit="kW", meaning=f"strictest cap on {kind.value} that holds now")


def cap_name(kind: LimitKind) -> str:
    """`import` -> `cap.import_kw`."""
    return f"{CAP}{kind.value}_kw"


def _of_points(site: Site) -> Iterator[Name]:
    mapped = {p.point for c in site.connections for p in c.points}
    for asset, kind in site.asset_kinds().items():
        for spec in POINTS[kind]:
            if f"{asset}.{spec.name}" in mapped:
                read = "" if spec.access is Access.READ else ", as the device reads it back"
                yield Name(name=f"{asset}.{spec.name}", unit=spec.unit, meaning=spec.meaning + read)
