"""How often and how long each feeder was without supply in the local day, for the limits on shedding."""

from collections.abc import Mapping

from dispatch.state import ObserverMemory
from ems.assets import FeederParams
from ems.condition import FeederUse


def feeder_use(
    feeders: Mapping[str, FeederParams],
    memory: ObserverMemory,
    closed: Mapping[str, bool],
    passed_s: float,
    *,
    new_day: bool,
) -> dict[str, FeederUse]:
    """Openings and time open of each feeder whose shedding is limited, whoever opened it.

    Parameters
    ----------
    closed : whether the breaker of each feeder is closed now.
    passed_s : time since the last tick [s], counted as open where a breaker was open then.
    new_day : a local day has begun since the last tick.
    """
    out = {}
    for f, params in feeders.items():
        limits = (params.sheds_per_day_max, params.shed_per_day_s_max, params.shed_stretch_s_max)
        if limits == (None, None, None):
            continue
        use = memory.feeder_use.get(f, FeederUse())
        today = FeederUse(stretch_s=use.stretch_s) if new_day else use
        was_open = memory.last_good.get(f"{f}.closed", 1.0) < 0.5
        open_s = passed_s if was_open else 0.0
        out[f] = FeederUse(
            sheds=today.sheds + int(not closed[f] and not was_open),
            open_s=today.open_s + open_s,
            stretch_s=0.0 if closed[f] else use.stretch_s + open_s,
        )
    return out
