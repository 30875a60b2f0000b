"""Alarms of an edge whose files cannot be written or read: it goes on, and people hear of it here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from connectors.historian.sqlite import SqliteHistoryReader
from connectors.sqlite_file import DiskError
from dispatch.vocabulary import Alarm
from ems.alarms import AlarmBook
from ems.condition import PlantCondition

log = structlog.get_logger()


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
