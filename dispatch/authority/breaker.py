"""The POI breaker in manual: what people order there, and what the transition function makes of it.

A person says what is wanted; every step towards it is the transition function's: next to no power before the
breaker opens, good mains and a synchronism check before it may close.
"""

from collections.abc import Mapping

from dispatch.authority.leases import in_force
from dispatch.authority.ruling import Ruling
from dispatch.authority.state import AuthorityMemory
from dispatch.layout import Layout
from dispatch.vocabulary import Target
from ems.commands import Cause, Proposal
from ems.control import ControlMode

OPEN, OPEN_PERMIT, CLOSE = "open_request", "open_permit", "close_permit"


def order_point(layout: Layout) -> str | None:
    """The setpoint by which people order an island: the request to open, else the permit to open."""
    grid = layout.site.grid.id
    return layout.setpoint_of.get((grid, OPEN)) or layout.setpoint_of.get((grid, OPEN_PERMIT))


def island_order(layout: Layout, ruling: Ruling, people: Mapping[str, Target | None]) -> tuple[Proposal, ...]:
    """A person's order for an island while it stands, as the transition function takes it."""
    grid, point = layout.site.grid.id, order_point(layout)
    want = None if point is None else people.get(point)
    if point is None or want is None or want.value < 0.5 or ruling.modes[grid] is not ControlMode.MANUAL:
        return ()
    lease = ruling.held.get(point)
    order = Proposal(
        point=f"{grid}.{OPEN}",
        value=1.0,
        cause=Cause.OPERATOR,
        reason=want.reason,
        owner="edge" if lease is None else lease.owner,
    )
    return (order,)


def not_operated(layout: Layout, memory: AuthorityMemory, point: str, value: float) -> tuple[str, str]:
    """(code, why) of what nobody operates at the POI breaker; ("", "") where it can be done."""
    order = order_point(layout)
    if point == f"{layout.site.grid.id}.{OPEN_PERMIT}" and point != order:
        return "not_operated", f"{point} follows the order to open: operate {order}"
    if point == f"{layout.site.grid.id}.{CLOSE}" and value >= 0.5 and order is not None:
        standing = in_force(memory.leases).get(order)
        if standing is not None and standing.value >= 0.5:
            return "island_ordered", f"{standing.owner} has ordered the island: operate {order} 0 first"
    return "", ""


def when(layout: Layout, point: str, value: float) -> str:
    """What an operated action at the POI breaker still waits for, in words; "" elsewhere."""
    if value < 0.5:
        return ""
    if point == order_point(layout):
        return ", as soon as next to no power flows at the POI and sources of the site can carry the load"
    if point == f"{layout.site.grid.id}.{CLOSE}":
        return ", as soon as the mains have been good for the dwell and the synchronism check permits"
    return ""
