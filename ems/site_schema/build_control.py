"""The control section of a draft becomes the frozen parameters that the edge reads."""

from ems.control import ControlMode, Role
from ems.control_site import (
    Contact,
    ControlParams,
    Interlock,
    InterlockEffect,
    LimitKind,
    UtilityLimit,
)
from ems.site_schema.draft import Draft
from ems.site_schema.forms_control import InterlockForm, UtilityLimitForm
from ems.units import parse_quantity


def control_params(draft: Draft) -> ControlParams:
    """Control of a site; the defaults where the file says nothing. The draft must have passed every check."""
    form = draft.control
    if form is None:
        return ControlParams()
    return ControlParams(
        start_mode=ControlMode(form.start_mode),
        users={user: frozenset(Role(r) for r in roles) for user, roles in form.users.items()},
        setpoint_expiry_s=form.setpoint_expiry_s,
        transfer_ramp_s=form.transfer_ramp_s,
        emergency_stop={p: number(draft, p, v) for p, v in form.emergency_stop.items()},
        interlocks=tuple(_interlock(draft, i, f) for i, f in form.interlocks.items()),
        limits=tuple(_limit(draft, i, f) for i, f in form.limits.items()),
    )


def number(draft: Draft, point: str, value: str | float) -> float:
    """A value in the unit of a point. Raises BadValue for the wrong dimension."""
    spec = draft.spec(point)
    unit = "" if spec is None else spec.unit
    return parse_quantity(value, unit) if isinstance(value, str) else float(value)


def rating_kw(draft: Draft, kind: LimitKind) -> float:
    """What a limit of this kind is a share of [kW]."""
    grid = draft.grid
    match kind:
        case LimitKind.IMPORT:
            return 0.0 if grid is None else grid.p_import_kw_max
        case LimitKind.EXPORT:
            return 0.0 if grid is None else grid.p_export_kw_max
        case LimitKind.PV:
            return sum(p.p_ac_kw for p in draft.pv.values())
        case LimitKind.BESS_CHARGE:
            return sum(b.battery.p_charge_kw_max for b in draft.bess.values())
        case LimitKind.BESS_DISCHARGE:
            return sum(b.battery.p_discharge_kw_max for b in draft.bess.values())


def _interlock(draft: Draft, interlock_id: str, form: InterlockForm) -> Interlock:
    when = form.when
    return Interlock(
        id=interlock_id,
        point=when.point,
        low=None if when.below is None else number(draft, when.point, when.below),
        high=None if when.above is None else number(draft, when.point, when.above),
        effects=tuple(
            InterlockEffect(
                point=point,
                low=None if e.low is None else number(draft, point, e.low),
                high=None if e.high is None else number(draft, point, e.high),
            )
            for point, e in form.then.items()
        ),
        cause=form.cause,
    )


def _limit(draft: Draft, limit_id: str, form: UtilityLimitForm) -> UtilityLimit:
    kind = LimitKind(form.kind)
    whole_kw = rating_kw(draft, kind)
    return UtilityLimit(
        id=limit_id,
        kind=kind,
        watchdog_s=form.watchdog_s,
        on_loss_kw=form.on_loss_kw,
        point=form.point,
        heartbeat=form.heartbeat,
        contacts=tuple(Contact(point=c.point, cap_kw=c.ratio * whole_kw) for c in form.contacts),
    )
