"""The bytes on the wire of a device, in a file, for as long as somebody asks for them.

A request is a small file beside the log. Whoever owns the wires looks for requests every second in a thread
of its own; what a device sends and is sent is put on a queue that drops what a slow disk does not take, so
that no cycle ever waits. The log is what `text2pcap -D -t ISO` reads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue
from ems.records import JsonValue

log = structlog.get_logger()

FOLDER = "wire"
ASKED, STATUS = ".asked.json", "connections.json"
LOOK_S = 1.0
HELD = 20_000  # entries of all connections that wait for the disk
BYTES_MAX = 16_000_000  # of one file; the one before it is kept
ROW = 16
SENT, RECEIVED, NOTED = "O", "I", "#"


class _Entry(NamedTuple):
    name: str
    what: str
    at: datetime
    data: bytes
    text: str


class Tap:
    """Where the wire of one connection tells its bytes; nothing is done with them while nobody asks."""

    __slots__ = ("_name", "_put", "on")

    def __init__(self, name: str = "", put: Callable[[str, str, bytes, str], None] | None = None) -> None:
        self._name, self._put = name, put
        self.on = False

    def sent(self, data: bytes) -> None:
        """Bytes to the device."""
        if self.on and self._put is not None:
            self._put(self._name, SENT, data, "")

    def received(self, data: bytes) -> None:
        """Bytes from the device."""
        if self.on and self._put is not None:
            self._put(self._name, RECEIVED, data, "")

    def noted(self, text: str) -> None:
        """What happened to the connection."""
        if self.on and self._put is not None:
            self._put(self._name, NOTED, b"", text)


QUIET = Tap()
TapOf = Callable[[str], Tap]


def quiet(_: str) -> Tap:
    """For wires that nobody can ask for."""
    return QUIET


class WireLog:
    """Looks for requests and writes what they ask for.

    Parameters
    ----------
    folder : of requests and logs; made when it is missing.
    names : of the connections that can be asked for.
    now : aware time.
    """

    def __init__(self, folder: Path, names: Iterable[str], *, now: Callable[[], datetime]) -> None:
        self._folder, self._now = folder, now
        self._taps = {name: Tap(name, self._put) for name in names}
        self._queue: deque[_Entry] = deque(maxlen=HELD)
        self._lost = 0
        self._failing = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire log", daemon=True)

    def tap(self, name: str) -> Tap:
        """The tap of a connection."""
        return self._taps.get(name, QUIET)

    def start(self) -> None:
        """Say which connections there are, and begin to look."""
        self._try(self._begin)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and look no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2.0 * LOOK_S)

    def look(self) -> None:
        """Once: which connections are asked for, and what has come of them."""
        now = self._now()
        for name, tap in self._taps.items():
            until = asked_until(self._folder, name)
            if until is not None and until <= now:
                tap.noted("the time asked for is over")
                (self._folder / f"{name}{ASKED}").unlink(missing_ok=True)
                until = None
            tap.on = until is not None
        entries: dict[str, list[_Entry]] = {}
        for entry in [self._queue.popleft() for _ in range(len(self._queue))]:  # it grows meanwhile
            entries.setdefault(entry.name, []).append(entry)
        for name, some in entries.items():
            self._write(name, some)

    def _begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep(self._folder / STATUS, {"names": sorted(self._taps)})

    def _put(self, name: str, what: str, data: bytes, text: str) -> None:
        if len(self._queue) == HELD:
            self._lost += 1
        self._queue.append(_Entry(name, what, self._now(), data, text))

    def _write(self, name: str, entries: Iterable[_Entry]) -> None:
        file = self._folder / f"{name}.log"
        if file.exists() and file.stat().st_size > BYTES_MAX:
            file.replace(self._folder / f"{name}.before.log")
        lost, self._lost = self._lost, 0
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "a", encoding="ascii", errors="replace") as stream:
            if lost:
                stream.write(f"# {lost} entries of all connections were lost: the disk was too slow\n")
            stream.writelines(lines_of(entry.what, entry.at, entry.data, entry.text) for entry in entries)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            self._try(self.look)
        self._try(self.look)

    def _try(self, work: Callable[[], None]) -> None:
        """A fault is logged once when it comes and once when it goes; nothing is queued meanwhile."""
        try:
            work()
        except (OSError, BadValue) as error:
            for tap in self._taps.values():
                tap.on = False
            if not self._failing:
                log.error("wire.log.failing", why=str(error))
            self._failing = str(error)
        else:
            if self._failing:
                log.info("wire.log.recovered")
            self._failing = ""


def lines_of(what: str, at: datetime, data: bytes, text: str) -> str:
    """One entry of the log: direction and time, and rows of an offset and bytes."""
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if what == NOTED:
        return f"# {stamp} {text}\n"
    rows = [f"{i:06x} {data[i : i + ROW].hex(' ')}" for i in range(0, len(data), ROW)]
    return f"{what} {stamp}\n" + "".join(f"{row}\n" for row in rows)


def asked_until(folder: Path, name: str) -> datetime | None:
    """Until when a connection is asked for; None: nobody asks.

    Raises
    ------
    BadValue : the request is not what `ask` writes.
    """
    body = kept(folder / f"{name}{ASKED}")
    if body is None:
        return None
    match body:
        case {"until": float(at_s) | int(at_s)}:
            return datetime.fromtimestamp(at_s, UTC)
        case _:
            raise BadValue(f"{name}{ASKED}: found {dict(body)}; allowed: until [s since 1970 UTC]")


def ask(folder: Path, name: str, until: datetime) -> None:
    """Ask for the bytes of a connection until a time. Raises OSError."""
    keep(folder / f"{name}{ASKED}", {"until": until.timestamp()})


def ask_no_more(folder: Path, name: str) -> None:
    """Withdraw a request, if there is one. Raises OSError."""
    (folder / f"{name}{ASKED}").unlink(missing_ok=True)


def connections(folder: Path) -> tuple[str, ...] | None:
    """Names that can be asked for; None: no edge has ever run here. Raises BadValue."""
    body: Mapping[str, JsonValue] | None = kept(folder / STATUS)
    if body is None:
        return None
    names = body.get("names")
    return tuple(str(n) for n in names) if isinstance(names, list) else ()
