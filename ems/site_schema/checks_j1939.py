"""J1939 connections: the bus, its sender, and points that are places in parameter groups."""

from ems.goose import is_interface
from ems.j1939 import PGN_MAX, Can, place_faults
from ems.points import Access
from ems.site import Protocol
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.text import Loc

READ_ONLY = "J1939 is listened to alone: start and stop a set by its controller"


def check_j1939(draft: Draft) -> None:
    """The bus of each connection; nothing is asked, nothing is written."""
    seen: dict[tuple[str, int], str] = {}
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.J1939:
            if form.can is not None:
                draft.add((*loc, "can"), "a value", f"no can with {form.protocol}")
            continue
        if form.watchdog_point is not None:
            draft.add((*loc, "watchdog_point"), repr(form.watchdog_point), "left out with j1939", READ_ONLY)
        placed = next((p for p in draft.points if p.connection_id == connection_id), None)
        if placed is not None and placed.map.identity:
            placed.document.add(("identity",), "a value", "left out with j1939: `name` under `can` tells it")
        if form.can is None:
            draft.add((*loc, "can"), "nothing", "`can` with its interface, or its serial adapter")
            continue
        _bus(draft, (*loc, "can"), form)
        can = can_of(form)
        assert can is not None, "it has one"
        if (first := seen.setdefault((can.where, can.source), connection_id)) != connection_id:
            wanted = f"another sender than that of {first!r}"
            draft.add((*loc, "can", "source"), f"source {can.source} on {can.where} again", wanted)


def _bus(draft: Draft, loc: Loc, form: ConnectionForm) -> None:
    can = form.can
    assert can is not None, "the caller has looked"
    if (can.interface is None) is (can.serial is None):
        found = "neither" if can.interface is None else "both"
        draft.add(loc, found, "`interface`, or `serial` with a serial adapter")
    if can.interface is not None and not is_interface(can.interface):
        draft.add((*loc, "interface"), repr(can.interface), "the name of an interface")
    if can.interface is not None and can.bitrate is not None:
        why = "ip link set can0 type can bitrate 250000"
        draft.add((*loc, "bitrate"), str(can.bitrate), "left out: the system sets that of an interface", why)
    for text in can.periods:
        if not (text.isascii() and text.isdigit() and int(text) <= PGN_MAX):
            draft.add((*loc, "periods", text), repr(text), f"a PGN as a number, 0 to {PGN_MAX}")


def j1939_row(placed: PlacedPoint) -> None:
    """The row of a point map that says where in a message a point is."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if form.table is not None:
        doc.add((*loc, "table"), repr(form.table), "nothing with j1939")
    if form.writable or (placed.spec is not None and placed.spec.access is Access.WRITE):
        doc.add((*loc, "writable"), "a setpoint", "a point that is read, with j1939", READ_ONLY)
    for key in ("byte_order", "word_order"):
        if getattr(form, key) is not None:
            doc.add((*loc, key), repr(getattr(form, key)), "nothing with j1939: the standard says it")
    can = can_of(placed.connection)
    if can is None:  # a family by itself, or told elsewhere
        can = Can(source=0)
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), "PGN and byte, such as 61444/4 [190]")
        return
    for key, allowed in place_faults(can, form.address, form.type):
        doc.add((*loc, key), repr(form.address), allowed)


def can_of(form: ConnectionForm) -> Can | None:
    """The bus of a connection; None with another protocol."""
    can = form.can
    if can is None:
        return None
    return Can(
        interface=can.interface or "",
        serial=can.serial or "",
        bitrate=250000 if can.bitrate is None else can.bitrate,
        source=can.source,
        name=can.name,
        periods_s=tuple((int(k), v) for k, v in can.periods.items() if k.isascii() and k.isdigit()),
    )
