"""OT authority: every setpoint has bounds inside its ratings, safe values, and a silence to survive."""

from collections.abc import Mapping

from ems.assets import OnSilence
from ems.errors import BadValue
from ems.points import POINTS, TRIP_REQUEST, Access, AssetKind, PointSpec, is_binary, point_id, split_point_id
from ems.reactive import ReactiveTakes
from ems.site_schema.build_wire import in_unit, point_map
from ems.site_schema.checks_capability import MODES, check_safe_pairs, q_range_kvar
from ems.site_schema.checks_wire import wanted_points
from ems.site_schema.draft import Draft
from ems.site_schema.forms import SetpointForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

SILENCE_RATIO = 3.0  # a device must survive two lost refreshes


def check_authority(draft: Draft) -> None:
    """Every setpoint of every asset, and nothing else, is under authority."""
    _droop(draft)
    for point, form in draft.authority.items():
        spec = draft.spec(point)
        if spec is None or spec.access is not Access.WRITE:
            _unknown(draft, point)
            continue
        numbers = _numbers(draft, point, form, spec)
        if numbers is not None:
            _setpoint(draft, point, form, numbers)
            _ratings(draft, point, numbers)
    check_safe_pairs(draft)
    _both_ways(draft)
    _heartbeats(draft)


def _unknown(draft: Draft, point: str) -> None:
    asset, name = split_point_id(point)
    kind = draft.kinds.get(asset)
    if kind is None:
        draft.add(("authority", point), repr(point), "a setpoint of this site", hint(asset, draft.kinds))
        return
    setpoints = [s.name for s in POINTS[kind] if s.access is Access.WRITE]
    allowed = f"one of {', '.join(setpoints)}" if setpoints else f"no setpoint: a {kind} has none"
    draft.add(("authority", point), f"{name!r} of a {kind}", allowed, hint(name, setpoints))


def _numbers(draft: Draft, point: str, form: SetpointForm, spec: PointSpec) -> Mapping[str, float] | None:
    """Every number of one setpoint in its unit; None when one of them has the wrong dimension."""
    loc: Loc = ("authority", point)
    written = {
        (*loc, "low"): (form.low, spec.unit),
        (*loc, "high"): (form.high, spec.unit),
        (*loc, "deadband"): (form.deadband, spec.unit),
        (*loc, "ramp_per_s"): (form.ramp_per_s, f"{spec.unit or '1'}/s"),
        (*loc, "silence", "value"): (form.silence.value, spec.unit),
        **{(*loc, "safe", mode): (getattr(form.safe, mode), spec.unit) for mode in MODES},
    }
    out: dict[str, float] = {}
    good = True
    for where, (value, unit) in written.items():
        if value is None:
            continue
        try:
            number = in_unit(value, unit)
        except BadValue as error:
            draft.add(where, repr(value), f"a number in {unit or 'no unit'}", str(error))
            good = False
            continue
        if number != number or number in (float("inf"), float("-inf")):
            draft.add(where, repr(value), "a finite number")
            good = False
        out[str(where[-1])] = number
    return out if good else None


def _setpoint(draft: Draft, point: str, form: SetpointForm, numbers: Mapping[str, float]) -> None:
    loc: Loc = ("authority", point)
    low, high = numbers["low"], numbers["high"]
    if not low < high:
        draft.add((*loc, "low"), f"{low:g}", f"less than high, {high:g}")
        return
    for mode in MODES:
        if mode in numbers and not low <= numbers[mode] <= high:
            draft.add((*loc, "safe", mode), f"{numbers[mode]:g}", f"{low:g} to {high:g}, or hold")
    if not 0.0 <= numbers["deadband"] <= 0.5 * (high - low):
        draft.add((*loc, "deadband"), f"{numbers['deadband']:g}", f"0 to {0.5 * (high - low):g}")
    if "ramp_per_s" in numbers and numbers["ramp_per_s"] <= 0.0:
        draft.add(
            (*loc, "ramp_per_s"), f"{numbers['ramp_per_s']:g}", "more than 0; leave it out for no limit"
        )
    _silence(draft, point, form, numbers)
    _island(draft, point, form, numbers)
    _trip(draft, point, form, numbers)


