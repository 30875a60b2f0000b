"""Voltage at the POI outside its band: active power gives way by the declared rule, a step in a minute.

No loop regulates the voltage. The mean of each period is judged once: above the band export is cut by a step
from what it was, below it charging is. Inside, by more than a step moves the voltage, a step is given back.
So one step forward is never the reason for one back. What was taken stays taken while the plant is not beside
the grid, or nobody knows: it comes back by steps like everything.
"""

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balancing_memory import VoltageMemory
from dispatch.vocabulary import Alarm
from ems.condition import BessCondition
from ems.frozen import replace
from ems.invariants import clamp
from ems.reactive import VoltageRule
from ems.site import GridMode
from ems.telemetry import Snapshot


def by_voltage(
    layout: Layout, memory: VoltageMemory, snapshot: Snapshot, observed: Observed, dt_s: float
) -> tuple[VoltageMemory, Observed]:
    """The observation with what the rule leaves of export and of charging."""
    rule, c = layout.site.grid.voltage, observed.condition
    v_pu, now_s = snapshot.value(f"{layout.site.grid.id}.v_pu"), snapshot.monotonic_s
    if rule is None:
        return memory, observed
    if c.grid_mode is not GridMode.GRID_TIED:  # nothing is judged, and nothing given back
        return VoltageMemory(export_kw_max=memory.export_kw_max, charge_kw_max=memory.charge_kw_max), observed
    if memory.since_s is None:
        memory = replace(memory, since_s=now_s)
    if v_pu is not None and c.grid_p_kw is not None:
        charge_kw = sum(max(0.0, -b.p_kw) for b in c.bess.values())
        part = dt_s / (memory.passed_s + dt_s)
        memory = replace(
            memory,
            v_pu=memory.v_pu + part * (v_pu - memory.v_pu),
            export_kw=memory.export_kw + part * (-c.grid_p_kw - memory.export_kw),
            charge_kw=memory.charge_kw + part * (charge_kw - memory.charge_kw),
            passed_s=memory.passed_s + dt_s,
        )
    if memory.since_s is not None and now_s + dt_s - memory.since_s >= rule.every_s - 1e-6:
        memory = _judged(layout, rule, memory, now_s + dt_s)
    return memory, _with_less(layout, memory, observed)


def voltage_alarms(layout: Layout, observed: Observed) -> tuple[Alarm, ...]:
    """A voltage outside the band of the rule."""
    rule, v_pu, grid = layout.site.grid.voltage, observed.condition.grid_v_pu, layout.site.grid.id
    tied = observed.condition.grid_mode is GridMode.GRID_TIED
    if rule is None or v_pu is None or not tied or rule.low_pu <= v_pu <= rule.high_pu:
        return ()
    text = f"{v_pu:.3f} pu at the POI, the band is {rule.low_pu:g} to {rule.high_pu:g}"
    return (Alarm(code="grid.voltage.band", asset=grid, text=text),)


def _judged(layout: Layout, rule: VoltageRule, memory: VoltageMemory, at_s: float) -> VoltageMemory:
    """One step of the rule on the mean of a period; a period that was hardly measured decides nothing."""
    fresh = VoltageMemory(
        since_s=at_s, export_kw_max=memory.export_kw_max, charge_kw_max=memory.charge_kw_max
    )
    if memory.passed_s < rule.every_s / 2.0:
        return fresh
    v_pu = memory.v_pu
    whole_kw = sum(b.battery.p_charge_kw_max for b in layout.bess.values())
    return replace(
        fresh,
        export_kw_max=_moved(
            rule,
            memory.export_kw_max,
            max(0.0, memory.export_kw),
            (v_pu > rule.high_pu, v_pu < rule.high_pu - rule.back_pu),
            layout.site.grid.p_export_kw_max,
        ),
        charge_kw_max=_moved(
            rule,
            memory.charge_kw_max,
            memory.charge_kw,
            (v_pu < rule.low_pu, v_pu > rule.low_pu + rule.back_pu),
            whole_kw,
        ),
    )


def _moved(
    rule: VoltageRule,
    limit_kw: float | None,
    used_kw: float,
    verdict: tuple[bool, bool],
    whole_kw: float,
) -> float | None:
    """A limit one step lower, from what was used, or one higher; None again where it limits nothing."""
    outside, well_inside = verdict
    if outside:
        least_kw = used_kw if limit_kw is None else min(limit_kw, used_kw)
        return max(0.0, least_kw - rule.step_kw)
    if well_inside and limit_kw is not None:
        return None if limit_kw + rule.step_kw >= whole_kw else limit_kw + rule.step_kw
    return limit_kw


def _with_less(layout: Layout, memory: VoltageMemory, observed: Observed) -> Observed:
    if memory.charge_kw_max is None and memory.export_kw_max is None:
        return observed
    observed = replace(observed, export_kw_max=memory.export_kw_max)
    if memory.charge_kw_max is None:
        return observed
    whole_kw = sum(c.p_charge_kw_max for c in observed.condition.bess.values())
    share = 0.0 if whole_kw <= 0.0 else clamp(memory.charge_kw_max / whole_kw, 0.0, 1.0)
    bess = {b: _charged_less(c, share) for b, c in observed.condition.bess.items()}
    return replace(observed, condition=replace(observed.condition, bess=bess))


def _charged_less(c: BessCondition, share: float) -> BessCondition:
    return replace(c, p_charge_kw_max=share * c.p_charge_kw_max)
