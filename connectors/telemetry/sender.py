"""One link: a thread that sends what is missing, and counts nothing as delivered that was not acknowledged.

Topics, below that of the link: `live` and `late` (records), `digest` (count and hash of a block of records
that was delivered), `status` (online or offline), and `resend`, where whoever receives asks for rows again.
"""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog
from paho.mqtt.client import MQTTMessage

from connectors.historian.spool import Span, Spool
from connectors.link import LinkError, Refused
from connectors.mqtt.payload import Malformed, parsed
from connectors.mqtt.session import Session, located
from connectors.sqlite_file import StoreError, to_ms
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.outbox import SAVE_S, Outbox, Page
from ems.clock import wall_s
from ems.records import JsonValue
from ems.site import TelemetryLink

log = structlog.get_logger()

WINDOW = 8  # messages that may be on their way
LOOK_S = 0.5  # between two looks at what is new
IDLE_S, BUSY_S = 0.2, 0.02
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
REFUSED_S = 30.0
RESEND_BYTES_MAX = 1000


@dataclass(slots=True)
class Figures:
    """What one link has done, and how it is."""

    up: bool = False
    reason: str = "not connected yet"
    connects: int = 0
    messages: int = 0
    bytes_sent: int = 0
    rows_delivered: int = 0
    rows_late: int = 0
    rows_resent: int = 0
    refused: int = 0
    missing_rows: int = 0
    missing_spans: int = 0
    missing_s: float = 0.0  # age of the oldest row that is missing
    unsaved: bool = False  # the ledger's disk does not take what was delivered


@dataclass(slots=True)
class _Way:
    """What is on its way on one connection."""

    pages: dict[int, Page] = field(default_factory=dict)  # by message
    heard_s: float = 0.0  # when something was acknowledged, or was sent with nothing on its way
    open_parts: dict[Span, int] = field(default_factory=dict)  # messages of a span not acknowledged
    waiting: deque[Page] = field(default_factory=deque)  # messages of a span that is being sent
    acks: list[tuple[int, str]] = field(default_factory=list)


