"""Where people hand in what they do to alarms, and letting go of the plant: files that only the edge reads.

Who may hand something in is the permission of the folder, and who did is the owner of the file, as the
kernel knows it: `operators` and `engineers` are folders with the sticky bit, writable for their group and
readable for the edge alone. The edge opens no listener for it. Every file is taken once and removed.
"""

import contextlib
import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from connectors.json_codec import dumps, loads
from connectors.stores.drop_folder import drop_file, owner_name, read_plain
from ems.alarms import AlarmAction, AlarmRequest
from ems.errors import BadValue, EmsError
from ems.records import JsonValue
from ems.release import ReleaseRequest, ReleaseWish

ROLES = {"operators": "operator", "engineers": "engineer"}
FOLDER_MODE = 0o1730  # members of the group drop, nobody but the edge looks
PER_CYCLE = 32  # more are taken in the next cycle
REMEMBERED = 4096
SUFFIX = ".json"
OF_RELEASE = ".release.json"
RELEASED = "released.json"  # the wish that stands; the edge's own file
Told = Callable[[str, Mapping[str, JsonValue]], None]


class DeskError(EmsError):
    """Something cannot be handed in."""


class AlarmDesk:
    """The edge's side. What lay there before the edge started is thrown away: it was meant for another one.

    Parameters
    ----------
    folder : made if it is not there, with a folder for each role.
    told : told of files that are not requests, as an event.
    """

    def __init__(self, folder: Path, told: Told) -> None:
        self._folders = {folder / name: role for name, role in ROLES.items()}
        self._told = told
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        self._standing = folder / RELEASED
        self.release = _wish(self._standing)  # outlives a restart
        for each in self._folders:
            if not each.exists():
                each.mkdir()
                each.chmod(FOLDER_MODE)
            for name in _names(each):
                _remove(each / name)

    def collect(self) -> list[AlarmAction]:
        """What was handed in since the last call, oldest first, at most 32. Never waits for anybody."""
        found = [(f, name) for f in self._folders for name in _names(f)]
        taken = sorted(found, key=lambda x: (_modified_ns(x[0] / x[1]), x[1]))[:PER_CYCLE]
        actions = (self._take(folder / name, self._folders[folder]) for folder, name in taken)
        return [a for a in actions if a is not None]

    def _take(self, file: Path, role: str) -> AlarmAction | None:
        request: AlarmRequest | ReleaseRequest
        try:
            status, text = read_plain(file)
            of_release = file.name.endswith(OF_RELEASE)
            request = loads(ReleaseRequest, text) if of_release else loads(AlarmRequest, text)
        except (OSError, BadValue) as error:
            self._told("alarm.request.unreadable", {"file": file.name, "role": role, "why": str(error)})
            return None
        finally:
            _remove(file)
        if request.id in self._seen:
            return None  # handed in twice, done once
        self._seen.append(request.id)
        if isinstance(request, ReleaseRequest):
            self._let_go(request, owner_name(status.st_uid), role)
            return None
        return AlarmAction(
            act=request.act,
            key=request.key,
            who=owner_name(status.st_uid),
            role=role,
            why=request.why,
            for_s=request.for_s,
            request=request.id,
        )

    def _let_go(self, request: ReleaseRequest, who: str, role: str) -> None:
        """Keep the wish where a restart finds it."""
        if role != "engineer":
            self._told("edge.release.refused", {"who": who, "against": ["an engineer may"]})
        elif request.let_go:
            self.release = ReleaseWish(who=who, why=request.why)
            self._standing.write_text(dumps(self.release))
        else:
            self.release = None
            _remove(self._standing)


def _wish(file: Path) -> ReleaseWish | None:
    try:
        return loads(ReleaseWish, file.read_text())
    except (OSError, BadValue):
        return None


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


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if _is_request(e)]
    except OSError:
        return []


def _is_request(entry: "os.DirEntry[str]") -> bool:
    hidden = entry.name.startswith(".")  # not whole yet
    return entry.name.endswith(SUFFIX) and not hidden and not entry.is_dir(follow_symlinks=False)


def _modified_ns(file: Path) -> int:
    try:
        return file.lstat().st_mtime_ns
    except OSError:
        return 0


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
