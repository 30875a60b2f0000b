"""Servers for others: nobody unknown comes in over a network, nothing but declared bounds is written."""

from collections.abc import Iterator, Mapping

from ems.northbound import Door, ModbusServer, ServedRow
from ems.northbound_names import LIMIT, OF_A_SERVER, RESERVED
from ems.site_schema.checks_northbound_door import (
    check_door,
    check_names,
    check_rights,
    tls_files,
    told_limits,
    write_rights,
)
from ems.site_schema.checks_northbound_iec104 import check_iec104_servers, iec104_port
from ems.site_schema.checks_northbound_ua import check_ua_servers
from ems.site_schema.draft import Draft
from ems.site_schema.forms_northbound import ModbusServerForm, ServedRowForm
from ems.site_schema.text import Loc

BITS = {f"{sign}{bits}": bits for sign in "us" for bits in (16, 32, 64)} | {"f32": 32, "f64": 64}
LAST = 65535


def check_northbound(draft: Draft) -> None:
    """All checks of the servers."""
    if draft.northbound is None:
        return
    for asset in draft.kinds:
        if asset in RESERVED:
            draft.add(("northbound",), f"an asset called {asset!r}", "another name of it: servers show that")
    modbus, ua, iec104 = draft.northbound.modbus, draft.northbound.opc_ua, draft.northbound.iec104
    places = {
        "modbus": {i: f"{f.host}:{port_of(f)}" for i, f in modbus.items()},
        "opc_ua": {i: f"{f.host}:{f.port}" for i, f in ua.items()},
        "iec104": {i: f"{f.host}:{iec104_port(f)}" for i, f in iec104.items()},
    }
    _places(draft, places)
    for server_id, form in modbus.items():
        loc: Loc = ("northbound", "modbus", server_id)
        check_door(draft, loc, form)
        if form.writes is not None:
            check_rights(draft, (*loc, "writes"), form, form.writes)
            for i, limit in enumerate(form.writes.limits):
                if form.map and limit in told_limits(draft) and f"{LIMIT}{limit}" not in form.map:
                    allowed = f"{LIMIT}{limit} in the map: it has no register"
                    draft.add((*loc, "writes", "limits", i), repr(limit), allowed)
        _rows(draft, (*loc, "map"), form)
    check_ua_servers(draft, ua)
    check_iec104_servers(draft, iec104)


def _places(draft: Draft, places: Mapping[str, Mapping[str, str]]) -> None:
    """Servers have names and ports of their own, whatever they speak."""
    names: set[str] = set()
    listening: dict[str, str] = {}
    for family, servers in places.items():
        for server_id, where in servers.items():
            loc: Loc = ("northbound", family, server_id)
            if server_id in names:
                draft.add(loc, f"{server_id!r} again", "a name that no other server has")
            names.add(server_id)
            if (other := listening.setdefault(where, server_id)) != server_id:
                draft.add((*loc, "port"), f"{where} again", f"another port: {other!r} listens there")


def port_of(form: ModbusServerForm) -> int:
    """What is said, or else the port of its kind."""
    if form.port is not None:
        return form.port
    return 802 if form.tls is not None else 502


def _rows(draft: Draft, loc: Loc, form: ModbusServerForm) -> None:
    check_names(draft, loc, form.map, OF_A_SERVER)
    used: dict[str, list[tuple[int, int, str]]] = {"holding": [], "input": []}
    for name, row in form.map.items():
        _row(draft, (*loc, name), name, row)
        tables = ("holding", "input") if row.table == "both" else (row.table,)
        for table in tables:
            used[table] += [(a, n, f"{name}{what}") for a, n, what in _spans(row)]
    for table, spans in used.items():
        end, holder = 0, ""
        for address, count, name in sorted(spans):
            if address < end:
                draft.add(
                    (*loc, name.partition(" ")[0]),
                    f"{table} register {address} again",
                    f"one value: {holder} is there",
                )
            if address + count > end:
                end, holder = address + count, name


def _row(draft: Draft, loc: Loc, name: str, row: ServedRowForm) -> None:
    if row.scale == 0.0:
        draft.add((*loc, "scale"), "0", "a number other than 0")
    if row.address + BITS[row.type] // 16 - 1 > LAST:
        draft.add((*loc, "address"), str(row.address), f"its last register at {LAST} or before")
    writes = name.startswith(LIMIT) and row.table == "input"
    if writes and name.removeprefix(LIMIT) in _written(draft, loc):
        draft.add((*loc, "table"), "input", "holding or both: it may be written")
    if row.not_available is not None:
        low, high = _raw_range(row.type)
        if row.type.startswith("f"):
            draft.add((*loc, "not_available"), str(row.not_available), "nothing: it is NaN")
        elif not low <= row.not_available <= high:
            draft.add((*loc, "not_available"), str(row.not_available), f"{low} to {high}")


def _written(draft: Draft, loc: Loc) -> list[str]:
    assert draft.northbound is not None
    rights = draft.northbound.modbus[str(loc[2])].writes
    return [] if rights is None else rights.limits


def _raw_range(data_type: str) -> tuple[int, int]:
    bits = BITS[data_type]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data_type[0] == "s" else (0, 2**bits - 1)


def _spans(row: ServedRowForm) -> Iterator[tuple[int, int, str]]:
    yield row.address, BITS[row.type] // 16, ""
    if row.quality_at is not None:
        yield row.quality_at, 1, " (quality)"
    if row.age_at is not None:
        yield row.age_at, 1, " (age)"


def modbus_servers(draft: Draft) -> tuple[ModbusServer, ...]:
    """The servers of a site. The draft must have passed every check."""
    if draft.northbound is None:
        return ()
    return tuple(
        ModbusServer(
            id=server_id,
            door=Door(
                host="127.0.0.1" if form.host == "localhost" else form.host,
                port=port_of(form),
                clients=tuple(form.clients),
                tls=tls_files(form.tls),
                connections_max=form.connections_max,
                per_client_max=form.per_client_max,
                idle_s=form.idle_s,
                requests_per_s=form.requests_per_s,
            ),
            unit_id=form.unit_id,
            rows=tuple(
                ServedRow(point=name, data_type=row.type, **row.model_dump(exclude={"type"}))
                for name, row in form.map.items()
            ),
            writes=write_rights(form.writes),
        )
        for server_id, form in draft.northbound.modbus.items()
    )
