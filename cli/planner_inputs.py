"""The planner's side of inputs from elsewhere: laid over its own forecast, held against what is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from connectors.inputs.store import QuietInputs
from connectors.northbound.records import RecordsReader
from connectors.sqlite_file import StoreError
from connectors.utility.ahead import caps_ahead
from ems.condition import PlantCondition
from ems.forecast import CapAhead, Forecast
from ems.outage import OutageNotice, known_outages
from ems.outage_now import overrunning, standing
from ems.ports import Forecaster, InputKnowledge
from ems.site import Site
from forecasting.inputs import InputForecaster

log = structlog.get_logger()

FAR_S = 24 * 3600.0  # a cap that ends later is told with an end that moves on with the clock
SAME_CAP_S = 60.0  # a cap that begins or ends so much later or earlier is no other one

Notices = Callable[[datetime], Sequence[OutageNotice]]
Caps = Callable[[datetime], tuple[CapAhead, ...]]


def no_caps(at: datetime) -> tuple[CapAhead, ...]:
    """Of a site that asks no server of a utility."""
    return ()


class ToldCaps:
    """Caps to come, as the utility process tells them in its status rows; none where they cannot be read."""

    def __init__(self, site: Site, path: Path) -> None:
        self._site, self._reader = site, RecordsReader(path)

    def __call__(self, at: datetime) -> tuple[CapAhead, ...]:
        try:
            return caps_ahead(self._site, self._reader.statuses(), at)
        except StoreError as error:
            log.warning("planner.caps.not_read", why=str(error))
            return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerInputs:
    """What a planner asks: outages to lay its grid by, and a forecast in which the mains have a say."""

    site: Site
    forecaster: Forecaster
    notices: Notices
    known: InputKnowledge | None = None  # of its inputs; None: it has none
    caps: Caps = no_caps  # told for times to come by servers of a utility

    def outages(self, now: datetime, condition: PlantCondition) -> tuple[OutageNotice, ...]:
        """Announced outages that are still to be reckoned with."""
        return standing(known_outages(self.notices(now), now), condition, self._mains_back_s())

    def changed(self, since: datetime, now: datetime) -> bool:
        """Whether an outage that is not over was announced, revised or cancelled since a plan was made."""
        if not self.site.inputs:
            return False
        ahead = [{(n.id, n.start, n.end) for n in self.notices(at) if n.end > now} for at in (since, now)]
        return ahead[0] != ahead[1]

    def caps_changed(self, planned: Sequence[CapAhead], now: datetime) -> bool:
        """Whether other caps are told now than those that a plan was made for."""
        order = partial(_order, now)
        pair = [sorted((x for x in caps if x.end > now), key=order) for caps in (planned, self.caps(now))]
        return len(pair[0]) != len(pair[1]) or not all(map(partial(_same, now), *pair))

    def measured(self, forecast: Forecast, condition: PlantCondition) -> Forecast:
        """With caps that are told; without outages that are over early, with a word of one that overruns."""
        caps = self.caps(forecast.issued_at)
        forecast = replace(forecast, caps=caps) if caps else forecast
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


def _order(now: datetime, cap: CapAhead) -> tuple[bool, str, datetime]:
    return cap.is_import, cap.source, max(cap.start, now)


def _same(now: datetime, a: CapAhead, b: CapAhead) -> bool:
    """Whether two caps say the same of what is to come; as far as plans look one has no end."""
    starts = abs((max(a.start, now) - max(b.start, now)).total_seconds())
    far = now + timedelta(seconds=FAR_S)
    ends = abs((min(a.end, far) - min(b.end, far)).total_seconds())
    what = (a.is_import, a.source, a.cap_kw) == (b.is_import, b.source, b.cap_kw)
    return what and max(starts, ends) <= SAME_CAP_S


def planner_inputs(
    site: Site,
    base: Forecaster,
    notices: Sequence[OutageNotice],
    directory: Path,
    known: InputKnowledge | None = None,
    caps: Caps = no_caps,
) -> PlannerInputs:
    """For a site in whose folder its inputs are kept; without inputs it is `base` and `notices` alone.

    Parameters
    ----------
    known : what was known of them, where that is not what the folder keeps.
    caps : what servers of a utility have told for times to come.
    """
    if not site.inputs:
        return PlannerInputs(site=site, forecaster=base, notices=lambda at: notices, caps=caps)
    kept = QuietInputs(directory) if known is None else known
    told = InputForecaster(site, base, kept)
    return PlannerInputs(
        site=site,
        forecaster=told,
        notices=lambda at: (*notices, *told.notices(at)),
        known=kept,
        caps=caps,
    )
