"""Doors of our servers: nobody unknown comes in over a network, nobody unknown tells a bound."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ems.control_site import LimitKind
from ems.northbound import TlsFiles, WriteRights
from ems.northbound_names import ANSWER, LIMIT, OF_THE_EMS, cap_name
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_northbound import ModbusServerForm
from ems.site_schema.forms_northbound_iec104 import Iec104ServerForm
from ems.site_schema.forms_northbound_parts import TlsForm, WriteRightsForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

OPEN = "whoever is on the network could read the whole plant"
ServerForm = ModbusServerForm | Iec104ServerForm


def check_door(draft: Draft, loc: Loc, form: ServerForm) -> None:
    """Nobody unknown comes in over a network."""
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


def told_limits(draft: Draft) -> list[str]:
    """Limits that are told by messages."""
    limits = {} if draft.control is None else draft.control.limits
    return [i for i, x in limits.items() if x.point is None and not x.contacts]


def check_rights(draft: Draft, loc: Loc, form: ServerForm, rights: WriteRightsForm) -> None:
    """What may be told is a limit that messages tell, and somebody in particular may tell it."""
    told = told_limits(draft)
    for i, limit in enumerate(rights.limits):
        if limit not in told:
            allowed = (
                f"a limit of control.limits that is told by messages: {', '.join(told) or 'there is none'}"
            )
            draft.add((*loc, "limits", i), repr(limit), allowed, hint(limit, told))
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


def check_names(draft: Draft, loc: Loc, mapped: Iterable[str], of_a_server: Iterable[str]) -> None:
    """What a map shows is there.

    Parameters
    ----------
    of_a_server : names that a server of this kind adds by itself.
    """
    known = {*_known(draft), *of_a_server}
    for name in mapped:
        if name not in known and not _may_be_mapped(draft, name):
            allowed = "a mapped point of the plant, limit.ID, answer.ID, cap.KIND_kw, ems.WHAT or server.WHAT"
            draft.add((*loc, name), repr(name), allowed, hint(name, known))


def _known(draft: Draft) -> Iterator[str]:
    yield from OF_THE_EMS
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


def write_rights(form: WriteRightsForm | None) -> WriteRights | None:
    """Who may tell what, as it is said."""
    if form is None:
        return None
    return WriteRights(
        limits=tuple(form.limits),
        roles=tuple(form.roles),
        subjects=tuple(form.subjects),
        plain_from=tuple(form.plain_from),
        per_s=form.per_s,
    )
