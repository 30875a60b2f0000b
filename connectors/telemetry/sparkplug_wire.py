"""Records to a broker as Sparkplug B: nothing counts as delivered that was not acknowledged.

The specification sends data at QoS 0, of which nobody ever knows whether it arrived. Ours go at QoS 1; a host
that asks for QoS 0 is told at QoS 0 by its broker, and sees no difference.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog
from paho.mqtt.client import MQTTMessage

from connectors.historian.spool import Record, Span
from connectors.link import LinkError, Refused
from connectors.mqtt.session import Session, Will, located
from connectors.sparkplug.node import Message, Node
from connectors.sparkplug.payloads import asks_for_rebirth, host_state
from connectors.sqlite_file import to_ms
from connectors.stores.kept_file import keep, kept
from connectors.telemetry.ledger import Spans
from connectors.telemetry.outbox import Claim
from connectors.telemetry.wire import Allowance, Desk
from ems.clock import wall_s
from ems.errors import BadValue
from ems.links import SparkplugNode
from ems.site import Site, TelemetryLink

log = structlog.get_logger()

WINDOW = 8  # messages that may be on their way
PAGE_ROWS = 200  # read at once, at most
READING_BYTES = 32  # about, of a value
TEXT_BYTES = 600  # of a record that is none
IDLE_S, BUSY_S = 0.2, 0.02
COMMAND_BYTES_MAX = 65536
REASK_S = 60.0  # for what the broker keeps of a primary host that is not online
REBIRTH_S = 5.0  # no more than one in this time, however often it is asked for
BD_SEQ_COUNT = 256


@dataclass(slots=True)
class Past:
    """What outlives a connection: its number, and which rows were sent again already.

    Parameters
    ----------
    file : keeps the number over a restart.
    """

    file: Path
    again: dict[int, Spans] = field(default_factory=dict)  # by boot
    _used: int | None = None  # by the newest connection; None: not read yet, or there was none
    _saved: int | None = None

    def next_bd_seq(self) -> int:
        """The number of the next connection; a disk that fails costs it at a restart and nothing else."""
        if self._saved is None:
            self._used = self._saved = self._kept()
        number = 0 if self._used is None else (self._used + 1) % BD_SEQ_COUNT
        if number != self._saved:
            try:
                keep(self.file, {"bd_seq": number})
            except OSError as error:
                log.warning("telemetry.bd_seq.unsaved", file=str(self.file), error=str(error))
            self._saved = number
        return number

    def used(self, number: int) -> None:
        """A broker was greeted with it; before that it is nobody's, however often it is tried."""
        self._used = number

    def _kept(self) -> int | None:
        try:
            body = kept(self.file)
        except BadValue:
            return 0
        number = None if body is None else body.get("bd_seq")
        return number % BD_SEQ_COUNT if isinstance(number, int) else None


class _Due(NamedTuple):
    message: Message
    claim: Claim | None = None  # None: of a birth


