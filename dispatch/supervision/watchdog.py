"""The heartbeat: it counts completed, safe decision cycles and nothing else."""

from collections.abc import Callable, Iterable, Mapping

from dispatch.layout import Layout
from dispatch.state import Written
from dispatch.writing.gate import GateInput
from ems.commands import Cause, Command

WRAP = 65536
DUE_RATIO = 0.9  # of the period: a cycle that began some ms early must not leave a beat out


def next_beat(beat: int) -> int:
    """The counter after one more completed cycle; an unsigned 16-bit register on the wire."""
    return (beat + 1) % WRAP


def heartbeat_commands(
    layout: Layout,
    beat: int,
    written: Mapping[str, Written],
    given: GateInput,
    seq: int,
    silent: Callable[[str], bool] = lambda device: False,
    known: Callable[[Iterable[str]], bool] = lambda assets: True,
) -> list[Command]:
    """One command per connection with a watchdog point; none while held safe, so that devices notice.

    Parameters
    ----------
    silent : nothing at all is written to it: it is in local or off.
    known : enough has been seen since the start to write to one of these, which the same device serves.
    """
    if given.held_safe:
        return []
    out: list[Command] = []
    for point, watchdog in layout.watchdogs.items():
        asset = point.partition(".")[0]
        if silent(asset) or not known(layout.served.get(layout.device(point), (asset,))):
            continue
        last = written.get(point)
        if last is not None and given.now_s - last.at_s < DUE_RATIO * watchdog.period_s:
            continue
        out.append(
            Command(
                point=point,
                value=float(beat % watchdog.wrap),
                cause=Cause.REFRESH,
                reason=f"{beat} cycles completed",
                owner="edge",
                plan_id=None,
                epoch=given.epoch,
                seq=seq + len(out),
                limits_hash="",
                decided_at=given.now,
                decided_s=given.now_s,
            )
        )
    return out
