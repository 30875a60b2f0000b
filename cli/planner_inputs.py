"""The planner's side of inputs from elsewhere: laid over its own forecast, held against what is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from connectors.inputs.store import QuietInputs
from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.outage import OutageNotice, known_outages
from ems.outage_now import overrunning, standing
from ems.ports import Forecaster, InputKnowledge
from ems.site import Site
from forecasting.inputs import InputForecaster

Notices = Callable[[datetime], Sequence[OutageNotice]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerInputs:
    """What a planner asks: outages to lay its grid by, and a forecast in which the mains have a say."""

    site: Site
    forecaster: Forecaster
    notices: Notices
    known: InputKnowledge | None = None  # of its inputs; None: it has none

    def outages(self, now: datetime, condition: PlantCondition) -> tuple[OutageNotice, ...]:
        """Announced outages that are still to be reckoned with."""
        return standing(known_outages(self.notices(now), now), condition, self._mains_back_s())

    def changed(self, since: datetime, now: datetime) -> bool:
        """Whether an outage that is not over was announced, revised or cancelled since a plan was made."""
        if not self.site.inputs:
            return False
        ahead = [{(n.id, n.start, n.end) for n in self.notices(at) if n.end > now} for at in (since, now)]
        return ahead[0] != ahead[1]

    def measured(self, forecast: Forecast, condition: PlantCondition) -> Forecast:
        """Without outages that are over early; with a word of one that overruns."""
        if not self.site.inputs:
            return forecast
        left = standing(forecast.outages, condition, self._mains_back_s())
        notes = [
            f"outage {n.id}: the mains are back before its end, {n.end:%m-%d %H:%M} UTC: it is over"
            for n in forecast.outages
            if n not in left
        ]
        late = overrunning(known_outages(self.notices(condition.at), condition.at), condition)
        if late is not None:
            notes.append(
                f"outage {late.id} was announced until {late.end:%m-%d %H:%M} UTC, the mains are not back"
            )
        return replace(forecast, outages=left, repairs=(*forecast.repairs, *notes))

    def _mains_back_s(self) -> dict[str, float]:
        return {p.id: p.mains_back_s for p in self.site.inputs if p.mains_back_s is not None}


def planner_inputs(
    site: Site,
    base: Forecaster,
    notices: Sequence[OutageNotice],
    directory: Path,
    known: InputKnowledge | None = None,
) -> PlannerInputs:
    """For a site in whose folder its inputs are kept; without inputs it is `base` and `notices` alone.

    `known`: what was known of them, where that is not what the folder keeps.
    """
    if not site.inputs:
        return PlannerInputs(site=site, forecaster=base, notices=lambda at: notices)
    kept = QuietInputs(directory) if known is None else known
    told = InputForecaster(site, base, kept)
    return PlannerInputs(
        site=site, forecaster=told, notices=lambda at: (*notices, *told.notices(at)), known=kept
    )
