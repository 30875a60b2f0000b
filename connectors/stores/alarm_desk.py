"""Where people hand in what they do to alarms, and letting go of the plant: files that only the edge reads.

Who may hand something in is the permission of the folder, and who did is the owner of the file, as the
kernel knows it: `operators` and `engineers` are folders with the sticky bit, writable for their group and
readable for the edge alone. The edge opens no listener for it. Every file is taken once and removed. Whoever
hands in very many costs no cycle and keeps nobody waiting: few are looked at, and owners take turns.
"""

import contextlib
import os
import stat
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from connectors.json_codec import dumps, loads
from connectors.stores.drop_folder import drop_file, owner_name, read_plain
from connectors.stores.failing import Failing, Told
from connectors.stores.kept_file import put_whole
from connectors.stores.kept_later import KeptLater
from ems.alarms import AlarmAction, AlarmRequest
from ems.clock import SystemClock
from ems.errors import BadValue, EmsError
from ems.release import ReleaseRequest, ReleaseWish

ROLES = {"operators": "operator", "engineers": "engineer"}
FOLDER_MODE = 0o1730  # members of the group drop, nobody but the edge looks
PER_CYCLE = 32  # more are taken in the next cycle
LISTED_MAX = 512  # names looked at in one folder in one cycle
OWNER_WAITING_MAX = 128  # of those; more of one owner's are thrown away unread
DRAFT_S = 30.0  # what is no request for so long is thrown away
REMEMBERED = 4096
SUFFIX = ".json"
OF_RELEASE = ".release.json"
RELEASED = "released.json"  # the wish that stands; the edge's own file
KEEP, MAKE = "keep for a restart who let go", "make its folders"
KEEP_S_MAX = 1.0  # wall, at the end


