"""Inrush of a feeder that is switched on, against what the sources that make the voltage stand meanwhile.

For some cycles transformers and motors draw a multiple of what they take later, mostly reactive: neither
headroom nor the largest step in kW says anything of it. A converter limits its current and the island
collapses; the voltage of an alternator dips. What follows the voltage, PV and other batteries, adds nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from ems.assets import FeederParams
from ems.frozen import replace
from ems.site import GridMode

MARGIN_RATIO = 0.05  # of the inrush, beyond it, before a breaker is asked to close


@dataclass(frozen=True, slots=True, kw_only=True)
class Inrush:
    """What an island stands now, and could stand with every set that is there.

    Parameters
    ----------
    stands_kva : of the sources on line, together.
    most_kva : what is left of that for an inrush with every set that is available, none below its least load.
    p_kw, q_kvar : what the load takes of them now.
    of_set_kva : the share of each genset in what they stand now.
    waits : the first feeder with an inrush that is to come back, and can.
    """

    stands_kva: float = math.inf
    most_kva: float = math.inf
    p_kw: float = 0.0
    q_kvar: float = 0.0
    of_set_kva: Mapping[str, float] = field(default_factory=dict)
    waits: str | None = None

    def accepts(self, layout: Layout, feeder: str, *, closing: bool = False, more_kva: float = 0.0) -> bool:
        """Whether the feeder may be switched on; once it is asked to close without the margin.

        Parameters
        ----------
        more_kva : what other feeders may take by then.
        """
        return _asks_kva(layout, feeder, margin=not closing) <= self.stands_kva - self._load_kva - more_kva

    def words(self, layout: Layout, feeder: str) -> str:
        """Why it does not come back yet."""
        could = _asks_kva(layout, feeder) <= self.most_kva
        who = "sources on line" if could else "sources that can make the voltage"
        return f"its inrush of {layout.feeders[feeder].inrush_kva:g} kVA is more than the {who} stand"

    def missing_kva(self, layout: Layout, without: str = "") -> float:
        """What the feeder that waits lacks, or would `without` one of the sets; 0 where none does [kVA]."""
        if self.waits is None:
            return 0.0
        gone_kva = self.of_set_kva.get(without, 0.0)
        return max(0.0, _asks_kva(layout, self.waits) - (self.stands_kva - gone_kva - self._load_kva))

    def p_kw_max(self, layout: Layout, feeder: str) -> float:
        """What the sources may carry while it is switched on; infinite where it has no inrush [kW]."""
        kva = _asks_kva(layout, feeder)
        if kva <= 0.0:
            return math.inf
        left_kva = max(0.0, self.stands_kva - kva)
        return math.sqrt(max(0.0, left_kva**2 - self.q_kvar**2))

    def without(self, genset: str) -> "Inrush":
        """What is left once a set has gone."""
        shares = {g: kva for g, kva in self.of_set_kva.items() if g != genset}
        gone_kva = self.of_set_kva.get(genset, 0.0)
        return replace(self, stands_kva=self.stands_kva - gone_kva, of_set_kva=shares)

    @property
    def _load_kva(self) -> float:
        return math.hypot(self.p_kw, self.q_kvar)


NO_INRUSH = Inrush()


def inrush_now(
    layout: Layout,
    observed: Observed,
    forming: Sequence[str],
    running: Sequence[str],
    waiting: Sequence[str],
) -> Inrush:
    """Work it out for this snapshot; without bounds beside the grid, and where no feeder has an inrush.

    Parameters
    ----------
    forming, running : batteries that form, and gensets on load.
    waiting : feeders that the edge holds open and that could come back, the first to come first.
    """
    c = observed.condition
    if c.grid_mode is not GridMode.ISLANDED or not any(f.inrush_kva > 0.0 for f in layout.feeders.values()):
        return NO_INRUSH
    batteries_kva = sum(layout.bess[b].pcs.surge_or_overload_kva for b in forming)
    sets_kva = {g: p.surge_or_rated_kva for g, p in layout.gensets.items()}
    could = {g for g, x in c.gensets.items() if g in running or x.available}
    closed = (f for f in c.feeder_kw if c.feeder_closed[f])
    p_kw = sum(c.bess[b].p_kw for b in forming) + sum(c.gensets[g].p_kw for g in running)
    q_kvar = sum(c.feeder_kw[f] * _tan_phi(layout.feeders[f]) for f in closed)
    least_kw = sum(layout.gensets[g].p_min_kw for g in could)
    most_kva = batteries_kva + sum(sets_kva[g] for g in could) - math.hypot(max(p_kw, least_kw), q_kvar)
    return Inrush(
        stands_kva=batteries_kva + sum(sets_kva[g] for g in running),
        most_kva=most_kva,
        p_kw=p_kw,
        q_kvar=q_kvar,
        of_set_kva={g: sets_kva[g] for g in running},
        waits=next((f for f in waiting if 0.0 < _asks_kva(layout, f) <= most_kva), None),
    )


def _asks_kva(layout: Layout, feeder: str, *, margin: bool = True) -> float:
    return layout.feeders[feeder].inrush_kva * (1.0 + MARGIN_RATIO if margin else 1.0)


def _tan_phi(feeder: FeederParams) -> float:
    return math.tan(math.acos(feeder.power_factor_ratio))
