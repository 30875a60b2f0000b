"""Points whose value stands in a JSON document: where in it, and what else is told there."""

from ems.json_place import JsonPlace, is_pointer
from ems.site import Protocol
from ems.site_schema.draft import Draft, PlacedPoint

TEXT = "text"  # type of a word that stands for a value
TOLD = (Protocol.MQTT, Protocol.HTTP_JSON)


def json_row(placed: PlacedPoint) -> None:
    """Keys of a row that say where in a document its value, quality and time are."""
    form, loc, doc = placed.form, placed.loc, placed.document
    for key in ("value", "quality", "time"):
        pointer = getattr(form, key)
        if pointer is not None and not is_pointer(pointer):
            doc.add((*loc, key), repr(pointer), "a JSON pointer (RFC 6901), such as /power/active")
    if (form.quality is not None) is not bool(form.good):
        doc.add((*loc, "good"), str(form.good), "`quality` and `good` together, or neither")
    if form.time_form is not None and form.time is None:
        doc.add((*loc, "time_form"), repr(form.time_form), "`time` beside it")


def no_payload(placed: PlacedPoint) -> None:
    """Keys that mean nothing where a point is not told in a document."""
    for key in ("value", "quality", "good", "time", "time_form"):
        if key in placed.form.model_fields_set:
            placed.document.add((*placed.loc, key), "a value", f"no {key} with {placed.connection.protocol}")


def is_stamped(draft: Draft, connection_id: str) -> bool:
    """Whether documents of a connection tell when their values were sampled."""
    return any(p.form.time is not None for p in draft.points if p.connection_id == connection_id)


def json_place(placed: PlacedPoint) -> JsonPlace | None:
    """Where in a document the value of a point is; None with protocols that have none."""
    form = placed.form
    if placed.connection.protocol not in TOLD:
        return None
    return JsonPlace(
        value=form.value,
        quality=form.quality,
        good=tuple(form.good),
        time=form.time,
        time_form="iso" if form.time_form is None else form.time_form,
        words=tuple(form.codes) if form.type == TEXT else None,
    )
