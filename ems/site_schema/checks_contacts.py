"""Dry contacts of the stop circuit and of selectors: a cut wire must not read as if all were well."""

from ems.open_wires import good_word, is_dry_contact, is_well_when_open, open_value
from ems.points import AssetKind
from ems.site import PointMap
from ems.site_schema.draft import PlacedPoint

KEY = "open_wire_unsafe"


def check_place_of_open_wire(placed: PlacedPoint) -> None:
    """The key belongs to contacts of a stop circuit or selector, and to nothing else."""
    if placed.form.open_wire_unsafe and not _is_judged(placed):
        allowed = "nothing: only with bus.emergency_stop and remote, in a coil, a discrete input or a bit"
        placed.document.add((*placed.loc, KEY), "true", allowed)


def check_open_wire(placed: PlacedPoint, row: PointMap) -> None:
    """What an open circuit reads as, and whether somebody said that they know.

    Parameters
    ----------
    row : the map of the point, of which everything else is right.
    """
    if not _is_judged(placed):
        return
    form, loc, doc = placed.form, placed.loc, placed.document
    unsafe = is_well_when_open(row)
    if unsafe and not form.open_wire_unsafe:
        key = "inverted" if form.inverted else "offset"
        found = (
            f"{getattr(form, key)!r}".lower()
            + f": a cut wire (raw 0) reads {open_value(row):g}, {_word(placed)}"
        )
        allowed = "a contact that is closed, raw 1, while all is well"
        why = f"where it cannot be wired so, and somebody has looked at it: `{KEY}: true`"
        doc.add((*loc, key), found, allowed, why)
    elif form.open_wire_unsafe and not unsafe:
        found = f"true, and a cut wire does not read as {_word(placed)}"
        why = f"a site file that changes the row of a family says `{KEY}: false`"
        doc.add((*loc, KEY), found, "nothing, or false", why)


def _is_judged(placed: PlacedPoint) -> bool:
    """A contact of the stop circuit or of a selector; in a family its asset has no name yet."""
    contact = is_dry_contact(table=placed.form.table, bit=placed.form.bit)
    return contact and placed.spec is not None and _word(placed) is not None


def _word(placed: PlacedPoint) -> str | None:
    asset = "bus" if placed.kind is AssetKind.BUS else placed.asset
    return good_word(f"{asset}.{placed.name}")
