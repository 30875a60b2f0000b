"""What the edge asks of the gensets: minimum up and down times, failed starts, and the truth at the set.

A genset's own controller cranks, synchronises, shares and cools down, and starts by itself when the mains
fail. The edge asks for run or stop and never works against what it finds: a set that started by itself is
adopted, a set that was stopped at its panel is left alone for a while.
"""

from collections.abc import Collection, Mapping

from dispatch.layout import Layout
from dispatch.state import GensetRequest, GensetSeen, Written
from dispatch.vocabulary import Event, Target, event
from ems.assets import GensetParams, StartsFor
from ems.commands import Cause
from ems.condition import PlantCondition
from ems.frozen import replace
from ems.local_time import local_time
from ems.points import GensetState
from ems.site import GridMode

LATE_FACTOR = 1.5  # not on load after so many times attempts x start delay: late, the next one takes over
LATE_MARGIN_S = 30.0
STALL_S = 60.0  # a set that leaves the bus so soon after it came has failed to start
LOCK_OUT_AFTER = 3  # failed starts in a row: nothing is asked before an operator has looked
TAKEN_S = 10.0  # a request whose contrary the set does so long after it was asked was not heard
HOUR_S = 3600.0
LEAVE_ALONE_S = 600.0  # a late set, or one stopped by somebody else, is not asked again before

_UP = frozenset((GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING, GensetState.RUNNING))


def reconcile(
    layout: Layout,
    requests: Mapping[str, GensetRequest],
    before: Mapping[str, GensetSeen],
    seen: Mapping[str, GensetSeen],
    now_s: float,
    looked: Collection[str] = (),
) -> tuple[dict[str, GensetRequest], list[Event]]:
    """Bring the requests in line with what the sets do by themselves.

    Parameters
    ----------
    before, seen : what was known of each set at the last tick and at this one.
    looked : setpoints that a person has just operated; a run request: somebody has looked at the set.
    """
    out: dict[str, GensetRequest] = {}
    events: list[Event] = []
    for g, params in layout.gensets.items():
        known = requests.get(g)
        if known is not None and known.reset_why is not None and f"{g}.run_request" in looked:
            known = replace(known, reset_why=None, failures=0, late=False)
            events.append(event("genset.reset", genset=g, why="an operator's wish"))
        was = before.get(g)
        if (
            known is not None
            and was is not None
            and was.state is not None
            and seen[g].doubted_since_s is not None
        ):
            out[g] = known  # it tells two things: neither a trip nor a failed start follows
            continue
        request, kind = _truth(params, known, was, seen[g], now_s)
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
    up = seen.state in _UP or seen.doubted_since_s is not None
    if request is None:
        return GensetRequest(run=up, since_s=now_s), None
    if before is None or before.state is None:  # its first reading since the edge started: as it is found
        return replace(request, run=up, since_s=now_s), None
    if before.state is GensetState.LOCKED_OUT and seen.state is not GensetState.LOCKED_OUT and seen.state:
        request = replace(request, reset_why=None, failures=0)  # somebody was at the set
    was_up = before.state in _UP
    if request.late and now_s - request.since_s > LEAVE_ALONE_S:
        return replace(request, late=False, since_s=now_s), "genset.request.retried"
    unheard = seen.on_load and not before.on_load and now_s - request.since_s >= TAKEN_S
    if not request.run and up and (not was_up or unheard):
        return replace(request, run=True, since_s=now_s, late=False), "genset.started_by_itself"
    if not request.run:
        return request, None
    if seen.on_load:
        return _on_load(request, before, seen, now_s)
    if seen.state is GensetState.LOCKED_OUT:
        kind = "genset.tripped" if before.on_load else "genset.locked_out"
        return replace(request, run=False, since_s=now_s, overdue=False), kind
    if before.on_load and not up:
        return _gone(request, before, seen, now_s)
    return _waited(params, request, now_s)


def _on_load(
    request: GensetRequest, before: GensetSeen, seen: GensetSeen, now_s: float
) -> tuple[GensetRequest, str | None]:
    """A start has succeeded once the set has been on load for a while."""
    if request.overdue:
        return replace(request, overdue=False), "genset.start.came_late"
    lasting = now_s - seen.on_load_since_s >= STALL_S
    return (replace(request, failures=0) if request.failures and lasting else request), None


def _gone(
    request: GensetRequest, before: GensetSeen, seen: GensetSeen, now_s: float
) -> tuple[GensetRequest, str | None]:
    """It left the bus though it was asked to run: stalled, tripped, or stopped by somebody."""
    if now_s - before.on_load_since_s < STALL_S:
        return _failed(request, now_s, "genset.start.stalled")
    if seen.state is GensetState.STOPPED:  # an engine that nobody has tripped cools down first
        why = "it tripped"
        return replace(request, run=False, since_s=now_s, overdue=False, reset_why=why), "genset.tripped"
    return replace(request, run=False, since_s=now_s, late=True, overdue=False), "genset.stopped_by_others"


def _waited(params: GensetParams, request: GensetRequest, now_s: float) -> tuple[GensetRequest, str | None]:
    """Not on load yet: overdue after its time-out, failed when all its attempts must be over."""
    waited_s = now_s - request.since_s
    limit_s = LATE_FACTOR * params.start_attempts * params.start_delay_s + LATE_MARGIN_S
    if waited_s > max(limit_s, params.overdue_s):
        return _failed(request, now_s, "genset.start.late")
    if waited_s >= params.overdue_s and not request.overdue:
        return replace(request, overdue=True), "genset.start.overdue"
    return request, None


