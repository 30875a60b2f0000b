"""Who may do what to a device: modes of control, roles, and the authority matrix as data.

One row a mode, one column a party. Source: local/remote and manual/automatic practice of substation and plant
control (IEC 61850-7-4, `Loc`, `LocKey` and `Mod`).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from ems.commands import Cause


class ControlMode(StrEnum):
    """Mode of control of the plant or of one device, the most restricting first."""

    OFF = "off"  # also after an emergency stop: nothing but the safe table or what the stop demands
    LOCAL = "local"  # the device's own switch: nothing is written to it
    TEST = "test"  # one setpoint at a time is probed by an engineer; protection may reduce what stands
    MANUAL = "manual"  # operators' setpoints; the plan is not followed
    AUTO = "auto"


class Role(StrEnum):
    """What a person or a service may be at a site. A user may have several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    UTILITY = "utility"


class Party(StrEnum):
    """Who acts: two parts of the EMS, and three kinds of people or services outside."""

    OPTIMIZER = "optimizer"
    EDGE = "edge"
    OPERATOR = "operator"
    UTILITY = "utility"
    ENGINEER = "engineer"


class Act(StrEnum):
    """What is done."""

    FOLLOW = "follow the plan"
    REGULATE = "rules"
    PROTECT = "protect"
    MAKE_SAFE = "safe table"
    SET = "setpoint"
    OPERATE = "select and operate"
    PROBE = "probe"
    TIGHTEN = "tighten a limit"
    LOOSEN = "loosen a limit"
    SWITCH = "change the mode"
    BOUND = "bound of the utility"


def _row(**acts: tuple[Act, ...]) -> Mapping[Party, frozenset[Act]]:
    return MappingProxyType({p: frozenset(acts.get(p.value, ())) for p in Party})


_LIMITS = (Act.TIGHTEN, Act.LOOSEN, Act.SWITCH)
MATRIX: Mapping[ControlMode, Mapping[Party, frozenset[Act]]] = MappingProxyType(
    {
        ControlMode.OFF: _row(
            edge=(Act.MAKE_SAFE,),
            operator=(Act.SWITCH,),
            utility=(Act.BOUND,),
            engineer=(Act.SWITCH,),
        ),
        ControlMode.LOCAL: _row(utility=(Act.BOUND,)),
        ControlMode.TEST: _row(
            edge=(Act.PROTECT, Act.MAKE_SAFE),
            utility=(Act.BOUND,),
            engineer=(Act.PROBE, Act.SWITCH),
        ),
        ControlMode.MANUAL: _row(
            edge=(Act.PROTECT, Act.MAKE_SAFE),
            operator=(Act.SET, Act.OPERATE, Act.TIGHTEN, Act.SWITCH),
            utility=(Act.BOUND,),
            engineer=_LIMITS,
        ),
        ControlMode.AUTO: _row(
            optimizer=(Act.FOLLOW,),
            edge=(Act.REGULATE, Act.PROTECT, Act.MAKE_SAFE),
            operator=(Act.TIGHTEN, Act.SWITCH),
            utility=(Act.BOUND,),
            engineer=_LIMITS,
        ),
    }
)
PARTY_OF: Mapping[Role, Party | None] = MappingProxyType(
    {
        Role.VIEWER: None,
        Role.OPERATOR: Party.OPERATOR,
        Role.ENGINEER: Party.ENGINEER,
        Role.UTILITY: Party.UTILITY,
    }
)
ACTS_OF: Mapping[Cause, frozenset[tuple[Party, Act]]] = MappingProxyType(
    {
        Cause.EMERGENCY_STOP: frozenset({(Party.EDGE, Act.MAKE_SAFE)}),
        Cause.SAFE_TABLE: frozenset({(Party.EDGE, Act.MAKE_SAFE)}),
        Cause.PROTECTION: frozenset({(Party.EDGE, Act.PROTECT)}),
        Cause.OPERATOR: frozenset(
            {(Party.OPERATOR, Act.SET), (Party.OPERATOR, Act.OPERATE), (Party.ENGINEER, Act.PROBE)}
        ),
        Cause.PLAN: frozenset({(Party.OPTIMIZER, Act.FOLLOW)}),
        Cause.RULES: frozenset({(Party.EDGE, Act.REGULATE)}),
        Cause.REFRESH: frozenset({(Party.EDGE, Act.REGULATE)}),
    }
)
_STRICTEST = tuple(ControlMode)
_WRITES = {  # causes that each mode lets write
    mode: frozenset(c for c, acts in ACTS_OF.items() if any(act in row[party] for party, act in acts))
    for mode, row in MATRIX.items()
}


def strictest(*modes: ControlMode) -> ControlMode:
    """The mode that holds where several apply: that of the plant, of the device, of its switch."""
    return min(modes, key=_STRICTEST.index)


def may_write(mode: ControlMode, cause: Cause) -> bool:
    """Whether a proposal of this cause may be written to a device in this mode."""
    return cause in _WRITES[mode]


def may_act(mode: ControlMode, roles: frozenset[Role], act: Act) -> bool:
    """Whether somebody with these roles may do it in this mode."""
    parties = (PARTY_OF[role] for role in roles)
    return any(p is not None and act in MATRIX[mode][p] for p in parties)
