"""One connection to a controlled station: what its client asks and tells, and what flows back. No sockets.

Source: IEC 60870-5-101:2003, 7.4 (interrogation, commands), and IEC 60870-5-104:2006, 7 and 8. Answers go
first; the changes that were there before an interrogation go before its values, so that nothing older follows
what is newer.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.iec104.asdu import ASKED, EVERYBODY, Asdu, Cause, Type, fitting, request_of, single, together
from connectors.iec104.frames import BadFrame, Frame
from connectors.iec104.link import Link, State
from connectors.iec104.times import BYTES as TIME
from connectors.iec104.times import time_of
from connectors.iec104.values import KINDS, SELECT
from connectors.northbound.client import Client
from connectors.northbound.door import Code
from connectors.northbound.iec104_events import Group
from connectors.northbound.iec104_list import told_kw
from connectors.northbound.iec104_station import Station
from ems.northbound_iec104 import Iec104Command

REPLIES_MAX = 32  # answers that a client has left no room for
STATION, ALL_COUNTERS = 20, 5  # qualifiers: of an interrogation, and of one of counters without freezing
SELECT_S = 30.0  # a selection lasts so long
STAMP_S_MAX = 60.0  # a command that was made longer ago, or later, is of another time
COMMANDS = range(45, 65)
UNKNOWN, NO_CLOCK = "unknown", "clock"


@dataclass(slots=True)
class _Job:
    """An interrogation that is being answered."""

    request: Asdu
    since: int  # changes before this number go first
    parts: Iterator[bytes]
    lost_count: int = 0  # changes lost by the client that its values make up for


class Session:
    """One connection.

    Parameters
    ----------
    now_s : monotonic [s], as everywhere here.
    """

    def __init__(self, station: Station, client: Client, now_s: float) -> None:
        self._station, self._client, self._now_s = station, client, now_s
        self._link = Link(station.server.times, now_s)
        self._group: Group | None = None  # while started
        self._cursor = 0  # number of the change that is told next
        self._flying: deque[int] = deque()  # the cursor behind each frame that is not confirmed
        self._delivered = 0
        self._replies: deque[bytes] = deque()
        self._jobs: list[_Job] = []
        self._selected: tuple[bytes, float] | None = None  # the request to execute, and until when
        self.why = ""  # it must end

    def take(self, frame: Frame, now_s: float) -> None:
        """A frame that came. Raises BadFrame where the connection must end for it."""
        self._now_s = now_s
        asdu = self._link.take(frame, now_s)
        self._settle()
        if asdu is not None:
            self._hear(request_of(asdu))
            if len(self._replies) > REPLIES_MAX:
                raise BadFrame(f"more than {REPLIES_MAX} answers wait: it confirms none")

    def outgoing(self, now_s: float) -> bytes:
        """What is to be sent now; `why` says whether it was the last."""
        self._now_s = now_s
        self.why = self.why or self._link.tick(now_s)
        while not self.why and self._link.room > 0:
            asdu = self._next()
            if asdu is None:
                break
            self._link.send(asdu, now_s)
            self._flying.append(self._cursor)
        return self._link.drain()

    def over(self) -> None:
        """The connection is lost."""
        self._station.end(self._client, self)
        self._group = None
        self.why = self.why or "lost"

    def replaced(self) -> None:
        """Its client has started another connection: whoever still listens here must notice."""
        self.why = "another connection of this client was started"

    # --- what flows back ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Note what has arrived, and whether data flow now."""
        for _ in range(self._link.delivered - self._delivered):
            confirmed = self._flying.popleft()
            if self._group is not None:
                self._group.confirmed = max(self._group.confirmed, confirmed)
        self._delivered = self._link.delivered
        state = self._link.state
        if state is State.STARTED and self._group is None:
            self._group = self._station.begin(self._client, self)
            self._cursor = self._group.confirmed
            if not self._group.introduced:
                self._group.introduced = True
                own = self._station.server.station
                self._replies.append(single(Type.M_EI_NA, Cause.INITIALISED, own, 0, b"\0"))
        elif state is State.STOPPED and self._group is not None:
            self._station.end(self._client, self)
            self._group = None
            self._replies.clear()
            self._jobs.clear()
            self._selected = None

    def _next(self) -> bytes | None:
        """The next ASDU; None: there is nothing to say."""
        assert self._group is not None, "there is room on a started connection alone"
        if self._replies:
            return self._replies.popleft()
        before = self._cursor
        self._cursor = self._group.caught_up(before)
        self._station.lost += self._cursor - before
        if self._group.lost_count and not self._group.lost_told:
            self._group.lost_told = True
            if (told := self._lost()) is not None:
                return told
        if not self._jobs:
            return self._changes(self._station.changes.end)
        job = self._jobs[0]
        if self._cursor < job.since:
            return self._changes(job.since)
        if self._cursor > job.since:  # what was lost is younger than the values: they are taken anew
            self._jobs[0] = job = self._job(job.request)
        if not job.lost_count:
            job.lost_count = self._group.lost_count
        part = next(job.parts, None)
        return self._end(job) if part is None else part

    def _end(self, job: _Job) -> bytes:
        """The end of an interrogation, after which nothing that was lost is missed any more."""
        assert self._group is not None
        self._jobs.remove(job)
        if job.request.type == Type.C_IC_NA and self._group.lost_told:
            self._group.lost_count -= job.lost_count
            self._group.lost_told = self._group.lost_count > 0
            if (told := self._lost()) is not None:
                self._replies.append(told)
        return self._mirrored(job.request, Cause.ACTIVATION_END)

    def _lost(self) -> bytes | None:
        assert self._group is not None
        shown = self._station.lost_shown(self._group)
        if shown is None:
            return None
        timed = self._station.server.time_tags
        kind, address, content = shown.object(timed=timed, zone=self._station.zone)
        return single(kind, Cause.SPONTANEOUS, self._station.server.station, address, content)

    def _changes(self, until: int) -> bytes | None:
        """The next changes before a number, in one ASDU."""
        count = min(until - self._cursor, fitting(0))
        if count <= 0:
            return None
        zone, timed = self._station.zone, self._station.server.time_tags
        objects = (s.object(timed=timed, zone=zone) for s in self._station.changes.since(self._cursor, count))
        asdu = next(together(objects, Cause.SPONTANEOUS, self._station.server.station))
        self._cursor += asdu[1]
        return asdu

    def _job(self, request: Asdu) -> _Job:
        assert self._group is not None
        is_station = request.type == Type.C_IC_NA
        cause = Cause.INTERROGATED if is_station else Cause.COUNTERS_REQUESTED
        objects = self._station.objects(self._group, counters=not is_station)
        own = self._station.server.station
        return _Job(request, self._station.changes.end, together(objects, cause, own, request.originator))

    # --- what is asked ------------------------------------------------------------------------------------

    def _hear(self, asdu: Asdu) -> None:
        station, kind = self._station, asdu.type
        if kind not in ASKED:
            self._refuse(asdu, Cause.UNKNOWN_TYPE, "this type is not served")
        elif asdu.station != station.server.station and not (
            asdu.station == EVERYBODY and kind in (Type.C_IC_NA, Type.C_CI_NA, Type.C_CS_NA)
        ):
            self._refuse(asdu, Cause.UNKNOWN_STATION, f"common address {asdu.station} is not ours")
        elif kind == Type.C_RD_NA:
            self._read(asdu)
        elif asdu.cause not in (Cause.ACTIVATION, Cause.DEACTIVATION) or asdu.negative:
            self._refuse(asdu, Cause.UNKNOWN_CAUSE, "a request has another cause")
        elif kind in (Type.C_IC_NA, Type.C_CI_NA):
            self._interrogation(asdu)
        elif kind == Type.C_CS_NA:
            why = "clocks are not set from here: this machine has a time source of its own"
            self._refuse(asdu, Cause.ACTIVATION_CON, why, NO_CLOCK)
        elif kind == Type.C_TS_TA:
            self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_CON))
        else:
            self._command(asdu)

    def _refuse(self, asdu: Asdu, cause: Cause, why: str, code: str = "") -> None:
        """A negative answer, and a record."""
        code = code or (Code.NOT_WRITABLE if asdu.type in COMMANDS else UNKNOWN)
        self._station.records.refused(self._client, asdu.words, code, why)
        self._replies.append(self._mirrored(asdu, cause, negative=True))

    def _mirrored(self, asdu: Asdu, cause: Cause, *, negative: bool = False) -> bytes:
        own = self._station.server.station if asdu.station == EVERYBODY else None
        return asdu.mirrored(cause, negative=negative, station=own)

    def _read(self, asdu: Asdu) -> None:
        shown = self._station.at(asdu.address)
        if asdu.cause != Cause.REQUEST:
            self._refuse(asdu, Cause.UNKNOWN_CAUSE, "a read has another cause")
        elif shown is None:
            self._refuse(asdu, Cause.UNKNOWN_OBJECT, "nothing is there")
        else:
            self._station.reads += 1
            kind, address, content = shown.object(timed=False)
            own = self._station.server.station
            self._replies.append(single(kind, Cause.REQUEST, own, address, content, asdu.originator))

    def _interrogation(self, asdu: Asdu) -> None:
        """Of the station, or of its counters as they stand."""
        running = next((j for j in self._jobs if j.request.type == asdu.type), None)
        if asdu.address != 0:
            self._refuse(asdu, Cause.UNKNOWN_OBJECT, "an interrogation is of object 0")
        elif asdu.cause == Cause.DEACTIVATION:
            if running is not None:
                self._jobs.remove(running)
            self._replies.append(self._mirrored(asdu, Cause.DEACTIVATION_CON, negative=running is None))
        elif asdu.element[0] != (STATION if asdu.type == Type.C_IC_NA else ALL_COUNTERS):
            why = "only the whole station, and all counters without freezing them, are told"
            self._refuse(asdu, Cause.ACTIVATION_CON, f"qualifier {asdu.element[0]}: {why}", UNKNOWN)
        elif running is not None:
            self._refuse(asdu, Cause.ACTIVATION_CON, "the last one is not over", UNKNOWN)
        else:
            self._station.reads += 1
            self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_CON))
            self._jobs.append(self._job(asdu))

    # --- what is told -------------------------------------------------------------------------------------

    def _command(self, asdu: Asdu) -> None:
        """A set-point that tells a limit, and nothing else."""
        self._station.writes += 1
        command = self._station.list.commands.get(asdu.address)
        if command is None:
            self._refuse(asdu, Cause.UNKNOWN_OBJECT, "no limit is told there")
        elif asdu.type not in KINDS[command.kind].told:
            self._refuse(asdu, Cause.UNKNOWN_TYPE, f"the limit there is told as {command.kind}")
        elif asdu.cause == Cause.DEACTIVATION:
            matches = self._chosen(asdu)
            self._selected = None
            self._replies.append(self._mirrored(asdu, Cause.DEACTIVATION_CON, negative=not matches))
        elif why := self._unfit(asdu):
            self._refuse(asdu, Cause.ACTIVATION_CON, why, Code.OUT_OF_BOUNDS)
        elif _qualifier(asdu) & SELECT:
            self._select(asdu, command)
        else:
            self._execute(asdu, command)

    def _unfit(self, asdu: Asdu) -> str:
        """Why a command is not to be judged at all; "": it is."""
        if asdu.test:
            return "it is marked as a test"
        if _qualifier(asdu) & ~SELECT:
            return f"its qualifier is {_qualifier(asdu) & ~SELECT}; allowed: 0"
        if _is_timed(asdu):
            made = time_of(asdu.element[-TIME:], self._station.zone)
            if made is None or abs((self._station.now() - made).total_seconds()) > STAMP_S_MAX:
                return f"its time is not within {STAMP_S_MAX:g} s of ours"
        return ""

    def _chosen(self, asdu: Asdu) -> bool:
        """Whether exactly this is what was selected, and not too long ago."""
        return self._selected is not None and (
            self._selected[0] == _essence(asdu) and self._now_s < self._selected[1]
        )

    def _select(self, asdu: Asdu, command: Iec104Command) -> None:
        rights = self._station.server.writes
        value_kw = told_kw(command, asdu.element)
        may = self._station.door.ask(self._client, rights, command.limit, value_kw).taken
        self._selected = (_essence(asdu), self._now_s + SELECT_S) if may else None
        self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_CON, negative=not may))

    def _execute(self, asdu: Asdu, command: Iec104Command) -> None:
        chosen, self._selected = self._chosen(asdu), None
        if command.select and not chosen:
            why = f"not selected before, as it is, within {SELECT_S:g} s"
            self._refuse(asdu, Cause.ACTIVATION_CON, why, Code.OUT_OF_BOUNDS)
            return
        group = self._group

        def answered(done: bool) -> None:
            if self._group is None or self._group is not group or self.why:
                return
            self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_CON, negative=not done))
            if done:
                self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_END))

        door, rights = self._station.door, self._station.server.writes
        value_kw = told_kw(command, asdu.element)
        if not door.tell(self._client, rights, command.limit, value_kw, answered).taken:
            self._replies.append(self._mirrored(asdu, Cause.ACTIVATION_CON, negative=True))


def _is_timed(asdu: Asdu) -> bool:
    return asdu.type in (Type.C_SE_TA, Type.C_SE_TB, Type.C_SE_TC)


def _qualifier(asdu: Asdu) -> int:
    """The byte behind the value."""
    return asdu.element[-1 - TIME] if _is_timed(asdu) else asdu.element[-1]


def _essence(asdu: Asdu) -> bytes:
    """What must be the same in a selection and its execution: all but the qualifier, and a time."""
    content = asdu.element[:-TIME] if _is_timed(asdu) else asdu.element
    return bytes((asdu.type, asdu.originator)) + asdu.body[:3] + content[:-1]
