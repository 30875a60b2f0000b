"""Servers for others: nobody unknown comes in over a network, nothing but declared bounds is written."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ems.control_site import LimitKind
from ems.northbound import Door, ModbusServer, ServedRow, TlsFiles, WriteRights
from ems.northbound_names import ANSWER, LIMIT, OF_A_SERVER, OF_THE_EMS, RESERVED, cap_name
from ems.site_schema.checks_northbound_ua import check_ua_servers
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_northbound import ModbusServerForm, ServedRowForm, TlsForm, WriteRightsForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

BITS = {f"{sign}{bits}": bits for sign in "us" for bits in (16, 32, 64)} | {"f32": 32, "f64": 64}
OPEN = "whoever is on the network could read the whole plant"
LAST = 65535


def check_northbound(draft: Draft) -> None:
    """All checks of the servers."""
    if draft.northbound is None:
        return
    for asset in draft.kinds:
        if asset in RESERVED:
            draft.add(("northbound",), f"an asset called {asset!r}", "another name of it: servers show that")
    places: dict[tuple[str, int], str] = {}
    for server_id, form in draft.northbound.modbus.items():
        loc: Loc = ("northbound", "modbus", server_id)
        place = (form.host, port_of(form))
        if (other := places.setdefault(place, server_id)) != server_id:
            draft.add(
                (*loc, "port"), f"{place[0]}:{place[1]} again", f"another port: {other!r} listens there"
            )
        _door(draft, loc, form)
        if form.writes is not None:
            _rights(draft, (*loc, "writes"), form, form.writes)
        _rows(draft, (*loc, "map"), form)
    others = {i: f"{f.host}:{port_of(f)}" for i, f in draft.northbound.modbus.items()}
    check_ua_servers(draft, draft.northbound.opc_ua, others)


def port_of(form: ModbusServerForm) -> int:
    """What is said, or else the port of its kind."""
    if form.port is not None:
        return form.port
    return 802 if form.tls is not None else 502


def _door(draft: Draft, loc: Loc, form: ModbusServerForm) -> None:
    if form.host != "localhost" and not _is_address(form.host):
        draft.add((*loc, "host"), repr(form.host), "an address of this machine; 0.0.0.0: all of them")
    for i, client in enumerate(form.clients):
        if not _is_network(client):
            allowed = "an address or a network, such as 10.0.0.5 or 10.0.0.0/24"
            draft.add((*loc, "clients", i), repr(client), allowed)
    if form.tls is None and not form.clients and not is_loopback(form.host):
        found = f"nothing, for {form.host} without tls"
        draft.add((*loc, "clients"), found, "the addresses that may connect, or tls", OPEN)
    if form.tls is not None and form.tls.server_name is not None:
        draft.add((*loc, "tls", "server_name"), "a value", "nothing: we are the server")


def _rights(draft: Draft, loc: Loc, form: ModbusServerForm, rights: WriteRightsForm) -> None:
    limits = {} if draft.control is None else draft.control.limits
    told = [i for i, x in limits.items() if x.point is None and not x.contacts]
    for i, limit in enumerate(rights.limits):
        if limit not in told:
            allowed = (
                f"a limit of control.limits that is told by messages: {', '.join(told) or 'there is none'}"
            )
            draft.add((*loc, "limits", i), repr(limit), allowed, hint(limit, told))
        elif form.map and f"{LIMIT}{limit}" not in form.map:
            draft.add((*loc, "limits", i), repr(limit), f"{LIMIT}{limit} in the map: it has no register")
    if form.tls is None:
        for key in ("roles", "subjects"):
            if getattr(rights, key):
                draft.add((*loc, key), "a value", "nothing without tls: nobody shows a certificate")
        if not rights.plain_from:
            allowed = "tls at the server; or plain_from, for addresses that are believed without proof"
            draft.add(
                loc, "writes without tls", allowed, "an address can be taken by whoever is on the network"
            )
    else:
        if rights.plain_from:
            draft.add((*loc, "plain_from"), "a value", "nothing with tls: another server for plain clients")
        if not (rights.roles or rights.subjects):
            draft.add(loc, "neither roles nor subjects", "who may write, by certificate")
    for i, address in enumerate(rights.plain_from):
        if not _is_address(address):
            draft.add((*loc, "plain_from", i), repr(address), "one address, such as 10.0.0.5")
        elif form.clients and not any(ip_address(address) in n for n in _networks(form.clients)):
            draft.add((*loc, "plain_from", i), repr(address), "one of `clients`: it could not even connect")


def _rows(draft: Draft, loc: Loc, form: ModbusServerForm) -> None:
    known = set(_known(draft))
    used: dict[str, list[tuple[int, int, str]]] = {"holding": [], "input": []}
    for name, row in form.map.items():
        if name not in known and not _may_be_mapped(draft, name):
            allowed = "a mapped point of the plant, limit.ID, answer.ID, cap.KIND_kw, ems.WHAT or server.WHAT"
            draft.add((*loc, name), repr(name), allowed, hint(name, known))
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


def _known(draft: Draft) -> Iterator[str]:
    yield from OF_THE_EMS
    yield from OF_A_SERVER
    yield from (cap_name(kind) for kind in LimitKind)
    for limit in {} if draft.control is None else draft.control.limits:
        yield f"{LIMIT}{limit}"
        yield f"{ANSWER}{limit}"
    yield from (p.point for p in draft.points if p.spec is not None)


def _may_be_mapped(draft: Draft, name: str) -> bool:
    """Whether a broken map, or none at all, may be why a point of the vocabulary is not known."""
    partly = not draft.connections or draft.unread_connections or name in draft.broken_points
    return bool(partly) and draft.spec(name) is not None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    return bool(list(_networks([text])))


def _networks(texts: list[str]) -> Iterator[IPv4Network | IPv6Network]:
    for text in texts:
        try:
            yield ip_network(text)
        except ValueError:
            continue


def tls_files(form: TlsForm | None) -> TlsFiles | None:
    """Certificates as they are named."""
    return None if form is None else TlsFiles(**form.model_dump())


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
            writes=None
            if form.writes is None
            else WriteRights(
                limits=tuple(form.writes.limits),
                roles=tuple(form.writes.roles),
                subjects=tuple(form.writes.subjects),
                plain_from=tuple(form.writes.plain_from),
                per_s=form.writes.per_s,
            ),
        )
        for server_id, form in draft.northbound.modbus.items()
    )
