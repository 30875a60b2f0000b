"""One tick of a rig: what was decided and written, and the truth of the plant; as one line of text too."""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.vocabulary import Decisions
from ems.commands import Command, WriteResult
from ems.telemetry import Snapshot
from plant_models.state import PlantFlows


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tick: what was decided and written at `t_s`, and the truth of the plant until the next tick.

    Parameters
    ----------
    results : every command that was sent, with what is known of it.
    flows : truth from `t_s` to the next tick.
    held : what the devices hold after the writes, by setpoint [unit of the point].
    """

    t_s: float
    decisions: Decisions
    results: tuple[WriteResult, ...]
    snapshot: Snapshot
    flows: PlantFlows
    held: Mapping[str, float]

    @property
    def commands(self) -> tuple[Command, ...]:
        """What was sent."""
        return tuple(r.command for r in self.results)

    def wrote(self, point: str) -> float | None:
        """Value sent to a point in this tick; None: nothing was."""
        return next((c.value for c in self.commands if c.point == point), None)

    def alarmed(self, code: str) -> bool:
        """Whether an alarm whose code begins so is active."""
        return any(a.code.startswith(code) for a in self.decisions.alarms)


def line_of(row: Row) -> str:
    """A tick as one line of text, with every digit."""
    d, f = row.decisions, row.flows
    sent = " ".join(
        f"{r.command.seq}:{r.command.point}={r.command.value!r}/{r.command.cause}/{r.outcome}"
        for r in row.results
    )
    alarms = ",".join(sorted(a.code for a in d.alarms))
    truth = (
        f.grid_p_kw,
        *f.bess_p_kw.values(),
        *f.genset_p_kw.values(),
        *f.pv_p_kw.values(),
        *f.bess_soc.values(),
    )
    powers = " ".join(repr(p) for p in truth)
    return f"{row.t_s:.3f} {d.mode} {d.source} [{sent}] [{alarms}] {f.forming} {powers}\n"
