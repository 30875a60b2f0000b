"""Faults of the edge's own inputs beside the devices: plans and record time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ems.plan import Plan
from ems.site import Site
from sim.faults.base import Fault


def no_plan(fault: Fault, plan: Plan | None, site: Site, now: datetime) -> Plan | None:
    """The store is empty."""
    return None


def sign_flipped(fault: Fault, plan: Plan | None, site: Site, now: datetime) -> Plan | None:
    """Battery powers with the wrong sign, inside every limit."""
    if plan is None:
        return None
    flipped = {b: tuple(-p for p in values) for b, values in plan.bess_p_kw.items()}
    return replace(plan, plan_id=f"{plan.plan_id}-flipped", seq=plan.seq + 1, bess_p_kw=flipped)


def yesterdays(fault: Fault, plan: Plan | None, site: Site, now: datetime) -> Plan | None:
    """The plan of a day before."""
    if plan is None:
        return None
    day = timedelta(days=1)
    return replace(
        plan,
        plan_id=f"{plan.plan_id}-yesterday",
        seq=plan.seq + 1,
        issued_at=plan.issued_at - day,
        valid_until=plan.valid_until - day,
        integral_until=plan.integral_until - day,
        grid=replace(plan.grid, start=plan.grid.start - day),
    )


def of_another_site(fault: Fault, plan: Plan | None, site: Site, now: datetime) -> Plan | None:
    """A plan made for another plant."""
    if plan is None:
        return None
    return replace(plan, plan_id=f"{plan.plan_id}-elsewhere", seq=plan.seq + 1, site=f"not-{site.name}")


def not_numbers(fault: Fault, plan: Plan | None, site: Site, now: datetime) -> Plan | None:
    """A plan with NaN for the battery."""
    if plan is None:
        return None
    bad = {b: (float("nan"),) * len(values) for b, values in plan.bess_p_kw.items()}
    return replace(plan, plan_id=f"{plan.plan_id}-nan", seq=plan.seq + 1, bess_p_kw=bad)


def foreseen_times(fault: Fault, t_s: float) -> float:
    """Loads foreseen `value` times too high: a unit mixed up."""
    return fault.given(10.0)


def nothing_foreseen(fault: Fault, t_s: float) -> float:
    """No load at all."""
    return 0.0


def utc_step(fault: Fault, now: datetime, t_s: float) -> datetime:
    """Record time is off by `value` seconds."""
    return now + timedelta(seconds=fault.given(3600.0))


def utc_1970(fault: Fault, now: datetime, t_s: float) -> datetime:
    """A clock without battery that has not heard of NTP yet."""
    return datetime(1970, 1, 1, tzinfo=now.tzinfo) + timedelta(seconds=t_s)


EPOCH_END = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)  # the first second that 31 bits do not hold


def utc_2038(fault: Fault, now: datetime, t_s: float) -> datetime:
    """Record time jumps to where 32-bit clocks end."""
    return EPOCH_END + timedelta(seconds=t_s)


def before_it_hung(fault: Fault, t_s: float) -> float:
    """The solver does not come back: nothing that is published after the begin."""
    return fault.from_s


def late(fault: Fault, t_s: float) -> float:
    """Each plan is found `value` seconds after it was made."""
    return t_s - fault.given(300.0)
