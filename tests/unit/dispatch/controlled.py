"""The tick with people who may command it: users, an interlock, a limit of the utility."""

from typing import Any

from dispatch.vocabulary import Context, ControlMemory, Decisions, Source, Target, Targets
from ems.commands import Cause
from ems.control import ControlMode, Role
from ems.control_site import (
    ControlParams,
    Interlock,
    InterlockEffect,
    LimitKind,
    UtilityLimit,
)
from ems.requests import (
    SwitchMode,
)
from tests.unit.dispatch.loop import Loop, site_with

USERS = {
    "ann": frozenset({Role.OPERATOR}),
    "bob": frozenset({Role.OPERATOR}),
    "eve": frozenset({Role.ENGINEER}),
    "dan": frozenset({Role.ENGINEER}),
    "dso": frozenset({Role.UTILITY}),
    "guest": frozenset({Role.VIEWER}),
}
P_SET = "bess1.p_set_kw"
P_LIMIT = "pv1.p_limit_kw"
RUN = "gen1.run_request"
DOOR = Interlock(
    id="door",
    point="bus.contact_1",
    low=0.5,
    high=None,
    effects=(
        InterlockEffect(point=P_SET, low=-20.0, high=20.0),
        InterlockEffect(point=RUN, low=None, high=None),
    ),
    cause="the door is open",
)


class Steady:
    """A controller that wants one power of the battery and nothing else."""

    name = "steady"

    def __init__(self) -> None:
        self.p_kw = 0.0

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        want = Target(value=self.p_kw, cause=Cause.RULES, reason="steady")
        return Targets(source=Source.RULES, bess_p_kw={"bess1": want}), context.memory


def loop(p_kw: float = 0.0, **control: Any) -> Loop:
    controller = Steady()
    controller.p_kw = p_kw
    out = Loop(
        controller,
        plant_site=site_with(control=ControlParams(users=USERS, **control)),
    )
    out.run(3.0)
    return out


def manual(device: str = "bess1", **control: Any) -> Loop:
    out = loop(**control)
    answer = out.ask("ann", SwitchMode(device=device, mode=ControlMode.MANUAL))
    assert answer.done, answer.text
    return out


def writes(decisions: Decisions, device: str) -> list[str]:
    return [c.point for c in decisions.commands if c.point.partition(".")[0] == device]


def utility(**changes: object) -> UtilityLimit:
    values: dict[str, object] = {
        "id": "dso", "kind": LimitKind.PV, "watchdog_s": 10.0, "on_loss_kw": 60.0,
        "point": "grid1.p_pv_kw_max",
    }  # fmt: skip
    return UtilityLimit(**(values | changes))  # type: ignore[arg-type]
