"""Where people and services ask the edge for something: files that only the edge reads.

Who asks is the owner of the file as the kernel tells it, whatever the file says; what they may is in the site
file (`control.users`). The folder is the edge's own, writable for one group, with the sticky bit. The edge
opens no listener. Each file is taken away before it is done, and its id is remembered over a restart, so that
nothing is done twice; what lay there before the edge started, or is older than 30 s, is refused. No cycle
waits until an id is on the disk: handed in once more after a crash, such a request names the epoch of the
edge before, by which only what makes things safer is done.
"""

import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from connectors.stores.drop_folder import insecure, owner_name, read_plain
from connectors.stores.failing import Failing, Told
from connectors.stores.kept_file import keep, kept
from connectors.stores.kept_later import KeptLater
from connectors.stores.request_text import ID, request_of
from ems.clock import Clock, SystemClock
from ems.errors import BadValue
from ems.records import JsonValue
from ems.requests import Received

FOLDER_MODE = 0o1730  # members of the group drop, nobody but the edge looks
AGE_S_MAX = 30.0
PER_CYCLE = 32  # more are taken in the next cycle
OWNER_PER_CYCLE = 8  # nobody keeps the others waiting
LISTED_MAX = 512  # names looked at in one cycle
OWNER_WAITING_MAX = 64  # more of one owner's are thrown away unread
REMEMBERED = 1000
STUCK_MAX = 64  # of what cannot be removed; with more the folder itself is set aside
ASIDE_BYTES_MAX = 65536
ASIDE_MAX = 32  # files set aside; the next ones take the place of the oldest
SUFFIX = ".json"
FOLDER, ASIDE, IDS = "requests", "requests-aside", "request-ids.json"
MAKE, EMPTY, NOTE = "make its folder", "take files out of its folder", f"write {IDS}"
NOTE_S_MAX = 1.0  # wall, at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    name: str
    uid: int
    arrived_ns: int  # the kernel's: when it got this name
    is_draft: bool

    @property
    def order(self) -> tuple[int, str]:
        """By arrival."""
        return self.arrived_ns, self.name


