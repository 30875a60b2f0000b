"""Alarms of an edge whose files cannot be written or read: it goes on, and people hear of it here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from cli.writing_permit import Permit
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.northbound.watch import Seen
from connectors.sqlite_file import EPOCH, DiskError
from connectors.stores.permit import sections
from connectors.utility.watch import UtilitySeen
from dispatch.vocabulary import Alarm
from ems.alarms import AlarmBook
from ems.condition import PlantCondition
from ems.records import JsonValue
from ems.site import Site

log = structlog.get_logger()

DOUBTS_TOLD = 5
LAST = datetime.max.replace(tzinfo=UTC)
Tell = Callable[[str, Mapping[str, JsonValue]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What edges before this one have recorded, as far as their file can be read now."""

    reader: SqliteHistoryReader
    condition: PlantCondition | None
    alarms: AlarmBook | None
    readable: bool  # False: an edge may have run here, and nobody knows what it did

    def writes(self, point: str, start: datetime, end: datetime, count_max: int) -> int:
        """How often a point was written in [start, end), no further than `count_max`; that, if unknown."""
        try:
            return self.reader.writes(point, start, end, count_max)
        except DiskError:
            return count_max

    def site_in_force(self) -> Mapping[str, JsonValue]:
        """Short hashes of the parts of the site that the last edge ran with; empty: none is known."""
        try:
            found = self.reader.events(EPOCH, LAST, "edge.site.in_force", 1)
        except DiskError:
            return {}
        parts = found[0].fields.get("sections") if found else None
        return parts if isinstance(parts, Mapping) else {}


def before(reader: SqliteHistoryReader) -> Before:
    """Look at the file. A disk that fails is no reason not to start: the edge begins as on its first day.

    Raises
    ------
    StoreError : the file is of another kind or version.
    """
    try:
        condition, alarms = reader.condition(), reader.alarms()
    except DiskError as error:
        log.error("historian.past.unreadable", error=str(error))
        return Before(reader=reader, condition=None, alarms=None, readable=False)
    return Before(reader=reader, condition=condition, alarms=alarms, readable=True)


def unwritten(history: str | None, *, standing_kept: bool) -> tuple[Alarm, ...]:
    """One alarm for everything that is not on the disk.

    Parameters
    ----------
    history : what is wrong with the historian's file; None: nothing.
    standing_kept : a restart would find the orders that stand now.
    """
    orders = None if standing_kept else "what people have ordered would not outlive a restart"
    told = [text for text in (history, orders) if text is not None]
    return (Alarm(code="records.unwritten", text="; ".join(told)),) if told else ()


def trouble(failing: Mapping[str, str], certificates: Mapping[str, str]) -> tuple[Alarm, ...]:
    """What keeps people from being heard, and what will keep devices from being connected to."""
    return (*deaf(failing), *ending(certificates))


def faulty(faults: Mapping[str, Sequence[str]]) -> tuple[Alarm, ...]:
    """Devices that tell fault codes of what is behind them."""
    return tuple(
        Alarm(code="device.faults", asset=connection, text="; ".join(told))
        for connection, told in faults.items()
    )


def undriven(faults: Mapping[str, str]) -> tuple[Alarm, ...]:
    """Devices whose driver met what it was not written for: a fault of ours that costs this device."""
    return tuple(
        Alarm(code="device.driver.fault", asset=connection, text=f"{connection}: {what}")
        for connection, what in faults.items()
    )


def unheard(losses: Mapping[str, str], clocks: Mapping[str, str]) -> tuple[Alarm, ...]:
    """Devices that recorded more than they could hand over, and those whose clock is not believed."""
    return (
        *(Alarm(code="device.records.lost", asset=i, text=why) for i, why in losses.items()),
        *(Alarm(code="device.clock", asset=i, text=why) for i, why in clocks.items()),
    )


def unproven(doubts: Sequence[str]) -> tuple[Alarm, ...]:
    """One alarm for everything that would keep an edge in shadow from writing."""
    more = len(doubts) - DOUBTS_TOLD
    text = "; ".join([*doubts[:DOUBTS_TOLD], *([f"and {more} more"] if more > 0 else [])])
    return (Alarm(code="edge.site.unproven", text=text),) if text else ()


def tell_site(event: Tell, past: Before, site: Site, permitted: Permit) -> None:
    """Which site is in force from now on, who vouches for it, and what is not as it was at the last start.

    Prices and names may change (`connectors.stores.permit.FREE`); what decides what is written where is
    compared, in shadow as well.
    """
    now: dict[str, JsonValue] = {**sections(site)}
    fields: dict[str, JsonValue] = {"site": site.name, "sections": now, "vouched": permitted.vouched}
    was = past.site_in_force()
    changed = [key for key in sorted({*now, *was}) if now.get(key) != was.get(key)] if was else []
    if changed:
        event("edge.site.changed", {"changed": changed})
        log.warning("edge.site.changed", changed=changed)
    event("edge.site.in_force", fields)


def untold(down: str, behind: str) -> tuple[Alarm, ...]:
    """One alarm for all links that are down, and one for all whose rows wait too long."""
    alarms = (
        Alarm(code="telemetry.link.down", text=down),
        Alarm(code="telemetry.backlog", text=behind),
    )
    return tuple(alarm for alarm in alarms if alarm.text)


def served(seen: Seen) -> tuple[Alarm, ...]:
    """Alarms of our own servers: down, a certificate ends, somebody was refused."""
    alarms = (
        Alarm(code="northbound.server.down", text=seen.down),
        Alarm(code="northbound.certificate.expires", text=seen.ending),
        Alarm(code="northbound.refused", text=seen.strangers),
    )
    return tuple(alarm for alarm in alarms if alarm.text)


def bounded(seen: UtilitySeen) -> tuple[Alarm, ...]:
    """Alarms of a utility's servers: not heard, another time, a certificate ends, something was refused."""
    alarms = (
        Alarm(code="utility.server.lost", text=seen.lost),
        Alarm(code="utility.clock", text=seen.clock),
        Alarm(code="utility.certificate.expires", text=seen.ending),
        Alarm(code="utility.refused", text=seen.refused),
    )
    return tuple(alarm for alarm in alarms if alarm.text)


def unkept(store: str) -> tuple[Alarm, ...]:
    """One alarm for whatever is wrong with the historian's long-term store."""
    return (Alarm(code="historian.store.failing", text=store),) if store else ()


def from_elsewhere(late: str, refused: str, overrun: str) -> tuple[Alarm, ...]:
    """One alarm for all inputs that are late, one for all that were refused, one for an outage too long."""
    alarms = (
        Alarm(code="input.late", text=late),
        Alarm(code="input.refused", text=refused),
        Alarm(code="outage.overrun", text=overrun),
    )
    return tuple(alarm for alarm in alarms if alarm.text)


def deaf(failing: Mapping[str, str]) -> tuple[Alarm, ...]:
    """One alarm for everything that keeps people from being heard: it is one disk, or one user database."""
    text = "; ".join(f"{place}: {why}" for place, why in failing.items())
    return (Alarm(code="edge.desk.failing", text=text),) if text else ()


def ending(certificates: Mapping[str, str]) -> tuple[Alarm, ...]:
    """One alarm for each connection with a certificate that ends soon, or has ended."""
    return tuple(
        Alarm(code="device.certificate.expires", asset=connection, text=text)
        for connection, text in certificates.items()
    )
