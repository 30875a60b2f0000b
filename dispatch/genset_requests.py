"""What the edge asks of the gensets: minimum up and down times, failed starts, and the truth at the set.

A genset's own controller cranks, synchronises, shares and cools down, and starts by itself when the mains
fail. The edge asks for run or stop and never works against what it finds: a set that started by itself is
adopted, a set that was stopped at its panel is left alone for a while.
"""

from collections.abc import Mapping
from dataclasses import replace

from dispatch.layout import Layout
from dispatch.state import GensetRequest, GensetSeen
from dispatch.vocabulary import Event, Target, event
from ems.assets import GensetParams
from ems.commands import Cause
from ems.condition import PlantCondition
from ems.points import GensetState

LATE_FACTOR = 1.5  # not on load after so many times attempts x start delay: late, the next one takes over
LATE_MARGIN_S = 30.0
LEAVE_ALONE_S = 600.0  # a late set, or one stopped by somebody else, is not asked again before

_UP = frozenset((GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING, GensetState.RUNNING))


def reconcile(
    layout: Layout,
    requests: Mapping[str, GensetRequest],
    before: Mapping[str, GensetSeen],
    seen: Mapping[str, GensetSeen],
    now_s: float,
) -> tuple[dict[str, GensetRequest], list[Event]]:
    """Bring the requests in line with what the sets do by themselves.

    Parameters
    ----------
    before, seen : what was known of each set at the last tick and at this one.
    """
    out: dict[str, GensetRequest] = {}
    events: list[Event] = []
    for g, params in layout.gensets.items():
        request, kind = _truth(params, requests.get(g), before.get(g), seen[g], now_s)
        out[g] = request
        if kind is not None:
            events.append(event(kind, genset=g, state=_name(seen[g])))
    return out, events


def _name(seen: GensetSeen) -> str | None:
    return None if seen.state is None else seen.state.value


def _truth(
    params: GensetParams,
    request: GensetRequest | None,
    before: GensetSeen | None,
    seen: GensetSeen,
    now_s: float,
) -> tuple[GensetRequest, str | None]:
    up = seen.state in _UP
    if request is None or before is None:
        return GensetRequest(run=up, since_s=now_s, adopted=up), None
    was_up = before.state in _UP
    if request.late and now_s - request.since_s > LEAVE_ALONE_S:
        return replace(request, late=False, since_s=now_s), "genset.request.retried"
    if not request.run and up and not was_up and before.state is not None:
        return GensetRequest(run=True, since_s=now_s, adopted=True), "genset.started_by_itself"
    if request.run and seen.state is GensetState.LOCKED_OUT:
        return GensetRequest(run=False, since_s=now_s), "genset.locked_out"
    if request.run and was_up and not up and before.on_load:
        return GensetRequest(run=False, since_s=now_s, late=True), "genset.stopped_by_others"
    waited_s = now_s - request.since_s
    limit_s = LATE_FACTOR * params.start_attempts * params.start_delay_s + LATE_MARGIN_S
    if request.run and not seen.on_load and waited_s > limit_s:
        return GensetRequest(run=False, since_s=now_s, late=True), "genset.start.late"
    return request, None


def resolve(
    layout: Layout,
    requests: Mapping[str, GensetRequest],
    wanted: Mapping[str, Target],
    condition: PlantCondition,
    now_s: float,
) -> tuple[dict[str, GensetRequest], dict[str, Target], list[Event]]:
    """Wishes to requests, with minimum up and down times: (requests, run targets, events).

    A wish with cause PROTECTION is not held off by them.
    """
    out: dict[str, GensetRequest] = {}
    targets: dict[str, Target] = {}
    events: list[Event] = []
    for g, params in layout.gensets.items():
        request, wish = requests[g], wanted.get(g)
        target = _allowed(params, request, wish, condition, now_s)
        run = target.value >= 0.5
        if run != request.run:
            request = GensetRequest(run=run, since_s=now_s)
            kind = "genset.start.requested" if run else "genset.stop.requested"
            events.append(event(kind, genset=g, reason=target.reason))
        out[g], targets[g] = request, target
    return out, targets, events


def _allowed(
    params: GensetParams,
    request: GensetRequest,
    wish: Target | None,
    condition: PlantCondition,
    now_s: float,
) -> Target:
    """The wish if it may be fulfilled now, else what is asked already, with the reason."""
    c = condition.gensets[params.id]
    if wish is None:
        verb = "keeps running" if request.run else "stays off"
        return Target(value=float(request.run), cause=Cause.REFRESH, reason=f"{params.id} {verb}")
    run, forced = wish.value >= 0.5, wish.cause is Cause.PROTECTION
    if run is request.run:
        return wish
    if run and not c.available:
        return replace(wish, value=0.0, reason=f"{params.id} is not available")
    if run and not forced and not c.on_load and c.age_s < params.min_down_s:
        left_s = params.min_down_s - c.age_s
        return replace(
            wish, value=0.0, reason=f"{params.id} stays off {left_s:.0f} s more: minimum down time"
        )
    if not run and not forced and c.on_load and c.age_s < params.min_up_s:
        left_s = params.min_up_s - c.age_s
        return replace(wish, value=1.0, reason=f"{params.id} stays on {left_s:.0f} s more: minimum up time")
    if not run and not forced and not c.on_load and now_s - request.since_s < params.start_delay_s:
        return replace(wish, value=1.0, reason=f"{params.id} has just been asked to start")
    return wish
