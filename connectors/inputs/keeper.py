"""Looks at every source in its own time and keeps what comes; one that hangs holds up no other."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from connectors.inputs.convert import Doubts, read_version
from connectors.inputs.decode import words
from connectors.inputs.folder import DropFolder, FolderError, printable
from connectors.inputs.store import InputStore
from connectors.inputs.web import FetchError, Web
from connectors.sqlite_file import StoreError
from ems.errors import ConfigError, EmsError, Problem
from ems.input_rules import SeriesRule, series_rules
from ems.inputs import InputLook, InputParams
from ems.site import Site

log = structlog.get_logger()

RETRY_S_MIN = 30.0  # after a failure; twice as long after each further one, up to `every_s`
LOOKS_APART_S = 3600.0  # a source that fails all the time is told so often


@dataclass(slots=True, kw_only=True)
class Feed:
    """One input: looks at its source, stores what it tells."""

    params: InputParams
    rules: dict[str, SeriesRule]
    store: InputStore
    now: Callable[[], datetime]
    source: DropFolder | Web
    doubts: Doubts
    failures: int = 0
    _told: tuple[str, datetime] | None = None
    _retry_s: float = 0.0
    _fine: bool = False  # the last look did not fail

    def look(self) -> list[InputLook]:
        """Look once; what became of it.

        Raises
        ------
        StoreError : what came cannot be kept now. Nothing of it is lost: a file stays where it is.
        """
        looks: list[InputLook] = []
        try:
            if isinstance(self.source, DropFolder):
                self._folder(self.source, looks)
            else:
                self._web(self.source, looks)
        except (FolderError, FetchError) as error:
            retry_s = error.retry_s if isinstance(error, FetchError) else None
            return [*looks, self._failed(str(error), retry_s)]
        except StoreError:
            raise
        except Exception as error:  # a fault of ours: this source fails with it, and no other does
            log.exception("input.fault", input=self.params.id)
            return [*looks, self._failed(f"{type(error).__name__}: a fault of the EMS; see inputs.log")]
        self.failures, self._retry_s, self._told = 0, 0.0, None
        if not looks and not self._fine and self.store.failing(self.params.id):
            self.store.tell(InputLook(input=self.params.id, at=self.now(), outcome="nothing"))
        self._fine = True
        return looks

    def first_wait_s(self) -> float:
        """How long until the first look [s]: a process that is started anew asks nobody twice.

        Raises
        ------
        StoreError : nobody knows when it was asked last.
        """
        before = self.store.looked_at(self.params.id) if isinstance(self.source, Web) else None
        if before is None:
            return 0.0
        gone_s = (self.now() - before).total_seconds()
        return min(self.params.every_s, max(0.0, self.params.every_s - gone_s))

    def wait_s(self) -> float:
        """How long until the next look [s]: after failures sooner than usual, and later each time."""
        if not self.failures:
            return self.params.every_s
        back_off_s = min(self.params.every_s, RETRY_S_MIN * 2.0 ** min(self.failures - 1, 20))
        return max(back_off_s, self._retry_s)

    def _folder(self, folder: DropFolder, looks: list[InputLook]) -> None:
        """Each file; one that cannot be taken now holds up no other. Raises FolderError of the first such."""
        stuck: FolderError | None = None
        for name, mark in folder.ready():
            at, shown = self.now(), printable(name)
            try:
                why = folder.take(name, mark, self._keeper(shown, at, looks), at)
            except FolderError as error:
                stuck = stuck or error
                continue
            if why:
                looks.append(self._refused(why, shown, at))
        if stuck is not None:
            raise stuck

    def _keeper(self, name: str, at: datetime, looks: list[InputLook]) -> Callable[[bytes], None]:
        return lambda raw: looks.append(self._keep(raw, name, at))

    def _web(self, web: Web, looks: list[InputLook]) -> None:
        answer = web.ask()
        at, name = self.now(), _without_query(self.params.url or "")
        if answer.body is None:
            look = InputLook(input=self.params.id, at=at, outcome="same", file=name, detail="not modified")
            self.store.tell(look)
            looks.append(look)
            return
        try:
            looks.append(self._keep(answer.body, name, at))
        except ConfigError as error:
            looks.append(self._refused(str(error), name, at))
            return
        web.believed(answer)

    def _keep(self, raw: bytes, name: str, at: datetime) -> InputLook:
        try:
            version = read_version(raw, name, self.params, self.rules, at, self.doubts)
        except (EmsError, MemoryError):
            raise
        except Exception as error:  # a fault of ours: it is put aside like any that cannot be read
            log.exception("input.fault", input=self.params.id, file=name)
            found = words(f"what the EMS stumbles over ({type(error).__name__}; see inputs.log)")
            told = Problem(file=name, line=None, key="file", found=found, allowed="what it can read")
            raise ConfigError([told]) from None
        return self.store.take(version, raw)

    def _refused(self, why: str, name: str, at: datetime) -> InputLook:
        look = InputLook(input=self.params.id, at=at, outcome="refused", detail=why, file=name)
        self.store.tell(look)
        return look

    def _failed(self, why: str, retry_s: float | None = None) -> InputLook:
        """Kept once for each reason, and then once an hour."""
        self.failures, self._fine = self.failures + 1, False
        self._retry_s = 0.0 if retry_s is None else retry_s
        at = self.now()
        look = InputLook(input=self.params.id, at=at, outcome="failed", detail=why)
        told = self._told
        if told is None or told[0] != why or (at - told[1]).total_seconds() >= LOOKS_APART_S:
            self.store.tell(look)
            self._told = (why, at)
        return look


def _without_query(url: str) -> str:
    """A query may hold a key."""
    return url.partition("?")[0]


def feeds_of(
    site: Site,
    store: InputStore,
    folder: Path,
    now: Callable[[], datetime],
    doubts: Callable[[InputParams], Doubts],
) -> list[Feed]:
    """The inputs of a site; files are relative to `folder`."""
    return [
        Feed(
            params=p,
            rules=series_rules(site, p),
            store=store,
            now=now,
            doubts=doubts(p),
            source=Web(p, folder)
            if p.folder is None
            else DropFolder(path=folder / p.folder, suffix=f".{p.provider.body}", bytes_max=p.bytes_max),
        )
        for p in site.inputs
    ]


@dataclass(slots=True, kw_only=True)
class Keeper:
    """A thread for each feed. `trouble` says by input why what came cannot be kept."""

    feeds: list[Feed]
    trouble: dict[str, str] = field(default_factory=dict)
    bug: BaseException | None = None
    _said: set[tuple[str, str]] = field(default_factory=set)
    _closing: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to look."""
        for feed in self.feeds:
            thread = threading.Thread(
                target=self._run, args=(feed,), name=f"input {feed.params.id}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _run(self, feed: Feed) -> None:
        wait_s, asked = 0.0, False
        while not self._closing.wait(wait_s):
            try:
                if not asked:
                    wait_s, asked = feed.first_wait_s(), True
                    continue
                self._told(feed.look())
                self.trouble.pop(feed.params.id, None)
                wait_s = feed.wait_s()
            except StoreError as error:  # the disk may be there again
                self.trouble[feed.params.id] = str(error)
                wait_s = RETRY_S_MIN
            except BaseException as error:
                self.bug = error  # the process ends with it, and is started anew
                raise

    def _told(self, looks: list[InputLook]) -> None:
        for look in looks:
            if look.outcome == "same" or (look.input, look.detail) in self._said:
                continue
            tell = log.info if look.version is not None else log.warning
            tell(
                f"input.{look.outcome}",
                input=look.input,
                file=look.file,
                version=look.version,
                why=look.detail,
            )
            self._said = {s for s in self._said if s[0] != look.input} | {
                (look.input, look.detail or look.file)
            }

    def close(self, patience_s: float) -> None:
        """Look no more, and wait for those who are looking."""
        self._closing.set()
        for thread in self._threads:
            thread.join(patience_s)
