"""What a device does by itself when its controller falls silent, as the site file describes each setpoint."""

from ems.assets import OnSilence
from ems.site import SetpointAuthority


def silent_value(authority: SetpointAuthority) -> float | None:
    """What the setpoint goes to after its time-out [unit of the setpoint]; None: it keeps its last value."""
    behaviour = authority.safety.behaviour
    match behaviour.on_silence:
        case OnSilence.HOLD:
            return None
        case OnSilence.VALUE:
            return behaviour.value
        case OnSilence.FULL:
            return authority.high
        case OnSilence.STOP:
            return 0.0


def when_silent(authority: SetpointAuthority, last: float) -> tuple[float, float]:
    """(value after the time-out, time-out [s]) of a setpoint whose last value is known."""
    value = silent_value(authority)
    return (last if value is None else value), authority.safety.behaviour.timeout_s
