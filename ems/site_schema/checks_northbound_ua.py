"""OPC UA servers: nobody unknown comes in unless it is said so, and whoever is not known writes nothing."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from ems.northbound import Door, WriteRights
from ems.northbound_ua import OpcUaServer, UaServerFiles, UaUser
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_northbound_ua import UaServerForm, UaUserForm, UaWritesForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

OPEN = "whoever is on the network could read the whole plant"
_PROTECTED = ("mode", "certificate", "key", "trusted", "users", "anonymous", "writes")
_SECRETS = ("password_env", "password_file", "certificate")


def check_ua_servers(draft: Draft, servers: Mapping[str, UaServerForm]) -> None:
    """All checks of the OPC UA servers, but for names and ports."""
    for server_id, form in servers.items():
        loc: Loc = ("northbound", "opc_ua", server_id)
        _door(draft, loc, form)
        if "None" in form.policies:
            _open(draft, loc, form)
            continue
        if not form.users and not form.anonymous:
            draft.add((*loc, "users"), "nobody", "who may come in, or `anonymous: true`")
        for name, user in form.users.items():
            _user(draft, (*loc, "users", name), user)
        if form.writes is not None:
            _writes(draft, (*loc, "writes"), form, form.writes)


def _door(draft: Draft, loc: Loc, form: UaServerForm) -> None:
    if form.host != "localhost" and not _is(ip_address, form.host):
        draft.add((*loc, "host"), repr(form.host), "an address of this machine; 0.0.0.0: all of them")
    for i, client in enumerate(form.clients):
        if not _is(ip_network, client):
            allowed = "an address or a network, such as 10.0.0.5 or 10.0.0.0/24"
            draft.add((*loc, "clients", i), repr(client), allowed)


def _open(draft: Draft, loc: Loc, form: UaServerForm) -> None:
    """Without protection: it is said alone, and nobody is known."""
    if form.policies != ["None"]:
        draft.add((*loc, "policies"), "None beside others", "None alone, in a server of its own")
    for key in _PROTECTED:
        if key in form.model_fields_set:
            why = "a password would cross the network unprotected" if key == "users" else ""
            draft.add((*loc, key), "a value", "nothing with policy None: all may read, nobody write", why)
    if not form.clients and not is_loopback(form.host):
        found = f"nothing, for {form.host} with policy None"
        draft.add((*loc, "clients"), found, "the addresses that may connect", OPEN)


def _user(draft: Draft, loc: Loc, user: UaUserForm) -> None:
    given = [k for k in _SECRETS if getattr(user, k) is not None]
    if len(given) != 1:
        found = "nothing" if not given else " and ".join(given)
        draft.add(loc, found, f"one of {', '.join(_SECRETS)}")


def _writes(draft: Draft, loc: Loc, form: UaServerForm, writes: UaWritesForm) -> None:
    limits = {} if draft.control is None else draft.control.limits
    told = [i for i, x in limits.items() if x.point is None and not x.contacts]
    for i, limit in enumerate(writes.limits):
        if limit not in told:
            allowed = (
                f"a limit of control.limits that is told by messages: {', '.join(told) or 'there is none'}"
            )
            draft.add((*loc, "limits", i), repr(limit), allowed, hint(limit, told))
    roles = {u.role for u in form.users.values() if u.role is not None}
    for i, role in enumerate(writes.roles):
        if role not in roles:
            draft.add(
                (*loc, "roles", i), repr(role), f"a role of a user: {', '.join(sorted(roles)) or 'none'}"
            )
    for i, user in enumerate(writes.users):
        if user not in form.users:
            draft.add((*loc, "users", i), repr(user), f"a user: {', '.join(form.users) or 'there is none'}")
    if not (writes.roles or writes.users):
        draft.add(loc, "neither roles nor users", "who may write")


def _is(kind: object, text: str) -> bool:
    assert callable(kind)
    try:
        kind(text)
    except ValueError:
        return False
    return True


def ua_servers(draft: Draft) -> tuple[OpcUaServer, ...]:
    """The servers of a site. The draft must have passed every check."""
    return () if draft.northbound is None else tuple(_built(i, f) for i, f in draft.northbound.opc_ua.items())


def _built(server_id: str, form: UaServerForm) -> OpcUaServer:
    is_open = form.policies == ["None"]
    writes = form.writes
    return OpcUaServer(
        id=server_id,
        door=Door(
            host="127.0.0.1" if form.host == "localhost" else form.host,
            port=form.port,
            clients=tuple(form.clients),
            connections_max=form.connections_max,
            per_client_max=form.per_client_max,
            requests_per_s=form.requests_per_s,
        ),
        endpoint=f"/{form.endpoint.removeprefix('/')}",
        policies=tuple(form.policies),
        mode=form.mode,
        files=None
        if is_open
        else UaServerFiles(certificate=form.certificate, key=form.key, trusted=form.trusted),
        users=tuple(
            UaUser(name=name, role=user.role or "", **user.model_dump(exclude={"role"}))
            for name, user in form.users.items()
        ),
        anonymous=form.anonymous,
        sessions_max=form.sessions_max,
        subscriptions_max=form.subscriptions_max,
        items_max=form.items_max,
        writes=None
        if writes is None
        else WriteRights(
            limits=tuple(writes.limits),
            roles=tuple(writes.roles),
            subjects=tuple(writes.users),
            per_s=writes.per_s,
        ),
    )
