"""Records to a broker: nothing counts as delivered that was not acknowledged.

Topics, below that of the link: `live` and `late` (records), `digest` (count and hash of a block of records
that was delivered), `status` (online or offline), and `resend`, where whoever receives asks for rows again.
"""

from collections import deque
from pathlib import Path

import structlog
from paho.mqtt.client import MQTTMessage

from connectors.historian.spool import Span
from connectors.json_document import Malformed, parsed
from connectors.link import LinkError, Refused
from connectors.mqtt.session import Session, located
from connectors.telemetry.messages import Messages, Page
from connectors.telemetry.wire import Allowance, Desk
from ems.clock import wall_s
from ems.site import TelemetryLink

log = structlog.get_logger()

WINDOW = 8  # messages that may be on their way
IDLE_S, BUSY_S = 0.2, 0.02
RESEND_BYTES_MAX = 1000


class MqttWire:
    """One connection to a broker.

    Parameters
    ----------
    folder : that files named in the site file are relative to.
    """

    def __init__(self, link: TelemetryLink, desk: Desk, folder: Path) -> None:
        self._link, self._desk = link, desk
        self._messages = Messages(desk.spool, link.message_bytes_max)
        self._allowance = Allowance(link.backfill_bytes_per_s)
        self._pages: dict[int, Page] = {}  # on their way, by message
        self._heard_s = 0.0  # when something was acknowledged, or was sent with nothing on its way
        self._open_parts: dict[Span, int] = {}  # messages of a span not acknowledged
        self._waiting: deque[Page] = deque()  # messages of a span that is being sent
        self._acks: list[tuple[int, str]] = []
        self._session = Session(
            located(link.broker, folder),
            link.host,
            link.port,
            timeout_s=link.timeout_s,
            now=desk.now,
            on_message=self._asked,
            on_ack=lambda mid, why: self._acks.append((mid, why)),
        )

    @property
    def where(self) -> str:
        """The broker."""
        return self._session.where

    def open(self) -> None:
        """Connect, and hear what is asked for again. Raises LinkError."""
        self._session.open()
        try:
            self._session.subscribe([f"{self._link.topic}/resend"])
        except Refused as error:  # records go out all the same
            log.warning("telemetry.resend.refused", link=self._link.id, reason=str(error))

    def turn(self) -> None:
        """Publish as much as may be on its way. Raises LinkError, StoreError."""
        while len(self._pages) < WINDOW and (page := self._next()) is not None:
            payload = page.payload
            lane = "late" if page.claim.late else "live"
            mid = self._session.publish(f"{self._link.topic}/{lane}", payload)
            self._heard_s = self._heard_s if self._pages else wall_s()
            self._pages[mid] = page
            self._desk.outbox.sent(page.claim)
            self._desk.counts.update(messages=1, bytes_sent=len(payload))
            if page.claim.late:
                self._allowance.use(len(payload))
        self._session.pump(BUSY_S if self._pages else IDLE_S)
        self._acknowledged()
        if self._pages and wall_s() - self._heard_s > self._link.timeout_s:
            raise LinkError(f"{self.where} acknowledges nothing within {self._link.timeout_s:g} s")

    def close(self) -> None:
        """Say goodbye."""
        self._session.close()

    def _next(self) -> Page | None:
        """The message that is sent next; None: nothing, or late rows have used what they may."""
        if not self._waiting:
            outbox, rows = self._desk.outbox, self._messages.rows_max
            claim = outbox.live(rows)
            if claim is None and self._allowance.is_left:
                claim = outbox.late(rows)
            if claim is None:
                return None
            pages = self._messages.pages(claim)
            self._open_parts[pages[0].claim.span] = len(pages)
            self._waiting.extend(pages)
        return self._waiting.popleft()

    def _acknowledged(self) -> None:
        acks, self._acks = self._acks, []
        figures = self._desk.figures
        for mid, why in acks:
            if mid not in self._pages:
                continue  # a digest
            page, self._heard_s = self._pages.pop(mid), wall_s()
            span = page.claim.span
            if why:
                figures.refused += 1
                raise Refused(f"{self.where} does not take records under {self._link.topic}: {why}")
            self._open_parts[span] -= 1
            if self._open_parts[span]:
                continue
            del self._open_parts[span]
            self._desk.outbox.arrived(page.claim)
            figures.rows_delivered += span.count
            figures.rows_late += span.count if page.claim.late else 0
        for block in self._desk.outbox.whole_blocks():
            told = self._messages.digest(self._desk.outbox.claim_of(block))
            self._session.publish(f"{self._link.topic}/digest", told)

    def _asked(self, message: MQTTMessage) -> None:
        """Whoever receives asks for rows again; what is not exactly that is ignored."""
        if len(message.payload) > RESEND_BYTES_MAX or message.retain:
            return
        try:
            told = parsed(bytes(message.payload))
        except Malformed:
            return
        if not isinstance(told, dict) or told.get("store") != self._desk.outbox.store:
            return
        numbers = [n for k in ("boot", "first", "last") if type(n := told.get(k)) is int and 0 < n < 2**62]
        if len(numbers) == 3 and numbers[1] <= numbers[2]:
            self._desk.wanted.append(Span(boot=numbers[0], first=numbers[1], last=numbers[2]))