def _droop(draft: Draft) -> None:
    """A droop is that of a source."""
    there = [*draft.bess, *draft.pv, *draft.gensets]
    for asset in () if draft.dispatch is None else draft.dispatch.droop:
        if asset not in there:
            draft.add(
                ("dispatch", "droop", asset), asset, f"a battery, PV plant or genset: {', '.join(there)}"
            )


def _silence(draft: Draft, point: str, form: SetpointForm, numbers: Mapping[str, float]) -> None:
    loc: Loc = ("authority", point)
    silence = form.silence
    if draft.dispatch is not None and form.refresh_s < draft.dispatch.cycle_s:
        draft.add(
            (*loc, "refresh_s"), f"{form.refresh_s:g} s", f"the cycle, {draft.dispatch.cycle_s:g} s, or more"
        )
    if silence.timeout_s < SILENCE_RATIO * form.refresh_s:
        draft.add(
            (*loc, "silence", "timeout_s"),
            f"{silence.timeout_s:g} s with refresh_s {form.refresh_s:g} s",
            f"{SILENCE_RATIO * form.refresh_s:g} s or more, three times the refresh",
            "one lost write must not trip the device's watchdog",
        )
    if (silence.action is OnSilence.VALUE) != (silence.value is not None):
        found = f"action {silence.action} {'without' if silence.value is None else 'with'} a value"
        draft.add((*loc, "silence", "value"), found, "a value with action: value, and only then")
    elif "value" in numbers and not numbers["low"] <= numbers["value"] <= numbers["high"]:
        draft.add(
            (*loc, "silence", "value"),
            f"{numbers['value']:g}",
            f"{numbers['low']:g} to {numbers['high']:g}",
        )
    if silence.action is OnSilence.FULL and not point.endswith("_limit_kw"):
        draft.add((*loc, "silence", "action"), "full", "full only for a limit; hold, value or stop here")


def _heartbeats(draft: Draft) -> None:
    """A heartbeat comes often enough for the setpoints of its device: it is what they wait for, too."""
    for connection_id, c in draft.connections.items():
        here = {p.point for p in draft.points if p.connection_id == connection_id}
        waits_s = [f.silence.timeout_s for p, f in draft.authority.items() if p in here]
        if c.watchdog_point is not None and waits_s and SILENCE_RATIO * c.watchdog_period_s > min(waits_s):
            draft.add(
                ("connections", connection_id, "watchdog_period_s"),
                f"{c.watchdog_period_s:g} s",
                f"a third of the shortest time-out of its setpoints, {min(waits_s):g} s, or less",
                "one lost heartbeat must not trip the device's watchdog",
            )


def _island(draft: Draft, point: str, form: SetpointForm, numbers: Mapping[str, float]) -> None:
    """What would kill an island: a power for its forming source, or a stop for who may have to form it."""
    if draft.forming is None:
        return
    asset, name = split_point_id(point)
    loc: Loc = ("authority", point)
    formers = draft.forming.islanded
    if name == "p_set_kw" and formers and asset == formers[0] and "islanded" in numbers:
        draft.add(
            (*loc, "safe", "islanded"),
            f"{numbers['islanded']:g}",
            "hold",
            f"{asset!r} forms the island: its power is a result, not a setpoint",
        )
    if name != "run_request" or asset not in formers:
        return
    if numbers.get("islanded") == 0.0:
        draft.add((*loc, "safe", "islanded"), "0", "hold or 1", f"{asset!r} may be forming the island")
    stops = form.silence.action is OnSilence.STOP or numbers.get("value") == 0.0
    if stops:
        draft.add(
            (*loc, "silence", "action"),
            "a stop on silence",
            "hold",
            f"{asset!r} may be forming the island when the EMS falls silent",
        )


