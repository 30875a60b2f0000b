"""Reserve and N-1 in `ems operator status`: what is held, and what each loss would leave missing."""

from collections.abc import Iterator, Mapping

from ems.records import JsonValue


def reserve_lines(fields: Mapping[str, JsonValue]) -> Iterator[str]:
    """A line for the reserve and one for each loss, from the status row of an edge; none of an older one."""
    losses = fields.get("contingencies")
    if not isinstance(losses, list):
        return
    short_kw = fields.get("reserve_short_kw")
    short = isinstance(short_kw, int | float) and short_kw > 0.0
    held, required = _kw(fields.get("reserve_held_kw")), _kw(fields.get("reserve_required_kw"))
    yield f"reserve: {held} held of {required} required{f', SHORT by {_kw(short_kw)}' if short else ''}"
    for one in losses:
        if isinstance(one, Mapping):
            yield _loss(one)
    if not losses:
        yield "no loss is judged: the state of the bus is not known, or it is dead"


def _loss(one: Mapping[str, JsonValue]) -> str:
    covered = one.get("verdict") == "covered"
    verdict = (
        "covered"
        if covered
        else f"{'SHORT' if one.get('required') else 'short'} by {_kw(one.get('short_kw'))}"
    )
    asked = "required" if one.get("required") else "not asked for"
    lost, held = _kw(one.get("lost_kw")), _kw(one.get("held_kw"))
    return f"if lost: {one.get('name')} ({one.get('kind')}), {lost}, held {held}: {verdict}, {asked}"


def _kw(value: JsonValue) -> str:
    return f"{value:.0f} kW" if isinstance(value, int | float) else "no bound"
