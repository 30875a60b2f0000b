"""SunSpec maps: points by model and name; what the published models say of them is checked by connectors."""

import re
from collections.abc import Iterator

from ems.site import IdentityField, SunSpecRow
from ems.site_schema.draft import PlacedPoint
from ems.site_schema.forms import ConnectionForm

_NAME = re.compile(r"\d+(\[\d+\])?(\.[A-Za-z]\w*(\[\d+\])?)+")
_FREE = ("type", "table", "byte_order", "word_order")  # keys that say what the model says
_TOLD = ("manufacturer", "model", "firmware", "serial")
MODELS = "models"  # what the chain of models is recorded as


def sunspec_row(placed: PlacedPoint) -> SunSpecRow | None:
    """What a map says of a SunSpec point beside its name; None with other protocols."""
    if placed.connection.protocol.family != "sunspec":
        return None
    form = placed.form
    return SunSpecRow(unit=form.unit, percent_of=form.percent_of, states=tuple(form.states.items()))


def sunspec_form(placed: PlacedPoint) -> None:
    """The form of a row: a name for an address, and none of the keys that the model itself answers."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if not (isinstance(form.address, str) and _NAME.fullmatch(form.address)):
        doc.add((*loc, "address"), repr(form.address), "model and point, such as 701.W")
    for key in _FREE:
        if (value := getattr(form, key)) not in (None, ""):
            doc.add((*loc, key), repr(value), "nothing with sunspec: the model says it")
    if form.percent_of is not None and _NAME.fullmatch(form.percent_of) is None:
        doc.add((*loc, "percent_of"), repr(form.percent_of), "model and point, such as 702.WMaxRtg")
    if form.percent_of is not None and form.states:
        doc.add((*loc, "states"), "a value", "nothing with percent_of")


def no_sunspec(placed: PlacedPoint) -> None:
    """Keys that mean nothing with other protocols."""
    for key in ("percent_of", "states"):
        if getattr(placed.form, key):
            placed.document.add((*placed.loc, key), "a value", f"nothing with {placed.connection.protocol}")


def sunspec_identity(placed: PlacedPoint, form: ConnectionForm) -> Iterator[IdentityField]:
    """What every SunSpec device tells of itself: model 1, and which models it has."""
    for name in _TOLD:
        field = placed.map.identity.get(name)  # type: ignore[call-overload]
        expected = None if field is None else field.expect
        yield _told(
            name,
            expected=form.serial_number if name == "serial" else expected,
            low=None if field is None else field.low,
            high=None if field is None else field.high,
        )
    yield _told(MODELS)


def _told(
    name: str, *, expected: str | None = None, low: str | None = None, high: str | None = None
) -> IdentityField:
    return IdentityField(
        name=name,
        address="",
        table="model",
        data_type="string",
        length=0,
        byte_order="big",
        word_order="big",
        expected=expected,
        low=low,
        high=high,
    )
