"""Gensets that are not heard: what they may give by themselves, as the site file describes their silence.

A set that is silent may still run: the bus that it would meet, its minimum and its reverse power are reckoned
with. But nothing relies on it, and no set that is heard is stopped because of it.
"""

from dispatch.layout import Layout
from ems.silence import silent_value


def silent_span_kw(layout: Layout, genset: str, p_kw: float) -> tuple[float, float]:
    """(least, most) that a silent set may go to from `p_kw` once it waits no longer for the edge [kW].

    A set that holds its run request goes on, and one that holds its base load, or has none, stays where it
    is. Where the site file does not say that it goes on it may stop, and where it does not say what it does
    with its load it may do anything up to its rating.
    """
    rated_kw = layout.gensets[genset].p_rated_kw
    run = layout.setpoints.get(layout.setpoint_of.get((genset, "run_request"), ""))
    if run is None:
        return 0.0, rated_kw
    goes_on, load = silent_value(run), layout.setpoints.get(layout.setpoint_of.get((genset, "p_set_kw"), ""))
    value_kw = None if load is None else silent_value(load)
    to_kw = p_kw if value_kw is None else min(rated_kw, max(0.0, value_kw))
    stops = goes_on is not None and goes_on < 0.5
    return 0.0 if stops else max(0.0, min(p_kw, to_kw)), max(p_kw, to_kw)