class DeskError(EmsError):
    """Something cannot be handed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    file: Path
    turn: int  # how many of its owner came before it
    arrived_ns: int  # the kernel's: when it got this name


class AlarmDesk:
    """The edge's side. What lay there before the edge started is thrown away: it was meant for another one.

    Parameters
    ----------
    folder : made if it is not there, with a folder for each role.
    told : told of files that are not requests, and of what fails at the disk, as events.
    name_of : user of an owner's number; None: not known yet, the file is left for the next cycle.
    beside : who let go is kept by a thread, so that no cycle waits for the disk.
    """

    def __init__(
        self,
        folder: Path,
        told: Told,
        *,
        name_of: Callable[[int], str | None] = owner_name,
        beside: bool = False,
    ) -> None:
        self._folder = folder
        self._folders = {folder / name: role for name, role in ROLES.items()}
        self._told, self._name_of = told, name_of
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._stuck: set[Path] = set()  # taken, or not ours to take, and still there
        self.failing = Failing("alarm-desk", told)
        self._standing = folder / RELEASED
        self.release = self._wish()  # outlives a restart
        self._wishes = KeptLater("letting go", self._keep, beside=beside)
        self._make()
        for each in self._folders:
            for name in self._names(each):
                self._remove(each / name)

    def collect(self) -> list[AlarmAction]:
        """What was handed in since the last call, oldest first, at most 32. Never waits for anybody."""
        self._wishes.again()
        self.failing.found(KEEP, self._wishes.trouble)
        if self.failing.on(MAKE):
            self._make()
        for file in tuple(self._stuck)[:LISTED_MAX]:
            self._remove(file)
        found = [one for f in self._folders for one in self._listed(f)]
        taken = sorted(found, key=lambda one: (one.turn, one.arrived_ns, one.file.name))[:PER_CYCLE]
        actions = (self._take(one.file, self._folders[one.file.parent]) for one in taken)
        return [a for a in actions if a is not None]

    def close(self) -> None:
        """Keep the last wish, waiting for a second at most."""
        self._wishes.close(KEEP_S_MAX)
        self.failing.found(KEEP, self._wishes.trouble)

    def _take(self, file: Path, role: str) -> AlarmAction | None:
        request: AlarmRequest | ReleaseRequest
        try:
            status, text = read_plain(file)
            of_release = file.name.endswith(OF_RELEASE)
            request = loads(ReleaseRequest, text) if of_release else loads(AlarmRequest, text)
        except (OSError, BadValue) as error:
            self._told("alarm.request.unreadable", {"file": file.name, "role": role, "why": str(error)})
            self._remove(file)
            return None
        who = self._name_of(status.st_uid)
        if who is None:
            return None
        self._remove(file)
        if request.id in self._seen:
            return None  # handed in twice, done once
        self._seen.append(request.id)
        if isinstance(request, ReleaseRequest):
            self._let_go(request, who, role)
            return None
        return AlarmAction(
            act=request.act,
            key=request.key,
            who=who,
            role=role,
            why=request.why,
            for_s=request.for_s,
            request=request.id,
        )

    def _let_go(self, request: ReleaseRequest, who: str, role: str) -> None:
        """Done at once, also where it cannot be kept for a restart: that is told, and tried in each cycle."""
        if role != "engineer":
            self._told("edge.release.refused", {"who": who, "against": ["an engineer may"]})
            return
        self.release = ReleaseWish(who=who, why=request.why) if request.let_go else None
        self._wishes.put(self.release)
        self.failing.found(KEEP, self._wishes.trouble)

    def _keep(self, wish: ReleaseWish | None) -> None:
        """Keep the wish, or that there is none, where a restart finds it."""
        if wish is None:
            self._standing.unlink(missing_ok=True)
        else:
            put_whole(self._standing, dumps(wish).encode())

    def _wish(self) -> ReleaseWish | None:
        """What a person wanted before the restart. Not readable: somebody may be at work on the devices."""
        try:
            return loads(ReleaseWish, self._standing.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, BadValue, UnicodeDecodeError) as error:
            self._told("edge.release.unreadable", {"file": RELEASED, "why": str(error)})
            return ReleaseWish(who="unknown", why=f"{RELEASED} cannot be read: {error}")

    def _make(self) -> None:
        """The folders, where they are not there."""
        with self.failing.trying(MAKE):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o711)
            for each in self._folders:
                if not each.exists():
                    each.mkdir()
                    each.chmod(FOLDER_MODE)

    def _names(self, folder: Path) -> list[str]:
        names: list[str] = []
        with self.failing.trying(f"read {folder.name}"), os.scandir(folder) as entries:
            names = [e.name for e in entries if _is_request(e)]
        return names

    def _listed(self, folder: Path) -> list["_Found"]:
        """What lies there, of each owner by arrival; all but the first of an owner with too many are gone."""
        found: list[tuple[int, str, int]] = []
        with self.failing.trying(f"read {folder.name}"), os.scandir(folder) as entries:
            for entry in islice(entries, LISTED_MAX):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if not _is_request(entry):
                        self._tidy(folder / entry.name, status)
                    elif folder / entry.name not in self._stuck:
                        found.append((status.st_ctime_ns, entry.name, status.st_uid))
        turns: Counter[int] = Counter()
        out: list[_Found] = []
        for arrived_ns, name, uid in sorted(found):
            if turns[uid] < OWNER_WAITING_MAX:
                out.append(_Found(file=folder / name, turn=turns[uid], arrived_ns=arrived_ns))
            else:
                self._remove(folder / name)
            turns[uid] += 1
        for uid, count in turns.items():
            if count > OWNER_WAITING_MAX:
                who = self._name_of(uid)
                user = f"uid {uid}" if who is None else who
                self._told("alarm.desk.flooded", {"folder": folder.name, "user": user, "count": count})
        return out

    def _tidy(self, file: Path, status: os.stat_result) -> None:
        """Away with drafts that nobody finished and with what else lies there: it hides requests."""
        if SystemClock().now().timestamp() - status.st_ctime_ns / 1e9 > DRAFT_S:
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(status.st_mode):
                    file.rmdir()
                else:
                    file.unlink()

    def _remove(self, file: Path) -> None:
        """Away with it, or never looked at again."""
        self._stuck.discard(file)
        with self.failing.trying(f"empty {file.parent.name}"):
            try:
                file.unlink(missing_ok=True)
            except OSError:
                self._stuck.add(file)
                raise


def hand_in(folder: Path, role: str, request: AlarmRequest | ReleaseRequest) -> Path:
    """Put a request where the edge of this folder finds it.

    Raises
    ------
    DeskError : there is no edge's desk, or it is not for this user.
    """
    target = folder / next(name for name, r in ROLES.items() if r == role)
    suffix = OF_RELEASE if isinstance(request, ReleaseRequest) else SUFFIX
    try:
        return drop_file(target, f"{request.id}{suffix}", dumps(request))
    except FileNotFoundError:
        raise DeskError(f"{target}: there is no desk; has the edge of this folder ever run?") from None
    except OSError as error:
        raise DeskError(f"{target}: {error.strerror}; only its group may hand in") from None


def new_id() -> str:
    """An id for a request."""
    return uuid.uuid4().hex


def _is_request(entry: "os.DirEntry[str]") -> bool:
    hidden = entry.name.startswith(".")  # not whole yet
    return entry.name.endswith(SUFFIX) and not hidden and not entry.is_dir(follow_symlinks=False)
