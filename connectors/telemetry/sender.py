"""One link: a thread that sends what is missing, over one connection after the other, whatever their kind."""

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from connectors.historian.spool import Spool
from connectors.link import LinkError, Refused
from connectors.sqlite_file import StoreError, to_ms
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.outbox import SAVE_S, Outbox
from connectors.telemetry.wire import Desk, Figures, Wire
from ems.clock import wall_s
from ems.records import JsonValue

log = structlog.get_logger()

LOOK_S = 0.5  # between two looks at what is new
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
REFUSED_S = 30.0


class Sender:
    """Sends the rows of a historian until it is closed; nothing waits for it.

    Parameters
    ----------
    link : its name.
    history : the historian's file; read, never written.
    ledger : of the process.
    wire : makes a connection that was not opened yet.
    now : record time.
    """

    def __init__(
        self,
        link: str,
        history: Path,
        ledger: Ledger,
        wire: Callable[[Desk], Wire],
        *,
        now: Callable[[], datetime],
    ) -> None:
        self.link, self._wire = link, wire
        self._closing = threading.Event()
        spool = Spool(history)
        outbox = Outbox(link, spool, ledger)
        self._desk = Desk(link=link, spool=spool, outbox=outbox, now=now, closing=self._closing)
        self._looked_s = self._saved_s = -1e18
        self.bug: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"telemetry {link}", daemon=True)

    @property
    def figures(self) -> Figures:
        """What it has done, and how it is."""
        return self._desk.figures

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
        return {**{name: getattr(f, name) for name in f.__slots__}, **self._desk.counts}

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
            self._desk.outbox.save()
            self._desk.spool.close()

    def _down(self, reason: str) -> None:
        if self.figures.up or reason != self.figures.reason:
            log.warning("telemetry.link.down", link=self.link, reason=reason)
        self.figures.up, self.figures.reason = False, reason
        try:
            self._look()
        except StoreError:
            return  # that is why

    def _connected(self) -> None:
        """One connection, from its beginning to the end of the process. Raises LinkError, StoreError."""
        wire = self._wire(self._desk)
        try:
            self._look()
            self._desk.outbox.start_over()
            wire.open()
            self._look()  # it may have learnt that others receive than before
            self.figures.up, self.figures.reason = True, ""
            self.figures.connects += 1
            log.info("telemetry.link.up", link=self.link, where=wire.where)
            while not self._closing.is_set():
                self._turn(wire)
        finally:
            wire.close()

    def _turn(self, wire: Wire) -> None:
        if wall_s() - self._looked_s >= LOOK_S:
            self._look()
        wire.turn()
        if wall_s() - self._saved_s >= SAVE_S:
            self._saved_s = wall_s()
            self.figures.unsaved = not self._desk.outbox.save()

    def _look(self) -> None:
        """What is new in the historian, and how much is missing. Raises StoreError."""
        self._looked_s = wall_s()
        outbox, wanted = self._desk.outbox, self._desk.wanted
        outbox.look()
        while wanted:
            self.figures.rows_resent += outbox.again(wanted.popleft())
        count, oldest_ms = outbox.missing()
        self.figures.missing_rows, self.figures.missing_spans = count, outbox.gaps()
        late_ms = 0 if oldest_ms is None else to_ms(self._desk.now()) - oldest_ms
        self.figures.missing_s = max(0.0, late_ms / 1000.0)
