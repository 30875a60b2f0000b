"""The alarms of one tick: conditions told by the rules and by other stages, through the state machine."""

from collections.abc import Callable, Sequence

from dispatch.alarms.machine import AlarmInput, alarms_after
from dispatch.alarms.memory import AlarmMemory
from dispatch.alarms.rules import Facts, alarms_now
from dispatch.layout import Layout
from dispatch.vocabulary import Alarm, Event, TickInput
from ems.alarm_table import alarm_table, code_of


def alarm_stage(
    memory: AlarmMemory, facts: Facts, given: TickInput, more: Sequence[Alarm] = ()
) -> tuple[AlarmMemory, tuple[Alarm, ...], list[Event]]:
    """(memory after this tick, conditions told in it, events). `more` are conditions of other stages."""
    told = (*alarms_now(facts), *more)
    after, events = alarms_after(
        memory,
        AlarmInput(
            told=told,
            actions=given.alarm_actions,
            at=given.snapshot.at,
            now_s=given.snapshot.monotonic_s,
            dt_s=given.dt_s,
            served=facts.layout.served,
            known=may_ring(facts.layout),
        ),
    )
    return after, told, events


def may_ring(layout: Layout) -> Callable[[str], bool]:
    """Whether a plant can have an alarm of some key: its tag fits the asset."""

    def known(key: str) -> bool:
        code = code_of(key)
        if code is None:
            return False
        tag, asset = alarm_table()[code].tag, key[len(code) + 1 :]
        if tag == "site":
            return key == code
        if tag == "device":
            return asset in layout.devices
        if tag == "control":  # an interlock, a limit, or what a person loosened
            return layout.control.known(asset)
        if tag == "setpoint":
            return asset in layout.setpoints
        return layout.kinds.get(asset) == tag

    return known
