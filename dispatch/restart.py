"""What an edge that starts takes over from the one before: the last condition it left in the historian."""

from datetime import datetime
from zoneinfo import ZoneInfo

from dispatch.layout import Layout
from dispatch.observing.bess_use import of_today
from dispatch.observing.deferrables import work_known
from dispatch.state import GensetRequest, GensetSeen, ObserverMemory
from dispatch.vocabulary import ControlMemory, PeakTargets
from ems.condition import PlantCondition
from ems.frozen import replace


def remembered(layout: Layout, known: PlantCondition | None, now: datetime, now_s: float) -> ObserverMemory:
    """Demand meters in the same local month, what units have been through always.

    Parameters
    ----------
    known : the last condition in the historian; None: this is the first start.
    now, now_s : aware record time, and edge monotonic of the same moment.
    """
    if known is None:
        return ObserverMemory()
    zone, tariff = layout.zone, layout.site.tariff
    out = ObserverMemory(
        gensets=_gensets(known, now, now_s, zone),
        duty={g: c.duty for g, c in known.gensets.items()},
        grid_losses=known.grid_losses,
        turns_soc={b: x.turns_soc for b, x in known.bess.items() if x.turns_soc},
        bess_use=of_today({b: x.use for b, x in known.bess.items()}, known.at, now, zone),
        work=work_known(known, now_s),
        meters=known.meters,
    )
    if tariff.month(known.at) == tariff.month(now):
        out = replace(
            out,
            peak_import_kw=known.peak_import_kw,
            charge_peaks_kw=known.charge_peaks_kw,
            month_import_kwh=known.month_import_kwh,
            month_import_kvarh=known.month_import_kvarh,
        )
    return replace(out, feeder_use=known.feeder_use) if _same_day(known, now, zone) else out


def control_known(layout: Layout, known: PlantCondition | None, now: datetime) -> ControlMemory:
    """The demand peaks that the last plan reckoned with, in the same billing month."""
    tariff = layout.site.tariff
    if known is None or not known.peak_targets_kw or tariff.month(known.at) != tariff.month(now):
        return ControlMemory()
    peaks = PeakTargets(month=tariff.month(now), by_charge_kw=dict(known.peak_targets_kw))
    return ControlMemory(peaks=peaks)


def requests_known(known: PlantCondition | None, now: datetime, now_s: float) -> dict[str, GensetRequest]:
    """Failed starts, who waits for an operator, and the starts of the last hour.

    Whether a set is asked to run is taken over from the set itself, at its first reading.
    """
    if known is None:
        return {}
    out = {}
    for g, c in known.gensets.items():
        starts_s = tuple(now_s - (now - at).total_seconds() for at in c.past.starts)
        out[g] = GensetRequest(
            run=c.on_load,
            since_s=now_s,
            failures=c.past.failures,
            reset_why=c.past.reset_why,
            starts_s=starts_s,
        )
    return out


def _gensets(known: PlantCondition, now: datetime, now_s: float, zone: ZoneInfo) -> dict[str, GensetSeen]:
    """How long each set is on load or off it; one that has changed meanwhile counts from now."""
    gone_s = max(0.0, (now - known.at).total_seconds())
    same_day = _same_day(known, now, zone)
    return {
        g: GensetSeen(
            on_load=c.on_load,
            on_load_since_s=now_s - gone_s - c.age_s,
            starts_today=c.starts_today if same_day else 0,
        )
        for g, c in known.gensets.items()
    }


def _same_day(known: PlantCondition, now: datetime, zone: ZoneInfo) -> bool:
    return known.at.astimezone(zone).date() == now.astimezone(zone).date()
