"""What real-time balancing makes of an observation: caps that hold, load of one age."""

from collections.abc import Mapping

from dispatch.balancing_memory import BalancingMemory, SocWatch
from dispatch.condition import Observed
from dispatch.layout import Layout
from dispatch.net_demand import aligned
from dispatch.poi import at_poi
from dispatch.state import EdgeState
from ems.telemetry import Snapshot


def second_look(
    layout: Layout,
    state: EdgeState,
    snapshot: Snapshot,
    observed: Observed,
    soc: Mapping[str, SocWatch],
    dt_s: float,
) -> tuple[BalancingMemory, Observed]:
    """The observation decisions are made on.

    Parameters
    ----------
    layout : with the caps authority leaves.
    soc : the charges as counted until now.
    dt_s : how long the decisions will stand [s].
    """
    before = state.balancing
    poi, observed = at_poi(layout, before.poi, snapshot, observed, dt_s)
    sent = {p: w.value for p, w in state.written.items()}
    net_demand, observed = aligned(layout, before.net_demand, observed, sent, snapshot.monotonic_s, dt_s)
    return BalancingMemory(net_demand=net_demand, soc=soc, poi=poi), observed
