"""Bounds that a server has told for times to come, so that plans reckon with them. Pure.

Nothing here is ever told to the edge: what holds there is told when it holds.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from connectors.status_watch import SILENT_S
from connectors.utility.bound import KW_MAX, Bound
from ems.control_site import LimitKind
from ems.forecast import CapAhead
from ems.records import JsonValue, StatusRow
from ems.site import Site

AHEAD_S = 48 * 3600.0  # as far as plans look
EDGES_MAX = 200  # starts and ends, the next ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A bound of one mode over a time to come [s of the server's clock]."""

    start_s: float
    end_s: float
    kw: float


def foreseen(
    bound_at: Callable[[float], Bound | None], edges_s: Iterable[float], now_s: float
) -> tuple[Ahead, ...]:
    """What holds from now on, piece by piece; where nothing is told there is none.

    Parameters
    ----------
    bound_at : what holds at a time of the server's clock; asked in the order of time.
    edges_s : when something begins or ends there; between two of them nothing changes.
    """
    until_s = now_s + AHEAD_S
    inside = sorted({s for s in edges_s if now_s < s < until_s})[:EDGES_MAX]
    ends = (now_s, *inside, until_s if len(inside) < EDGES_MAX else inside[-1])
    out: list[Ahead] = []
    for start_s, end_s in pairwise(ends):
        bound = bound_at((start_s + end_s) / 2.0)
        if bound is None or end_s <= start_s:
            continue
        if out and out[-1].end_s == start_s and out[-1].kw == bound.kw:
            out[-1] = replace(out[-1], end_s=end_s)
        else:
            out.append(Ahead(start_s=start_s, end_s=end_s, kw=bound.kw))
    return tuple(out)


def caps_ahead(site: Site, rows: Mapping[str, StatusRow], now: datetime) -> tuple[CapAhead, ...]:
    """Caps at the POI that the servers of a site have told for times to come, by their status rows.

    A row that is old, or of a server that is not heard, says nothing; so does what is not built as it is
    written. One that is a little newer than `now` was written while the plan was begun.
    """
    kinds = {x.id: x.kind for x in site.control.limits}
    found = []
    for server in site.utilities:
        row = rows.get(server.id)
        if row is None or abs((now - row.at).total_seconds()) > SILENT_S or row.fields.get("trouble"):
            continue
        told = row.fields.get("ahead")
        caps = (_cap(one, kinds, server.id) for one in (told if isinstance(told, list) else ()))
        found += [cap for cap in caps if cap is not None and cap.end > now]
    return tuple(found)


def _cap(one: JsonValue, kinds: Mapping[str, LimitKind], server: str) -> CapAhead | None:
    if not isinstance(one, dict):
        return None
    kw, start, end = one.get("kw"), one.get("start"), one.get("end")
    kind = kinds.get(str(one.get("limit")))
    if not (isinstance(kw, int | float) and isinstance(start, str) and isinstance(end, str)):
        return None
    if kind not in (LimitKind.IMPORT, LimitKind.EXPORT) or not (math.isfinite(kw) and 0.0 <= kw <= KW_MAX):
        return None
    try:
        begins, ends = datetime.fromisoformat(start), datetime.fromisoformat(end)
    except ValueError:
        return None
    if begins.tzinfo is None or ends.tzinfo is None or ends <= begins:
        return None
    return CapAhead(
        is_import=kind is LimitKind.IMPORT, cap_kw=float(kw), start=begins, end=ends, source=server
    )
