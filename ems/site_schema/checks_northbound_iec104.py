"""Controlled stations of IEC 60870-5-104: one object an address, windows that fit, commands for limits."""

from collections.abc import Mapping

from ems.iec104 import PORT, PORT_TLS, Iec104Times
from ems.northbound import Door
from ems.northbound_iec104 import Iec104Command, Iec104Row, Iec104Server
from ems.northbound_names import OF_A_STATION
from ems.site_schema.checks_iec104 import OF_A_LINK, check_link_times
from ems.site_schema.checks_northbound_door import (
    check_door,
    check_names,
    check_rights,
    tls_files,
    told_limits,
    write_rights,
)
from ems.site_schema.draft import Draft
from ems.site_schema.forms_northbound_iec104 import Iec104ServerForm
from ems.site_schema.text import Loc

MEASURED = ("float", "scaled", "normalized")


def check_iec104_servers(draft: Draft, servers: Mapping[str, Iec104ServerForm]) -> None:
    """All checks of the controlled stations, but for names and ports."""
    for server_id, form in servers.items():
        loc: Loc = ("northbound", "iec104", server_id)
        check_door(draft, loc, form)
        if form.writes is not None:
            check_rights(draft, (*loc, "writes"), form, form.writes)
        check_link_times(draft, loc, k=form.k, w=form.w, t1_s=form.t1_s, t2_s=form.t2_s)
        check_names(draft, (*loc, "map"), form.map, OF_A_STATION)
        _objects(draft, loc, form)
        _commands(draft, (*loc, "commands"), form)


def iec104_port(form: Iec104ServerForm) -> int:
    """What is said, or else the port of its kind."""
    if form.port is not None:
        return form.port
    return PORT_TLS if form.tls is not None else PORT


def _objects(draft: Draft, loc: Loc, form: Iec104ServerForm) -> None:
    used: dict[int, str] = {}
    places = [("map", name, row.address) for name, row in form.map.items()]
    places += [("commands", name, command.address) for name, command in form.commands.items()]
    for key, name, address in places:
        if (other := used.setdefault(address, name)) != name or (key == "commands" and name in form.map):
            allowed = f"one object at an address: {other} is there"
            draft.add((*loc, key, name, "address"), f"{address} again", allowed)
    for name, row in form.map.items():
        if row.scale == 0.0:
            draft.add((*loc, "map", name, "scale"), "0", "a number other than 0")
        if row.deadband > 0.0 and row.type not in MEASURED:
            allowed = f"nothing with type {row.type}: each change is told, counters when they are asked for"
            draft.add((*loc, "map", name, "deadband"), f"{row.deadband:g}", allowed)


def _commands(draft: Draft, loc: Loc, form: Iec104ServerForm) -> None:
    """A command for each limit that may be told, and for no other."""
    told = [] if form.writes is None else form.writes.limits
    for name in form.commands:
        if name not in told:
            draft.add((*loc, name), repr(name), f"a limit of writes.limits: {', '.join(told) or 'none'}")
    for name in told if form.commands else ():
        if name not in form.commands and name in told_limits(draft):
            draft.add(loc, f"none for {name!r}", "a command for each limit of writes.limits, or none at all")


def iec104_servers(draft: Draft) -> tuple[Iec104Server, ...]:
    """The controlled stations of a site. The draft must have passed every check."""
    if draft.northbound is None:
        return ()
    return tuple(
        Iec104Server(
            id=server_id,
            door=Door(
                host="127.0.0.1" if form.host == "localhost" else form.host,
                port=iec104_port(form),
                clients=tuple(form.clients),
                tls=tls_files(form.tls),
                connections_max=form.connections_max,
                per_client_max=form.per_client_max,
                requests_per_s=form.requests_per_s,
            ),
            station=form.common_address,
            rows=tuple(
                Iec104Row(point=name, kind=row.type, **row.model_dump(exclude={"type"}))
                for name, row in form.map.items()
            ),
            commands=tuple(
                Iec104Command(limit=name, address=c.address, kind=c.type, scale_kw=c.scale, select=c.select)
                for name, c in form.commands.items()
            ),
            times=Iec104Times(**form.model_dump(include=OF_A_LINK)),
            local_time=form.clock == "local",
            time_tags=form.time_tags,
            events_max=form.events_max,
            writes=write_rights(form.writes),
        )
        for server_id, form in draft.northbound.iec104.items()
    )