class RequestDesk:
    """The edge's side of the folder `requests`.

    Parameters
    ----------
    directory : of the running plant; the folder is made in it.
    clock : the edge's own, by which a request's time to live counts.
    told : told of what is no request, and of what is wrong with the folder, as events.
    name_of : user of an owner's number; None: not known yet, the file is left for the next cycle.
    beside : ids are noted in a thread, so that no cycle waits for the disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        told: Told,
        name_of: Callable[[int], str | None] = owner_name,
        beside: bool = False,
    ) -> None:
        self._folder, self._ids = directory / FOLDER, directory / IDS
        self._aside = directory / ASIDE
        self._clock, self._tell, self._name_of = clock, told, name_of
        self._wall = SystemClock()  # the kernel's stamps are in wall time, whatever time the edge lives in
        self.failing = Failing("requests", told)
        self._known = self._remembered()
        self._notes = KeptLater("request ids", self._note, beside=beside)
        self._stuck: set[str] = set()
        self._wrong: str | None = None  # what is wrong with the folder, told once
        self._set_aside = self._n = 0
        self._make()
        self._throw_away()

    @property
    def wrong(self) -> str | None:
        """Why nothing is taken from the folder; None: it is well kept."""
        return self._wrong

    def collect(self) -> list[Received]:
        """What was handed in since the last call, in the order it came, at most 32. Waits for nobody."""
        self._notes.again()
        self.failing.found(NOTE, self._notes.trouble)
        if len(self._stuck) > STUCK_MAX:
            self._renew()
        if self.failing.on(MAKE):
            self._make()
        with self._opened() as folder:
            if folder is None:
                return []
            found = self._listed(folder)
            if not found and not self._stuck:
                self.failing.done(EMPTY)  # its owner took it back
            taken: Counter[int] = Counter()
            out: list[Received] = []
            for one in found:
                if taken.total() == PER_CYCLE:
                    break
                if one.is_draft or taken[one.uid] == OWNER_PER_CYCLE:
                    continue
                taken[one.uid] += 1
                received = self._take(folder, one)
                if received is not None:
                    out.append(received)
        if out:
            self._remember()
        return out

    def close(self) -> None:
        """Note the last ids, waiting for a second at most."""
        self._notes.close(NOTE_S_MAX)
        self.failing.found(NOTE, self._notes.trouble)

    # ---- the folder ---------------------------------------------------------------------------------

    def _make(self) -> None:
        """What is not there yet; again in each cycle while the disk does not let it."""
        with self.failing.trying(MAKE):
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir()
                self._folder.chmod(FOLDER_MODE)
            self._aside.mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The folder itself, whatever its name leads to a moment later; None: it is not to be trusted."""
        try:
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            self._judge(f"it cannot be opened: {error.strerror}")
            yield None
            return
        try:
            self._judge(insecure(os.fstat(handle)))
            yield handle if self._wrong is None else None
        finally:
            os.close(handle)

    def _judge(self, wrong: str | None) -> None:
        if wrong != self._wrong:
            kind = "request.desk.repaired" if wrong is None else "request.desk.refused"
            self._tell(kind, {"folder": self._folder.name, "why": wrong})
        self._wrong = wrong

    def _listed(self, folder: int) -> list[_Found]:
        """What lies there, by arrival. Of an owner with too many only the first are left."""
        found: list[_Found] = []
        with self.failing.trying("read its folder"), os.scandir(folder) as entries:
            for entry in islice((e for e in entries if e.name not in self._stuck), LISTED_MAX):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    draft = entry.name.startswith(".")
                    found.append(
                        _Found(
                            name=entry.name,
                            uid=status.st_uid,
                            arrived_ns=status.st_ctime_ns,
                            is_draft=draft,
                        )
                    )
        found.sort(key=lambda f: f.order)
        waiting: Counter[int] = Counter()
        left: list[_Found] = []
        for one in found:
            waiting[one.uid] += 1
            if waiting[one.uid] > OWNER_WAITING_MAX or (one.is_draft and self._age_s(one) > AGE_S_MAX):
                self._discard(folder, one.name)
            else:
                left.append(one)
        for uid, count in waiting.items():
            if count > OWNER_WAITING_MAX:
                self._tell("request.desk.flooded", {"user": self._user(uid), "count": count})
        return left

    def _throw_away(self) -> None:
        """At the start: it was meant for the edge before, which never saw it."""
        with self._opened() as folder:
            for one in [] if folder is None else self._listed(folder):
                assert folder is not None
                self._remove(folder, one.name)
                if not one.is_draft:
                    self._refuse(
                        one, "edge_was_down", "handed in before the edge started: look, and ask again"
                    )

    def _renew(self) -> None:
        """A new folder for the same group: what lies in the old one cannot be removed and hides requests."""
        place = self._folder.with_name(f"{FOLDER}-blocked-{self._wall.now():%Y%m%dT%H%M%S%f}")
        try:
            group = self._folder.stat().st_gid
            self._folder.rename(place)
            self._folder.mkdir()
            os.chown(self._folder, -1, group)
            self._folder.chmod(FOLDER_MODE)
        except OSError as error:
            self._tell("request.desk.blocked", {"folder": FOLDER, "why": str(error.strerror)})
            return
        self._stuck.clear()
        self._tell("request.desk.renewed", {"folder": FOLDER, "old": place.name})

    def _discard(self, folder: int, name: str) -> None:
        """Away with it, or never looked at again."""
        if not self._remove(folder, name):
            self._stuck.add(name)

    def _remove(self, folder: int, name: str) -> bool:
        """Whether it is gone."""
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return False  # its owner took it back
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError:
                return False
        except OSError as error:
            self.failing.failed(EMPTY, str(error.strerror))
            return False
        self.failing.done(EMPTY)
        return True

    # ---- one file -----------------------------------------------------------------------------------

    def _take(self, folder: int, one: _Found) -> Received | None:
        try:
            status, text = read_plain(one.name, dir_fd=folder)
            request = request_of(text)
            if one.name != f"{request.id}{SUFFIX}":
                raise BadValue(f"id: found {request.id!r}; allowed: the name of the file")
        except FileNotFoundError:
            return None  # taken back
        except (OSError, BadValue) as error:
            self._put_aside(folder, one, str(error))
            return None
        one = replace(one, uid=status.st_uid, arrived_ns=status.st_ctime_ns)
        user, age_s = self._name_of(one.uid), self._age_s(one)
        if user is None or not self._remove(folder, one.name):
            return None  # asked again in the next cycle, taken back, or it could be read again: not done
        if not -AGE_S_MAX <= age_s <= AGE_S_MAX:
            text = f"handed in {age_s:.0f} s ago by this machine's clock; allowed: {AGE_S_MAX:.0f} s"
            self._refuse(one, "too_old", text)
            return None
        if (user, request.id) in self._known:
            self._refuse(one, "asked_before", "this was asked before, and is done once")
            return None
        self._n += 1
        self._known[(user, request.id)] = self._n
        return Received(user=user, n=self._n, seen_s=self._clock.monotonic_s(), request=request)

    def _refuse(self, one: _Found, code: str, text: str) -> None:
        self._tell(
            "authority.request.refused",
            {"user": self._user(one.uid), "request_id": stem(one.name), "code": code, "text": text},
        )

    def _user(self, uid: int) -> str:
        """For records: the user, or the number where nobody knows the user yet."""
        name = self._name_of(uid)
        return f"uid {uid}" if name is None else name

    def _put_aside(self, folder: int, one: _Found, why: str) -> None:
        """For whoever looks into it later; it is not tried again."""
        user, name = self._user(one.uid), printable(one.name)
        fields: dict[str, JsonValue] = {"file": name, "request_id": stem(one.name), "user": user, "why": why}
        place = self._aside / f"{self._set_aside % ASIDE_MAX:02}"
        try:
            status = os.stat(one.name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_size > ASIDE_BYTES_MAX:
                raise OSError("not worth keeping")
            os.rename(one.name, place, src_dir_fd=folder)
            self._set_aside += 1
        except OSError:
            self._discard(folder, one.name)
        self._tell("request.file.refused", fields)

    def _age_s(self, one: _Found) -> float:
        return self._wall.now().timestamp() - one.arrived_ns / 1e9

    # ---- what was asked before ----------------------------------------------------------------------

    def _remembered(self) -> dict[tuple[str, str], int]:
        try:
            body = kept(self._ids)
        except BadValue as error:
            self._tell("request.desk.forgot", {"file": IDS, "why": str(error)})
            return {}
        asked = [] if body is None else body.get("asked")
        pairs = asked if isinstance(asked, list) else []
        return {(str(p[0]), str(p[1])): 0 for p in pairs if isinstance(p, list) and len(p) == 2}

    def _remember(self) -> None:
        """Before anything is done, which waits for no disk."""
        newest = list(self._known)[-REMEMBERED:]
        self._known = {k: self._known[k] for k in newest}
        self._notes.put(newest)
        self.failing.found(NOTE, self._notes.trouble)

    def _note(self, asked: list[tuple[str, str]]) -> None:
        keep(self._ids, {"asked": [list(k) for k in asked]})


def stood_before(directory: Path) -> bool:
    """Whether a desk has stood in this folder: its traces are the edge's own, and nobody else makes them."""
    try:
        return any(os.path.lexists(directory / name) for name in (ASIDE, IDS))
    except OSError:
        return True


def stem(name: str) -> str | None:
    """The id of a request by the name of its file."""
    found = name.removesuffix(SUFFIX)
    return found if re.fullmatch(ID, found) else None


def printable(name: str) -> str:
    """A file's name as it may be shown: whatever its letters are."""
    return name.encode("ascii", "backslashreplace").decode()[:100]
