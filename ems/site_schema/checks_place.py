"""Rows and identity lines of protocols whose places are one text: an object, and what is read of it."""

from collections.abc import Callable, Iterable

from ems.errors import BadValue
from ems.site_schema.draft import PlacedPoint
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Loc

Faults = Iterable[tuple[str, str]]  # key of the row, what is allowed


def place_row(placed: PlacedPoint, allowed_form: str, faults: Callable[[str, str], Faults]) -> None:
    """Refuse keys of registers, an address that is no text, and what `faults` finds of address and type."""
    form, loc, doc = placed.form, placed.loc, placed.document
    for key in ("table", "byte_order", "word_order"):
        if getattr(form, key) is not None:
            doc.add((*loc, key), repr(getattr(form, key)), f"nothing with {placed.connection.protocol}")
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), allowed_form)
        return
    for key, allowed in faults(form.address, form.type):
        found = repr(form.address if key == "address" else form.type)
        doc.add((*loc, "type" if key == "data_type" else key), found, allowed)


def place_identity(
    placed: PlacedPoint, loc: Loc, form: IdentityForm, parse: Callable[[str], object], allowed: str
) -> None:
    """Refuse keys of registers, and an address that `parse` (raises BadValue) does not take."""
    doc = placed.document
    for key in ("table", "length"):
        if (value := getattr(form, key)) is not None:
            doc.add((*loc, key), repr(value), f"nothing with {placed.connection.protocol}")
    try:
        if not isinstance(form.address, str):
            raise BadValue("no text")
        parse(form.address)
    except BadValue as error:
        found = "nothing" if form.address is None else repr(form.address)
        doc.add((*loc, "address"), found, allowed, str(error))