class Sender:
    """Sends the rows of a historian to one broker until it is closed; nothing waits for it.

    Parameters
    ----------
    history : the historian's file; read, never written.
    ledger : of the process.
    folder : that files named in the site file are relative to.
    now : record time.
    """

    def __init__(
        self,
        link: TelemetryLink,
        history: Path,
        ledger: Ledger,
        *,
        folder: Path,
        now: Callable[[], datetime],
    ) -> None:
        self.link = link
        self._broker = located(link.broker, folder)
        self._spool = Spool(history)
        self._outbox = Outbox(link.id, self._spool, ledger, bytes_max=link.message_bytes_max)
        self._now = now
        self.figures = Figures()
        self._closing = threading.Event()
        self._room, self._room_s = 0.0, wall_s()  # bytes that late rows may use now
        self._looked_s = self._saved_s = -1e18
        self._wanted: deque[Span] = deque(maxlen=1000)  # rows asked for again
        self.bug: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"telemetry {link.id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End, with what was acknowledged in the ledger [s wall]."""
        self._closing.set()
        self._thread.join(timeout_s)

    def row(self) -> dict[str, JsonValue]:
        """Figures for the status row."""
        f = self.figures
        return {name: getattr(f, name) for name in f.__slots__}

    def _run(self) -> None:
        failures = 0
        try:
            while not self._closing.is_set():
                connects = self.figures.connects
                try:
                    self._connected()
                    return
                except (LinkError, StoreError) as error:
                    failures = 0 if self.figures.connects > connects else failures + 1
                    pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
                    self._down(str(error))
                    self._closing.wait(max(pause_s, REFUSED_S if isinstance(error, Refused) else 0.0))
        except BaseException as error:  # told by the process, which ends and is started again
            self.bug = error
            raise
        finally:
            self._outbox.save()
            self._spool.close()

    def _down(self, reason: str) -> None:
        if self.figures.up or reason != self.figures.reason:
            log.warning("telemetry.link.down", link=self.link.id, reason=reason)
        self.figures.up, self.figures.reason = False, reason
        try:
            self._look()
        except StoreError:
            return  # that is why

    def _connected(self) -> None:
        """One connection, from its beginning to the end of the process. Raises LinkError, StoreError."""
        way = _Way()
        session = Session(
            self._broker,
            self.link.host,
            self.link.port,
            timeout_s=self.link.timeout_s,
            now=self._now,
            on_message=self._asked,
            on_ack=lambda mid, why: way.acks.append((mid, why)),
        )
        try:
            session.open()
            try:
                session.subscribe([f"{self.link.topic}/resend"])
            except Refused as error:  # records go out all the same
                log.warning("telemetry.resend.refused", link=self.link.id, reason=str(error))
            self.figures.up, self.figures.reason = True, ""
            self.figures.connects += 1
            log.info("telemetry.link.up", link=self.link.id, broker=session.where)
            self._outbox.start_over()
            while not self._closing.is_set():
                self._turn(session, way)
        finally:
            session.close()

    def _turn(self, session: Session, way: _Way) -> None:
        if wall_s() - self._looked_s >= LOOK_S:
            self._look()
        while len(way.pages) < WINDOW and (page := self._next(way)) is not None:
            payload = page.payload
            lane = "late" if page.late else "live"
            mid = session.publish(f"{self.link.topic}/{lane}", payload)
            way.heard_s = way.heard_s if way.pages else wall_s()
            way.pages[mid] = page
            self._outbox.sent(page)
            self.figures.messages += 1
            self.figures.bytes_sent += len(payload)
            if page.late:
                self._room -= len(payload)
        session.pump(BUSY_S if way.pages else IDLE_S)
        self._acknowledged(session, way)
        if way.pages and wall_s() - way.heard_s > self.link.timeout_s:
            raise LinkError(f"{session.where} acknowledges nothing within {self.link.timeout_s:g} s")
        if wall_s() - self._saved_s >= SAVE_S:
            self._saved_s = wall_s()
            self.figures.unsaved = not self._outbox.save()

    def _next(self, way: _Way) -> Page | None:
        """The message that is sent next; None: nothing, or late rows have used what they may."""
        if not way.waiting:
            pages = self._outbox.live()
            if not pages and self._may_be_late():
                pages = self._outbox.late()
            if not pages:
                return None
            way.open_parts[pages[0].span] = len(pages)
            way.waiting.extend(pages)
        return way.waiting.popleft()

    def _may_be_late(self) -> bool:
        rate = self.link.backfill_bytes_per_s
        if rate is None:
            return True
        now_s = wall_s()
        self._room = min(rate, self._room + rate * (now_s - self._room_s))
        self._room_s = now_s
        return self._room > 0.0

    def _acknowledged(self, session: Session, way: _Way) -> None:
        acks, way.acks = way.acks, []
        for mid, why in acks:
            if mid not in way.pages:
                continue  # a digest
            page, way.heard_s = way.pages.pop(mid), wall_s()
            if why:
                self.figures.refused += 1
                raise Refused(f"{session.where} does not take records under {self.link.topic}: {why}")
            way.open_parts[page.span] -= 1
            if way.open_parts[page.span]:
                continue
            del way.open_parts[page.span]
            self._outbox.arrived(page)
            self.figures.rows_delivered += page.span.count
            self.figures.rows_late += page.span.count if page.late else 0
        for block in self._outbox.whole_blocks():
            session.publish(f"{self.link.topic}/digest", self._digest(block))

    def _digest(self, block: Span) -> bytes:
        """Count and hash of the records of a block, as they are sent."""
        lines = [x for r in self._spool.records(block) for x in r.lines(self.link.message_bytes_max)]
        told = {
            "v": 1,
            "store": self._outbox.store,
            "boot": block.boot,
            "opened_ms": self._outbox.opened_ms(block.boot),
            "first": block.first,
            "last": block.last,
            "lines": len(lines),
            "sha256": hashlib.sha256("".join(f"{x}\n" for x in lines).encode()).hexdigest(),
        }
        return json.dumps(told, separators=(",", ":")).encode()

    def _asked(self, message: MQTTMessage) -> None:
        """Whoever receives asks for rows again; what is not exactly that is ignored."""
        if len(message.payload) > RESEND_BYTES_MAX or message.retain:
            return
        try:
            told = parsed(bytes(message.payload))
        except Malformed:
            return
        if not isinstance(told, dict) or told.get("store") != self._outbox.store:
            return
        numbers = [n for k in ("boot", "first", "last") if type(n := told.get(k)) is int and 0 < n < 2**62]
        if len(numbers) == 3 and numbers[1] <= numbers[2]:
            self._wanted.append(Span(boot=numbers[0], first=numbers[1], last=numbers[2]))

    def _look(self) -> None:
        """What is new in the historian, and how much is missing. Raises StoreError."""
        self._looked_s = wall_s()
        self._outbox.look()
        while self._wanted:
            self.figures.rows_resent += self._outbox.again(self._wanted.popleft())
        count, oldest_ms = self._outbox.missing()
        self.figures.missing_rows, self.figures.missing_spans = count, self._outbox.gaps()
        late_ms = 0 if oldest_ms is None else to_ms(self._now()) - oldest_ms
        self.figures.missing_s = max(0.0, late_ms / 1000.0)
