"""A commissioning from first look to last step: everything is read, then one setpoint after the other.

It is driven from outside, cycle by cycle: by `ems commission` over the wire, by tests on a virtual clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatch.commissioning.conditions import never_probed
from dispatch.commissioning.plausible import read_rows
from dispatch.commissioning.probe import Probe
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.commissioning.verdict import judge
from dispatch.commissioning.witness import Witness, shown_by
from dispatch.layout import Layout
from dispatch.vocabulary import Decisions
from ems.requests import Ask
from ems.telemetry import Snapshot

LOOKS = 5  # readings of everything before anything is judged
WAIT_S = 15.0  # for a device that does not answer yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What comes of one cycle: requests for the next one, and rows that are done."""

    asks: Sequence[Ask] = ()
    rows: Sequence[PointRow] = ()


class Session:
    """One commissioning.

    Parameters
    ----------
    agreed : setpoints that an engineer lets it probe, in this order.
    read : whether the readings are judged too; False: they were, and are taken as they are.
    """

    def __init__(self, layout: Layout, agreed: Sequence[str], *, read: bool = True) -> None:
        self.probe: Probe | None = None
        self.done = False
        self.astray = False  # a setpoint could not be brought back: whoever drives this makes it safe
        self._layout = layout
        self._waiting = list(agreed)
        self._read = read
        self._looks: list[Snapshot] = []
        self._since_s: float | None = None
        self._stopped = False
        self._held: dict[str, PointRow] = {}  # readings that nothing bears out yet, and a step may
        self._witness = Witness()

    @property
    def untouched(self) -> frozenset[str]:
        """Assets at which nothing may be written now: all but the one that is probed."""
        layout = self._layout
        everything = frozenset(p.partition(".")[0] for p in (*layout.setpoints, *layout.watchdogs))
        if self.probe is None:
            return everything
        device = layout.device(self.probe.point)
        return everything - layout.served.get(device, frozenset({self.probe.point.partition(".")[0]}))

    def stop(self, why: str) -> None:
        """Bring a step back, and end."""
        self._stopped, self._waiting = True, []
        if self.probe is not None:
            self.probe.stop(why)

    def step(self, decisions: Decisions, snapshot: Snapshot, outcomes: Mapping[str, str]) -> Turn:
        """One cycle. `outcomes`: what a device answered to a write that it did not take, by point."""
        if self.done:
            return Turn()
        if self.probe is None and len(self._looks) < LOOKS and not self._stopped:
            return self._look(snapshot)
        rows: list[PointRow] = []
        if self.probe is None:  # from the next cycle on it may be written to
            rows += self._next()
            self.done = self.probe is None
            return Turn(rows=[*rows, *self._left()])
        asks = self.probe.step(decisions, snapshot, outcomes.get(self.probe.point, ""))
        self._witness.look(snapshot, outcomes)
        if self.probe.done:
            row = judge(self.probe)
            seen = self._witness.rows(self._layout, row, self._held)
            self._held = {p: x for p, x in self._held.items() if p not in {s.point for s in seen}}
            rows += [row, *seen]
            self.astray = not self.probe.home(snapshot)
            self.probe = None
            self.done = self.astray or not self._waiting
        return Turn(asks=asks, rows=[*rows, *self._left()])

    def _left(self) -> list[PointRow]:
        """At the end: readings that no step has shown."""
        left = list(self._held.values()) if self.done else []
        self._held = {} if self.done else self._held
        return left

    def _look(self, snapshot: Snapshot) -> Turn:
        """Wait for every device, for a while; then judge what is read."""
        now_s = snapshot.monotonic_s
        self._since_s = now_s if self._since_s is None else self._since_s
        heard = all(
            any(p in snapshot.readings and snapshot.readings[p].value is not None for p in points)
            for points in self._layout.devices.values()
        )
        if heard or now_s - self._since_s >= WAIT_S:
            self._looks.append(snapshot)
        if len(self._looks) < LOOKS or not self._read:
            return Turn()
        rows = [r for r in read_rows(self._layout, self._looks) if r.point not in self._layout.setpoints]
        moved = [p for p in self._waiting if never_probed(self._layout, p) is None]
        self._held = {r.point: r for r in rows if shown_by(self._layout, r, moved)}
        return Turn(rows=[r for r in rows if r.point not in self._held])

    def _next(self) -> list[PointRow]:
        """Begin with the next setpoint; those that are never probed have their row at once."""
        rows = []
        while self._waiting and self.probe is None:
            point = self._waiting.pop(0)
            why = never_probed(self._layout, point)
            if why is None:
                self.probe, self._witness = Probe(self._layout, point), Witness()
            else:
                rows.append(PointRow(point=point, verdict=Verdict.NOT_SHOWN, shown="nothing", text=why))
        return rows
