"""What people's requests are judged by, and the verdict on one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dispatch.authority.modes import Switches, modes_now
from dispatch.authority.state import AuthorityMemory
from dispatch.layout import Layout
from ems.condition import PlantCondition
from ems.control import Act, ControlMode, Role, may_act, strictest
from ems.records import JsonValue

EXPIRY_S_MAX = 24 * 3600.0  # nobody holds a setpoint or a mode for longer without asking again


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What requests are judged by, the same for all of one cycle but for the memory."""

    layout: Layout
    condition: PlantCondition
    switches: Switches
    standing: Mapping[str, float]  # what each setpoint stands at; unit: that of the setpoint, ratio
    held_safe: bool
    epoch: int
    at: datetime
    now_s: float

    def modes(self, memory: AuthorityMemory) -> dict[str, ControlMode]:
        """The mode of each device, with what was granted so far."""
        return modes_now(self.layout.control, memory, self.switches)

    def plant_mode(self, memory: AuthorityMemory) -> ControlMode:
        """The mode of the plant as a whole; local when every device is."""
        at = self.switches
        stop = memory.stopped or at.stop_pressed or at.stop_unknown
        devices = self.layout.control.points_of
        local = bool(devices) and at.local.issuperset(devices)
        return strictest(
            memory.plant.mode,
            ControlMode.OFF if stop else ControlMode.AUTO,
            ControlMode.LOCAL if local else ControlMode.AUTO,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, with which rights at this site, and for what reason."""

    user: str
    session: str
    roles: frozenset[Role]
    current: bool  # looked at this start of the edge, not at an earlier one
    request_id: str
    reason: str

    def may(self, mode: ControlMode, act: Act) -> bool:
        """Whether the matrix lets them."""
        return may_act(mode, self.roles, act)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a request; `fields` are for the audit: old and new value, expiry."""

    memory: AuthorityMemory
    done: bool
    code: str
    text: str
    token: str | None = None
    releases: bool = False  # lets an edge that was held safe decide again
    fields: Mapping[str, JsonValue] = field(default_factory=dict)


def no(memory: AuthorityMemory, code: str, text: str) -> Verdict:
    """A refusal."""
    return Verdict(memory=memory, done=False, code=code, text=text)


def no_right(memory: AuthorityMemory, who: Asker, what: Act, mode: ControlMode, where: str) -> Verdict:
    """A refusal by the matrix."""
    roles = ", ".join(sorted(r.value for r in who.roles))
    return no(memory, "no_right", f"{who.user} ({roles}) may not {what.value}: {where} is in {mode.value}")


def stale(memory: AuthorityMemory) -> Verdict:
    """A refusal of what was asked of an earlier start of the edge."""
    return no(memory, "other_epoch", "the edge has started anew since this was asked: look, and ask again")