def _trip(draft: Draft, point: str, form: SetpointForm, numbers: Mapping[str, float]) -> None:
    """What was opened to protect the gensets is closed by nobody's silence and by no safe table."""
    loc: Loc = ("authority", point)
    if split_point_id(point)[1] != TRIP_REQUEST:
        return
    for mode in MODES:
        if numbers.get(mode, 1.0) < 0.5:
            draft.add((*loc, "safe", mode), f"{numbers[mode]:g}", "hold or 1", "0 lets the plant in again")
    if form.silence.action is OnSilence.STOP or numbers.get("value", 1.0) < 0.5:
        draft.add(
            (*loc, "silence", "action"),
            "0 on silence",
            "hold",
            "the plant would come back when the EMS falls silent",
        )


def _ratings(draft: Draft, point: str, numbers: Mapping[str, float]) -> None:
    """Bounds of a setpoint lie inside the asset's ratings and inside the range of its map."""
    asset, name = split_point_id(point)
    limits: tuple[float, float] | None = None
    if is_binary(name):
        limits = (0.0, 1.0)
    elif name == ReactiveTakes.POWER_FACTOR:
        limits = (-1.0, 1.0)
    elif name == ReactiveTakes.CURVE:
        limits = (0.0, 65535.0)
    elif name == "q_set_kvar":
        unit = draft.bess[asset].pcs if asset in draft.bess else draft.pv.get(asset)
        limits = None if unit is None else q_range_kvar(unit.pq_corners, unit.s_kva)
    elif asset in draft.bess:
        battery = draft.bess[asset].battery
        limits = (-battery.p_charge_kw_max, battery.p_discharge_kw_max)
    elif asset in draft.gensets:
        limits = (0.0, draft.gensets[asset].p_rated_kw)
    elif asset in draft.pv:
        limits = (0.0, draft.pv[asset].p_ac_kw)
    if limits is not None:
        _inside(draft, point, numbers, limits, "the rating of the asset")
    for placed in draft.points:
        if (
            placed.point == point
            and placed.spec is not None
            and placed.map.protocol.family == placed.connection.protocol.family
        ):
            try:
                row = point_map(placed)
            except BadValue:
                continue  # already a problem of the map
            _inside(draft, point, numbers, (row.low, row.high), f"the range in {placed.document.file}")


def _inside(
    draft: Draft, point: str, numbers: Mapping[str, float], limits: tuple[float, float], what: str
) -> None:
    low, high = limits
    if numbers["low"] < low - 1e-9:
        draft.add(("authority", point, "low"), f"{numbers['low']:g}", f"{low:g} or more, {what}")
    if numbers["high"] > high + 1e-9:
        draft.add(("authority", point, "high"), f"{numbers['high']:g}", f"{high:g} or less, {what}")


def _both_ways(draft: Draft) -> None:
    """Every setpoint has authority; every authority has a point; a feeder without breaker has neither."""
    for asset, kind in draft.kinds.items():
        for spec in wanted_points(draft, asset, kind):
            point = point_id(asset, spec.name)
            if spec.access is Access.WRITE and point not in draft.authority and "authority" in draft.complete:
                draft.add(
                    ("authority",),
                    f"no entry for {point}",
                    "bounds, safe values and silence of each setpoint",
                )
        feeder = draft.feeders.get(asset)
        request = point_id(asset, "close_request")
        if feeder is not None and not feeder.has_breaker and request in draft.authority:
            draft.add(("authority", request), "a breaker request", "none: this feeder has has_breaker: false")
        if feeder is not None and not feeder.has_breaker and kind is AssetKind.FEEDER:
            for placed in draft.points:
                if placed.point == request:
                    placed.document.add(
                        placed.loc, "a breaker request", "none: this feeder has has_breaker: false"
                    )
