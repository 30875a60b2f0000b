"""BACnet connections: who is spoken to, places of points, and priorities."""

import re

from ems.bacnet import RESERVED, Bacnet, parse_identity, parse_place, place_faults, reserved_fault
from ems.errors import BadValue
from ems.site import Protocol
from ems.site_schema.checks_place import place_identity, place_row
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
    writable = placed.form.writable
    place_row(placed, FORM, lambda address, kind: place_faults(address, kind, writable=writable))


def bacnet_identity(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Which property one line of an identity block is."""
    place_identity(placed, loc, form, parse_identity, "a property of the device, such as vendor-name")


def bacnet_of(form: ConnectionForm) -> Bacnet | None:
    """How a device is spoken to; None with another protocol."""
    return None if form.bacnet is None else Bacnet(**form.bacnet.model_dump())
