"""DLMS connections: how a meter is known, places of points, and that nothing is written."""

from collections.abc import Sequence
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ems.dlms import DATA, Dlms, DlmsRow, parse_obis, parse_place, place_faults
from ems.errors import BadValue
from ems.site import Protocol as Wire
from ems.site_schema.checks_place import place_identity, place_row
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_dlms import DlmsForm
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Key, Loc

FORM = "an OBIS code, such as 1-0:1.7.0*255 or 0-0:96.1.0*255 [class 1]"
READ_ONLY = "a meter is only read"
_SECRETS = {
    "low": (),
    "gmac": ("system_title", "encryption_key_file", "authentication_key_file", "counter_file"),
}
_PASSWORDS = ("password_env", "password_file")


def check_dlms(draft: Draft) -> None:
    """How each meter is known, and that no two connections share an invocation counter."""
    counters: dict[str, str] = {}
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Wire.DLMS:
            if form.dlms is not None:
                draft.add((*loc, "dlms"), "a value", f"no dlms with {form.protocol}")
            continue
        if form.watchdog_point is not None:
            draft.add((*loc, "watchdog_point"), repr(form.watchdog_point), "left out with dlms", READ_ONLY)
        told = DlmsForm() if form.dlms is None else form.dlms
        loc = (*loc, "dlms")
        check_settings(draft, loc, told)
        if told.counter_file is not None:
            first = counters.setdefault(told.counter_file, connection_id)
            if first != connection_id:
                wanted = f"another file than that of {first!r}: each pair of keys counts by itself"
                draft.add((*loc, "counter_file"), repr(told.counter_file), wanted)


class Adding(Protocol):
    """Where problems are noted: a draft, or the document of a mapping."""

    def add(self, loc: Sequence[Key], found: str, allowed: str, message: str = "") -> None:
        """Note a problem."""
        ...


def check_settings(draft: Adding, loc: Loc, form: DlmsForm) -> None:
    """What one key of the settings asks of another."""
    _secrets(draft, loc, form)
    _times(draft, loc, form)


def _secrets(draft: Adding, loc: Loc, form: DlmsForm) -> None:
    way = form.authentication
    for key in (*_PASSWORDS, *_SECRETS["gmac"]):
        belongs = key in _PASSWORDS if way == "low" else key in _SECRETS.get(way, ())
        if getattr(form, key) is not None and not belongs:
            draft.add((*loc, key), "a value", f"nothing with authentication: {way}")
        elif getattr(form, key) is None and key in _SECRETS.get(way, ()):
            draft.add((*loc, key), "nothing", f"a value with authentication: {way}")
    if way == "low" and sum(getattr(form, k) is not None for k in _PASSWORDS) != 1:
        draft.add((*loc, "authentication"), "'low'", "one of password_env and password_file beside it")


def _times(draft: Adding, loc: Loc, form: DlmsForm) -> None:
    if form.clock:
        try:
            parse_obis(form.clock)
        except BadValue as error:
            draft.add((*loc, "clock"), repr(form.clock), "0-0:1.0.0*255, or empty", str(error))
    if form.time_zone is not None:
        try:
            ZoneInfo(form.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            draft.add((*loc, "time_zone"), repr(form.time_zone), "an IANA name such as Africa/Nairobi")


def dlms_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which attribute a point is."""
    if placed.form.writable:
        placed.document.add((*placed.loc, "writable"), "true", "false with dlms", READ_ONLY)
    place_row(placed, FORM, place_faults)


def dlms_identity(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Which object one line of an identity block is: class 1 unless it says otherwise."""

    def parse(text: str) -> None:
        if parse_place(text, class_id=DATA).bad:
            raise BadValue("a text has no status")

    place_identity(placed, loc, form, parse, "an OBIS code, such as 0-0:96.1.0*255")


def dlms_of(form: ConnectionForm) -> Dlms | None:
    """Who a meter is and who we are to it; None with another protocol."""
    if form.protocol is not Wire.DLMS:
        return None
    return settings_of(DlmsForm() if form.dlms is None else form.dlms)


def settings_of(form: DlmsForm) -> Dlms:
    """The same of a form."""
    told = form.model_dump()
    title = told.pop("system_title")
    return Dlms(**told, system_title="" if title is None else title.upper())


def row_of(placed: PlacedPoint) -> DlmsRow | None:
    """What a row says beside its place; None with another protocol."""
    if placed.connection.protocol is not Wire.DLMS:
        return None
    return DlmsRow(unit=placed.form.unit)
