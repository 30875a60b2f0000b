"""BACnet connections: who is spoken to, places of points, and priorities."""

import re

from ems.bacnet import RESERVED, Bacnet, parse_identity, parse_place, place_faults, reserved_fault
from ems.errors import BadValue
from ems.site import Protocol
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_bacnet import BacnetForm
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Loc

FORM = "object type and instance, such as analog-input,3 or binary-output,2 [priority 8]"
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}){1,7}")
_BIND = re.compile(r"[^:\s]+(?::(\d{1,5}))?")


def check_bacnet(draft: Draft) -> None:
    """Who is spoken to at each connection, and the priorities of its setpoints."""
    ports: dict[str, str] = {}
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.BACNET:
            if form.bacnet is not None:
                draft.add((*loc, "bacnet"), "a value", f"no bacnet with {form.protocol}")
            continue
        if form.bacnet is None:
            draft.add(
                (*loc, "bacnet"), "nothing", "`bacnet: {device: 1201}`, the instance of its device object"
            )
            continue
        _reached(draft, (*loc, "bacnet"), form.bacnet)
        _, _, port = form.bacnet.bind.partition(":")
        if port and (other := ports.setdefault(port, connection_id)) != connection_id:
            found = f"the port of {other!r} again"
            draft.add((*loc, "bacnet", "bind"), found, "a port of its own, or none for each connection")
        _priorities(draft, connection_id, form.bacnet)


def _reached(draft: Draft, loc: Loc, form: BacnetForm) -> None:
    if (form.network is None) is not (form.mac == ""):
        draft.add(loc, "one of network and mac", "both for a device behind a router, else neither")
    elif form.mac and _MAC.fullmatch(form.mac) is None:
        draft.add((*loc, "mac"), repr(form.mac), "1 to 7 bytes in hexadecimal, such as 0c")
    if form.bind:
        found = _BIND.fullmatch(form.bind)
        if found is None or (found[1] is not None and not 0 < int(found[1]) < 65536):
            draft.add((*loc, "bind"), repr(form.bind), "HOST or HOST:PORT, such as 192.0.2.9:47808")


def _priorities(draft: Draft, connection_id: str, form: BacnetForm) -> None:
    """A reserved priority is said twice; an object is commanded for one point."""
    loc: Loc = ("connections", connection_id, "bacnet")
    used = {form.priority}
    if why := reserved_fault(form.priority, form.priority_is):
        draft.add((*loc, "priority"), str(form.priority), why)
    first: dict[tuple[int, int], PlacedPoint] = {}
    for placed in draft.points:
        if placed.connection_id != connection_id or not placed.form.writable:
            continue
        try:
            place = parse_place(str(placed.form.address))
        except BadValue:
            continue  # told with its row
        if place.priority is not None:
            used.add(place.priority)
            if why := reserved_fault(place.priority, form.priority_is):
                placed.document.add((*placed.loc, "address"), f"priority {place.priority}", why)
        earlier = first.setdefault((place.object_type, place.instance), placed)
        if earlier is not placed:
            found = f"the object of {earlier.point!r} again"
            placed.document.add((*placed.loc, "address"), found, "an object that no other point commands")
    if form.priority_is is not None and not any(RESERVED.get(p) == form.priority_is for p in used):
        draft.add((*loc, "priority_is"), form.priority_is, "nothing: no setpoint has that priority")


def bacnet_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which property of which object a point is."""
    form, loc, doc = placed.form, placed.loc, placed.document
    for key in ("table", "byte_order", "word_order"):
        if getattr(form, key) is not None:
            doc.add((*loc, key), repr(getattr(form, key)), "nothing with bacnet")
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), FORM)
        return
    for key, allowed in place_faults(form.address, form.type, writable=form.writable):
        found = repr(form.address if key == "address" else form.type)
        doc.add((*loc, "type" if key == "data_type" else key), found, allowed)


def bacnet_identity(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Which property one line of an identity block is."""
    doc = placed.document
    for key in ("table", "length"):
        if (value := getattr(form, key)) is not None:
            doc.add((*loc, key), repr(value), "nothing with bacnet")
    try:
        if not isinstance(form.address, str):
            raise BadValue("no text")
        parse_identity(form.address)
    except BadValue as error:
        found = "nothing" if form.address is None else repr(form.address)
        doc.add((*loc, "address"), found, "a property of the device, such as vendor-name", str(error))


def bacnet_of(form: ConnectionForm) -> Bacnet | None:
    """How a device is spoken to; None with another protocol."""
    return None if form.bacnet is None else Bacnet(**form.bacnet.model_dump())
