"""IEC 60870-5-104 connections: the station, objects by their addresses, and how old a value may get."""

from zoneinfo import ZoneInfo

from ems.iec104 import Iec104, Iec104Times, object_faults
from ems.site import Protocol
from ems.site_schema.checks_opcua import check_proofs
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.text import Loc

READ_ONLY = "stations are read alone over IEC 60870-5-104"
OF_A_LINK = {"k", "w", "t1_s", "t2_s", "t3_s"}


def check_iec104(draft: Draft) -> None:
    """Each connection says which station it is, and nothing is commanded there."""
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.IEC_104:
            if form.iec104 is not None:
                draft.add((*loc, "iec104"), "a value", f"no iec104 with {form.protocol}")
            continue
        if form.iec104 is None:
            draft.add((*loc, "iec104"), "nothing", "`iec104: {common_address: 1}`, that of the station")
            continue
        if form.watchdog_point is not None:
            draft.add((*loc, "watchdog_point"), repr(form.watchdog_point), "left out with iec104", READ_ONLY)
        _link(draft, (*loc, "iec104"), form)
        if form.iec104.interrogate_s is not None:
            where = (*loc, "iec104", "interrogate_s")
            check_proofs(draft, connection_id, where, form.iec104.interrogate_s, "")


def _link(draft: Draft, loc: Loc, form: ConnectionForm) -> None:
    told = form.iec104
    assert told is not None, "the caller has looked"
    check_link_times(draft, loc, k=told.k, w=told.w, t1_s=told.t1_s, t2_s=told.t2_s)
    if told.time_zone != "none":
        try:
            ZoneInfo(told.time_zone)
        except (ValueError, OSError, KeyError):
            allowed = "a time zone, such as UTC or Europe/Berlin, or none"
            draft.add((*loc, "time_zone"), repr(told.time_zone), allowed)


def check_link_times(draft: Draft, loc: Loc, *, k: int, w: int, t1_s: float, t2_s: float) -> None:
    """Who confirms too late, or too seldom, ends a connection that is well."""
    if t2_s >= t1_s:
        draft.add((*loc, "t2_s"), f"{t2_s:g} s", f"less than t1_s, {t1_s:g} s")
    if w > k:
        draft.add((*loc, "w"), str(w), f"k, {k}, or less; two thirds of it are usual")


def iec104_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which object a point is."""
    form, loc, doc = placed.form, placed.loc, placed.document
    for key in ("table", "byte_order", "word_order"):
        if getattr(form, key) is not None:
            doc.add((*loc, key), repr(getattr(form, key)), "nothing with iec104")
    if form.writable:
        doc.add((*loc, "writable"), "true", "left out with iec104", READ_ONLY)
    for key, allowed in object_faults(str(form.address), form.type):
        found = repr(form.address if key == "address" else form.type)
        doc.add((*loc, "type" if key == "data_type" else key), found, allowed)


def iec104_of(form: ConnectionForm) -> Iec104 | None:
    """How a station is read; None with another protocol."""
    told = form.iec104
    if told is None:
        return None
    return Iec104(
        station=told.common_address,
        originator=told.originator,
        interrogate_s=told.interrogate_s,
        time_zone=None if told.time_zone == "none" else told.time_zone,
        times=Iec104Times(**told.model_dump(include=OF_A_LINK)),
    )
