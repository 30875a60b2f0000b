"""What the steps of a probe show beside the setpoint itself: readings that show nothing at rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dispatch.commissioning.conditions import rated_kw
from dispatch.commissioning.probe import STEP_RATIO
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.layout import Layout
from ems.points import AssetKind
from ems.telemetry import Snapshot

BITTEN_RATIO = 0.5  # of a step, by which the power falls where a limit bites
AVAILABLE_RATIO = 0.3  # of that fall: what is available moves by no more
BEATS_RATIO = 0.5  # of the beats that were due must be seen
BEATS_MIN = 2


def shown_by(layout: Layout, row: PointRow, moved: Sequence[str]) -> bool:
    """Whether steps of one of the setpoints `moved` may show what a reading alone does not."""
    if row.verdict is not Verdict.NOT_SHOWN or row.shown != "nothing":
        return False
    return any(_bears(layout, row.point, setpoint) for setpoint in moved)


def _bears(layout: Layout, point: str, setpoint: str) -> bool:
    """Whether steps of a setpoint bear out a point: its unit's power, that at the POI, its device's beat."""
    asset = setpoint.partition(".")[0]
    if point in layout.watchdogs:
        return layout.device(point) == layout.device(setpoint)
    return point in (layout.p[asset], layout.p[layout.site.grid.id], f"{asset}.p_available_kw")


@dataclass(slots=True)
class Witness:
    """Readings while one setpoint is moved."""

    looks: list[Snapshot] = field(default_factory=list)
    not_taken: dict[str, str] = field(default_factory=dict)

    def look(self, snapshot: Snapshot, outcomes: Mapping[str, str]) -> None:
        """One cycle. `outcomes`: writes that a device did not take, by point."""
        self.looks.append(snapshot)
        self.not_taken.update(outcomes)

    def rows(self, layout: Layout, probed: PointRow, held: Mapping[str, PointRow]) -> list[PointRow]:
        """Rows of what these steps have shown, or have shown to be wrong; the rest stays held."""
        out = []
        for point, row in held.items():
            if not _bears(layout, point, probed.point):
                continue
            if point in layout.watchdogs:
                found = self._beat(layout, row)
            elif probed.verdict is not Verdict.PASS:
                found = None
            elif point.endswith(".p_available_kw"):
                found = self._available(layout, row)
            else:
                found = _passed(row, f"moved with {probed.point}") if "the POI" in probed.text else None
            if found is not None:
                out.append(found)
        return out

    def _beat(self, layout: Layout, row: PointRow) -> PointRow | None:
        """Our heartbeat was written: it is read back, one after the other."""
        if row.point in self.not_taken:
            text = f"was written and not taken: {self.not_taken[row.point]}"
            return replace(row, verdict=Verdict.FAIL, shown="effect", text=text)
        watchdog = layout.watchdogs[row.point]
        seen = [(x.monotonic_s, v) for x in self.looks if (v := x.value(row.point)) is not None]
        beats = 0
        for (before_s, before), (now_s, now) in pairwise(seen):
            cycles = 2.0 + watchdog.period_s / max(now_s - before_s, 1e-3)
            beats += 0.0 < (now - before) % watchdog.wrap <= cycles
        lasted_s = seen[-1][0] - seen[0][0] if seen else 0.0
        due = lasted_s / max(watchdog.period_s, lasted_s / max(len(seen), 1))
        if due < BEATS_MIN:
            return None
        if beats < BEATS_RATIO * due:
            text = f"was written, and {beats} of {due:.0f} beats are read back: address, scale or word order?"
            return replace(row, verdict=Verdict.FAIL, shown="effect", text=text)
        return _passed(row, f"{beats} beats read back")

    def _available(self, layout: Layout, row: PointRow) -> PointRow | None:
        """While a limit bites the power falls, and what is available does not."""
        asset = row.point.partition(".")[0]
        pairs = [(x.value(layout.p[asset]), x.value(row.point)) for x in self.looks]
        known = [(p, a) for p, a in pairs if p is not None and a is not None]
        if layout.kinds[asset] is not AssetKind.PV or not known:
            return None
        fell_kw, moved_kw = (max(v) - min(v) for v in zip(*known, strict=True))
        if fell_kw < BITTEN_RATIO * STEP_RATIO * rated_kw(layout, f"{asset}.p_limit_kw"):
            return None
        if moved_kw > AVAILABLE_RATIO * fell_kw:
            text = f"moved by {moved_kw:.1f} kW while a limit took {fell_kw:.1f} kW: the power itself?"
            return replace(row, text=f"{row.text}; {text}")
        top_kw = max(p for p, _ in known)
        if not math.isclose(known[0][1], top_kw, rel_tol=0.25):
            text = f"{known[0][1]:.1f} kW, of which {top_kw:.1f} kW were given without a limit: scale?"
            return replace(row, text=text)
        return _passed(row, f"stood while a limit took {fell_kw:.1f} kW")


def _passed(row: PointRow, why: str) -> PointRow:
    value = row.text.partition(":")[0]
    return replace(row, verdict=Verdict.PASS, shown="effect", text=f"{value}; {why}")