class SparkplugWire:
    """One connection to a broker.

    Parameters
    ----------
    folder : that files named in the site file are relative to.
    past : of the link.
    """

    def __init__(
        self, link: TelemetryLink, place: SparkplugNode, site: Site, desk: Desk, folder: Path, past: Past
    ) -> None:
        self._link, self._place, self._desk, self._past = link, place, desk, past
        self._bd_seq = past.next_bd_seq()
        self._node = Node(site, place.group, place.node, self._bd_seq, bytes_max=link.message_bytes_max)
        self._allowance = Allowance(link.backfill_bytes_per_s)
        self._on_way: dict[int, _Due] = {}
        self._waiting: deque[_Due] = deque()
        self._open_parts: dict[Span, int] = {}  # messages of a span not acknowledged
        self._acks: list[tuple[int, str]] = []
        self._heard: deque[tuple[str, bytes, bool]] = deque(maxlen=1000)  # topic, payload, kept by the broker
        self._acked: deque[tuple[float, Claim]] = deque()  # when, wall
        self._host_ms: int | None = None  # of the newest word of the primary host
        self._may_speak = place.primary_host is None
        self._born = self._rebirth = False
        self._born_s = self._heard_s = 0.0
        self._asked_s = wall_s()
        self._commands = f"spBv1.0/{place.group}/NCMD/{place.node}"
        self._state = "" if place.primary_host is None else f"spBv1.0/STATE/{place.primary_host}"
        will = Will(
            topic=self._node.topic("NDEATH"), payload=self._node.death(to_ms(desk.now())), retained=False
        )
        self._session = Session(
            located(link.broker, folder),
            link.host,
            link.port,
            timeout_s=link.timeout_s,
            now=desk.now,
            on_message=self._take,
            on_ack=lambda mid, why: self._acks.append((mid, why)),
            will=will,
        )

    @property
    def where(self) -> str:
        """The broker, and our place there."""
        return f"{self._session.where} as {self._place.group}/{self._place.node}"

    def open(self) -> None:
        """Connect, and hear hosts. Raises LinkError."""
        try:
            self._session.open()
        finally:
            if self._session.has_greeted:
                self._past.used(self._bd_seq)
        self._session.subscribe([self._commands, *([self._state] if self._state else ())])

    def turn(self) -> None:
        """Be born where that is due, and publish as much as may be on its way.

        Raises
        ------
        LinkError : as ever, and when the primary host goes. StoreError.
        """
        self._heed()
        if not self._may_speak:
            figures = self._desk.figures
            figures.up, figures.reason = False, f"the primary host {self._place.primary_host} is not online"
            if wall_s() - self._asked_s > REASK_S:
                self._asked_s = wall_s()
                self._session.subscribe([self._state])
            self._session.pump(IDLE_S)
            return
        if not self._born or (self._rebirth and wall_s() - self._born_s > REBIRTH_S):
            self._be_born()
        while len(self._on_way) < WINDOW and (next_ := self._next()) is not None:
            mid = self._session.publish(next_.message.topic, next_.message.payload, is_text=False)
            self._heard_s = self._heard_s if self._on_way else wall_s()
            self._on_way[mid] = next_
            self._desk.counts.update(messages=1, bytes_sent=len(next_.message.payload))
            if next_.claim is not None and next_.claim.late:
                self._allowance.use(len(next_.message.payload))
        self._session.pump(BUSY_S if self._on_way else IDLE_S)
        self._acknowledged()
        if self._on_way and wall_s() - self._heard_s > self._link.timeout_s:
            raise LinkError(f"{self.where} acknowledges nothing within {self._link.timeout_s:g} s")

    def close(self) -> None:
        """Say that we go. What was taken just before is told again, unless we go of our own accord."""
        self._session.close()
        if self._desk.closing.is_set():
            return
        since_s = wall_s() - self._place.resend_s
        again: dict[int, Spans] = {}
        for at_s, claim in self._acked:
            span = claim.span
            known = self._past.again.setdefault(span.boot, Spans())
            if at_s >= since_s and not known.covers(span.first, span.last):  # once, or a line never ends
                again.setdefault(span.boot, Spans()).add(span.first, span.last)
                known.add(span.first, span.last)
        for boot, spans in again.items():
            self._desk.wanted.extend(Span(boot=boot, first=a, last=b) for a, b in spans)

    def _be_born(self) -> None:
        spool, figures = self._desk.spool, self._desk.figures
        now_ms = to_ms(self._desk.now())
        births = self._node.births(spool.points(), spool.newest(), now_ms)
        self._waiting.extend(_Due(m) for m in births)
        self._desk.counts.update(births=1, rebirths=int(self._born))
        self._born, self._rebirth, self._born_s = True, False, wall_s()
        figures.up, figures.reason = True, ""

    def _next(self) -> _Due | None:
        """The message that is sent next; None: nothing, or late rows have used what they may."""
        while not self._waiting:
            outbox = self._desk.outbox
            claim = outbox.live(PAGE_ROWS)
            if claim is None and self._allowance.is_left:
                claim = outbox.late(PAGE_ROWS)
            if claim is None:
                return None
            self._write(claim)
        return self._waiting.popleft()

    def _write(self, claim: Claim) -> None:
        """Messages of as many rows as are about one message long."""
        records: list[Record] = []
        size = 0
        for record in self._desk.spool.records(claim.span):
            size += TEXT_BYTES if record.values is None else READING_BYTES * len(record.values)
            if records and size > self._link.message_bytes_max:
                break
            records.append(record)
        claim = claim.until(records[-1].seq)
        messages = self._node.data(
            records,
            late=claim.late,
            origin={"store": claim.store, "boot": claim.span.boot, "opened_ms": claim.opened_ms},
            now_ms=to_ms(self._desk.now()),
        )
        self._desk.outbox.sent(claim)
        if messages:
            self._open_parts[claim.span] = len(messages)
            self._waiting.extend(_Due(m, claim) for m in messages)
        else:
            self._delivered(claim)

    def _acknowledged(self) -> None:
        acks, self._acks = self._acks, []
        for mid, why in acks:
            sent = self._on_way.pop(mid, None)
            if sent is None:
                continue
            self._heard_s = wall_s()
            if why:
                self._desk.figures.refused += 1
                raise Refused(f"{self.where} does not take {sent.message.topic}: {why}")
            if sent.claim is None:
                continue
            span = sent.claim.span
            self._open_parts[span] -= 1
            if not self._open_parts[span]:
                del self._open_parts[span]
                self._delivered(sent.claim)

    def _delivered(self, claim: Claim) -> None:
        figures, now_s = self._desk.figures, wall_s()
        self._desk.outbox.arrived(claim)
        self._desk.outbox.whole_blocks()  # no digests here
        figures.rows_delivered += claim.span.count
        figures.rows_late += claim.span.count if claim.late else 0
        self._acked.append((now_s, claim))
        while self._acked[0][0] < now_s - self._place.resend_s:
            self._acked.popleft()

    def _take(self, message: MQTTMessage) -> None:
        """In `pump`: what is heard waits for its turn."""
        if len(message.payload) <= COMMAND_BYTES_MAX:
            try:
                topic = message.topic
            except UnicodeDecodeError:
                return
            if topic == self._state or not message.retain:  # a command that was kept is nobody's wish now
                self._heard.append((topic, bytes(message.payload), message.retain))

    def _heed(self) -> None:
        """Raises LinkError where the primary host is gone: the session ends, as the specification has it."""
        while self._heard:
            topic, raw, is_kept = self._heard.popleft()
            if topic == self._commands and asks_for_rebirth(raw):
                self._rebirth = True
            elif topic == self._commands:
                if not self._desk.counts["commands_ignored"]:
                    log.warning("telemetry.command.ignored", link=self._link.id, topic=topic)
                self._desk.counts.update(commands_ignored=1)
            elif topic == self._state and (told := host_state(raw)) is not None:
                online, at_ms = told
                is_older = self._host_ms is not None and at_ms < self._host_ms
                if is_older and (self._may_speak or not is_kept):
                    continue  # such as the will of a session that is over, not of a clock put right
                self._host_ms = at_ms
                if self._may_speak and not online:
                    raise LinkError(f"the primary host {self._place.primary_host} has gone offline")
                self._may_speak = online


def wires(
    link: TelemetryLink, place: SparkplugNode, site: Site, folder: Path, directory: Path
) -> Callable[[Desk], SparkplugWire]:
    """What makes a connection of a link, not opened yet.

    Parameters
    ----------
    directory : of the run; keeps the number of the newest connection.
    """
    past = Past(directory / f"sparkplug-{link.id}.json")
    return lambda desk: SparkplugWire(link, place, site, desk, folder, past)
