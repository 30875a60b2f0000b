"""DNP3 connections: the addresses of the link, places of points, and how old a value may get."""

from ems.dnp3 import Dnp3, parse_attribute, parse_place, place_faults
from ems.errors import BadValue
from ems.site import Protocol
from ems.site_schema.checks_opcua import check_proofs
from ems.site_schema.checks_place import place_identity, place_row
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Loc

FORM = "group and index, such as g30/537, g41v3/5 or g12v1/18"


def check_dnp3(draft: Draft) -> None:
    """Link addresses of each connection, and how often everything is read."""
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.DNP3:
            if form.dnp3 is not None:
                draft.add((*loc, "dnp3"), "a value", f"no dnp3 with {form.protocol}")
            continue
        if form.dnp3 is None:
            draft.add((*loc, "dnp3"), "nothing", "`dnp3: {outstation: 10}`, its link address")
            continue
        if form.dnp3.master == form.dnp3.outstation:
            draft.add(
                (*loc, "dnp3", "master"), str(form.dnp3.master), "another address than the outstation's"
            )
        if form.dnp3.integrity_s is not None:
            check_proofs(draft, connection_id, (*loc, "dnp3", "integrity_s"), form.dnp3.integrity_s, "")
        _outputs(draft, connection_id)


def _outputs(draft: Draft, connection_id: str) -> None:
    """An output is commanded for one point, whatever its variation."""
    first: dict[tuple[int | None, int], PlacedPoint] = {}
    for placed in draft.points:
        if placed.connection_id != connection_id or not placed.form.writable:
            continue
        try:
            place = parse_place(str(placed.form.address))
        except BadValue:
            continue  # told with its row
        earlier = first.setdefault((place.command, place.output), placed)
        if earlier is not placed and place.command is not None:
            found = f"the output of {earlier.point!r} again"
            placed.document.add((*placed.loc, "address"), found, "an output that no other point commands")


def dnp3_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which object a point is, and which output is operated."""
    writable = placed.form.writable
    place_row(placed, FORM, lambda address, kind: place_faults(address, kind, writable=writable))


def dnp3_identity(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Which device attribute one line of an identity block is."""
    place_identity(placed, loc, form, parse_attribute, "a device attribute, such as g0v250")


def dnp3_of(form: ConnectionForm) -> Dnp3 | None:
    """How an outstation is spoken to; None with another protocol."""
    if form.dnp3 is None:
        return None
    told = form.dnp3.model_dump()
    return Dnp3(**{**told, "events": None if told["events"] == "classes" else told["events"]})