def _failed(request: GensetRequest, now_s: float, kind: str) -> tuple[GensetRequest, str]:
    """One more start has failed; after some of them only an operator lets it be asked again."""
    n = request.failures + 1
    why = f"{n} starts failed" if n >= LOCK_OUT_AFTER else request.reset_why
    failed = replace(request, run=False, since_s=now_s, late=True, overdue=False, failures=n, reset_why=why)
    return failed, kind


def not_taken(
    layout: Layout,
    requests: Mapping[str, GensetRequest],
    states: Mapping[str, GensetState | None],
    written: Mapping[str, Written],
    condition: PlantCondition,
    now_s: float,
) -> frozenset[str]:
    """Sets that a request of a protection has not reached, inside the minimum time that it was free of.

    People had the set in manual or in local, or its controller refused; it goes on as before. Whoever asks
    the same later, for another reason, is not free of that time.
    """
    out = set()
    for g, params in layout.gensets.items():
        request, c, w = requests[g], condition.gensets[g], written.get(f"{g}.run_request")
        may_answer = now_s - request.since_s < TAKEN_S  # it was sent, and what became of it is not known yet
        if w is not None and (w.value >= 0.5) is request.run and (w.wanted is None or may_answer):
            continue
        rests = not c.on_load and states[g] is not None and states[g] not in _UP
        stays_out = request.run and rests and c.age_s < params.min_down_s
        if stays_out or (not request.run and c.on_load and c.age_s < params.min_up_s):
            out.add(g)
    return frozenset(out)


def resolve(
    layout: Layout,
    requests: Mapping[str, GensetRequest],
    wanted: Mapping[str, Target],
    condition: PlantCondition,
    now_s: float,
    critical: bool = False,
    untaken: Collection[str] = (),
) -> tuple[dict[str, GensetRequest], dict[str, Target], list[Event]]:
    """Wishes to requests, with minimum up and down times: (requests, run targets, events).

    A wish with cause PROTECTION is not held off by them; quiet hours hold off rules and protections alike,
    starts an hour plans as well. Where nobody knows what time it is, quiet hours hold off no start that is
    wished for here: it is for load, and a quiet night in the dark is the worse mistake.

    Parameters
    ----------
    critical : load of the critical tiers depends on a start now.
    untaken : sets that have not heard of what they were asked, see `not_taken`.
    """
    out: dict[str, GensetRequest] = {}
    targets: dict[str, Target] = {}
    events: list[Event] = []
    for g, params in layout.gensets.items():
        request, wish = requests[g], wanted.get(g)
        if g in untaken and (wish is None or wish.cause is not Cause.PROTECTION):
            request = replace(request, run=not request.run, since_s=now_s)
            events.append(event("genset.request.not_taken", genset=g, asked="stop" if request.run else "run"))
        target = _allowed(params, request, wish, condition, now_s)
        if target.value >= 0.5 and not request.run:
            target = _quiet(layout, params, request, target, condition, now_s, critical)
        run = target.value >= 0.5
        if run != request.run:
            recent = tuple(s for s in request.starts_s if now_s - s < HOUR_S)
            starts_s = (*recent, now_s) if run else recent
            request = replace(request, run=run, since_s=now_s, late=False, overdue=False, starts_s=starts_s)
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
    islanded = condition.grid_mode is not GridMode.GRID_TIED
    most = params.starts_per_h_max
    used_up = most is not None and starts_in_hour(request, now_s) >= most
    if not run and not forced and c.on_load and islanded and used_up:
        reason = f"{params.id} stays on: after {most} starts in this hour it could not come back"
        return replace(wish, value=1.0, reason=reason)
    if not run and request.overdue and not c.on_load and islanded:
        return replace(wish, value=1.0, reason=f"{params.id} is still trying to start")
    if not run and not forced and not c.on_load and now_s - request.since_s < params.start_delay_s:
        return replace(wish, value=1.0, reason=f"{params.id} has just been asked to start")
    return wish


def starts_in_hour(request: GensetRequest, now_s: float) -> int:
    """How often the edge has asked the set to start in the last hour."""
    return sum(now_s - s < HOUR_S for s in request.starts_s)


def _quiet(
    layout: Layout,
    params: GensetParams,
    request: GensetRequest,
    wish: Target,
    condition: PlantCondition,
    now_s: float,
    critical: bool,
) -> Target:
    """A start that quiet hours or the starts of this hour hold off; a person's is not held off."""
    if wish.cause not in (Cause.RULES, Cause.PROTECTION, Cause.PLAN):
        return wish
    now = condition.calendar
    paid = wish.cause is Cause.PLAN  # a plan has paid their price already
    for quiet in params.quiet if now is not None and not paid else ():
        free = quiet.starts_for is StartsFor.ANYTHING
        free = free or (critical and quiet.starts_for is StartsFor.CRITICAL_LOAD)
        if now is not None and quiet.holds(local_time(now, layout.zone)) and not free:
            return replace(wish, value=0.0, reason=f"{params.id} is not started in its quiet hours")
    recent = starts_in_hour(request, now_s)
    if params.starts_per_h_max is not None and recent >= params.starts_per_h_max and not critical:
        return replace(wish, value=0.0, reason=f"{params.id} has started {recent} times in this hour")
    return wish
