"""What all clients of one controlled station are shown: the list as it stands, and what has changed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from connectors.iec104.asdu import Type
from connectors.iec104.values import element
from connectors.northbound.client import Client
from connectors.northbound.door import DeskDoor
from connectors.northbound.iec104_events import Changes, Group, Groups
from connectors.northbound.iec104_list import ObjectList, Shown, changed, commands_of, rows_of
from connectors.northbound.image import Board, Image
from connectors.northbound.records import Records
from ems.northbound_iec104 import Iec104Server
from ems.northbound_names import EVENTS_LOST
from ems.site import Site


class Started(Protocol):
    """A connection on which data flow."""

    def replaced(self) -> None:
        """Its client has started another connection."""
        ...


class Station:
    """One controlled station.

    Parameters
    ----------
    now : aware record time.
    """

    def __init__(
        self,
        site: Site,
        server: Iec104Server,
        board: Board,
        door: DeskDoor,
        records: Records,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self.server, self.door, self.records, self.now = server, door, records, now
        self.list = ObjectList(rows_of(site, server), commands_of(server))
        self.zone = ZoneInfo(site.timezone) if server.local_time else UTC
        self._board = board
        self._of: tuple[Image, dict[str, int]] | None = None
        self.shown: tuple[Shown, ...] = ()
        self._reported: list[Shown] = []
        self.changes = Changes(server.events_max)
        self._groups = Groups(self.changes)
        self._started: dict[tuple[str, str], Started] = {}
        self._lost_at = next((r for r in self.list.rows if r.point == EVENTS_LOST), None)
        self.reads = self.writes = self.lost = 0

    def refresh(self) -> None:
        """Hold the list against the newest image; what has changed is kept for all clients."""
        image, answers = self._board.now(), {k: int(v) for k, v in self.door.answers.items()}
        if self._of is not None and self._of[0] is image and self._of[1] == answers:
            return
        self._of = image, answers
        self.shown = self.list.shown(image, answers, self.now())
        if not self._reported:
            self._reported = list(self.shown)
        for i, one in enumerate(self.shown):
            if changed(self._reported[i], one):
                self._reported[i] = one
                self.changes.add(one)

    def begin(self, client: Client, session: Started) -> Group:
        """A connection is started: the client's other one, if it has one, is replaced."""
        key = client.address, client.name
        older = self._started.get(key)
        self._started[key] = session
        if older is not None and older is not session:
            older.replaced()
        return self._groups.of(key)

    def end(self, client: Client, session: Started) -> None:
        """A connection is stopped, or over."""
        key = client.address, client.name
        if self._started.get(key) is session:
            del self._started[key]

    @property
    def started(self) -> int:
        """Clients to whom data flow."""
        return len(self._started)

    def lost_shown(self, group: Group) -> Shown | None:
        """What this client is told of changes that it has lost; None: the list has no object for it."""
        if self._lost_at is None:
            return None
        lost = float(group.lost_count > 0)
        return Shown(self._lost_at, lost, element("single_point", lost, 0), self.now())

    def objects(self, group: Group, *, counters: bool) -> list[tuple[Type, int, bytes]]:
        """Everything but counters, or counters alone, without times; type by type, as they pack best."""
        out = []
        for one in self.shown:
            if (one.row.kind == "counter") is counters:
                own = self.lost_shown(group) if one.row is self._lost_at else None
                out.append((one if own is None else own).object(timed=False))
        return sorted(out, key=lambda o: o[0])

    def at(self, address: int) -> Shown | None:
        """The object at an address; None: there is none."""
        return next((s for s in self.shown if s.row.address == address), None)
