"""Rows of a map that are one bit of a register, a contact that is inverted, or codes: checked."""

from ems.errors import BadValue
from ems.site_schema.build_wire import coded
from ems.site_schema.draft import PlacedPoint

FLOATS = (
    "f32", "f64", "bit", "Float", "Double", "Boolean", "number", "boolean", "real", "double", "float",
    "normalized", "single_point",
)  # fmt: skip


def check_codes(placed: PlacedPoint, low: float, high: float) -> bool:
    """Whether bit, codes and inversion can be worked with; each that cannot is noted.

    Parameters
    ----------
    low, high : the range of the point, in its own unit.
    """
    form, loc, doc = placed.form, placed.loc, placed.document
    before = len(doc.problems)
    good = True
    for key, used in (("bit", form.bit is not None), ("codes", bool(form.codes))):
        if used and form.type in FLOATS:
            doc.add((*loc, key), f"with type {form.type}", "only with integer types")
            good = False
    if form.bit is not None:
        bits = int("".join(c for c in form.type if c.isdigit()) or ("64" if form.type == "integer" else "16"))
        if form.bit >= bits:
            doc.add((*loc, "bit"), str(form.bit), f"0 to {bits - 1} in {form.type}")
            good = False
        if form.writable:
            why = "writing a bit would write the rest of its register"
            doc.add((*loc, "bit"), "a writable point", "only points that are read", why)
            good = False
    plain = form.scale == 1.0 and form.offset == 0.0 and form.sign == 1
    if (form.inverted or form.codes) and not plain:
        key = "inverted" if form.inverted else "codes"
        doc.add((*loc, key), "beside scale, offset or sign", "without them")
        good = False
    if form.codes and (form.bit is not None or form.inverted):
        doc.add((*loc, "codes"), "beside bit or inverted", "either of them")
        good = False
    return good and _codes(placed, low, high) and len(doc.problems) == before


def no_codes(placed: PlacedPoint) -> None:
    """With SunSpec the models say what a count means."""
    form = placed.form
    for key, used in (("bit", form.bit is not None), ("inverted", form.inverted), ("codes", form.codes)):
        if used:
            placed.document.add((*placed.loc, key), "a value", "nothing with sunspec: the model says it")


def _codes(placed: PlacedPoint, low: float, high: float) -> bool:
    form, loc, doc = placed.form, placed.loc, placed.document
    try:
        pairs = coded(placed)
    except BadValue as error:
        doc.add((*loc, "codes"), "codes", "whole numbers to values, or to names of states", str(error))
        return False
    outside = [value for _, value in pairs if not low <= value <= high]
    if outside:
        doc.add((*loc, "codes"), f"{outside[0]:g}", f"values inside the range [{low:g}, {high:g}]")
    if len({raw for raw, _ in pairs}) < len(pairs):
        doc.add((*loc, "codes"), "one count twice", "each count once", "0x10 is 16")
        return False
    values = [value for _, value in pairs]
    if form.writable and len(set(values)) < len(values):
        doc.add((*loc, "codes"), "two counts for one value", "one: which of them is written?")
        return False
    return not outside
