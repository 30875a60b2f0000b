"""Users of owners' numbers, looked up beside the cycle: the user database may be far away and hang.

The cycle asks and never waits: it gets the name, or that it is not known yet, and from a deadline on a
number, which nobody has a right as. Each look-up has its own thread, so that one that hangs delays no other.
Where the machine has no thread left, that is told, and whoever asks is asked for again in the next cycle.
"""

import contextlib
import pwd
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from connectors.stores.drop_folder import owner_name
from connectors.stores.failing import Failing
from ems.clock import wall_s

DEADLINE_S = 2.0  # wall time; whoever is not known by then is refused
RENEW_S = 300.0  # wall time after which a known name is looked up again, and used until the answer is there
NOBODY_S = 10.0  # the same for a number that nobody had


class OwnerNames:
    """`name_of` of the desks.

    Parameters
    ----------
    failing : told of look-ups that are not answered in time.
    look : the look-up itself; it may take as long as it likes.
    wall : wall time [s].
    """

    def __init__(
        self,
        failing: Failing,
        *,
        look: Callable[[int], str] = owner_name,
        wall: Callable[[], float] = wall_s,
    ) -> None:
        self._failing, self._look, self._wall = failing, look, wall
        self._known: dict[int, tuple[str, float]] = {}  # number -> name, when it was looked up
        self._asked: dict[int, float] = {}  # number -> since when its look-up runs
        self._answers: SimpleQueue[tuple[int, str]] = SimpleQueue()

    def __call__(self, uid: int) -> str | None:
        """The user of a number; None: not known yet, ask again in the next cycle."""
        self.settle()
        known, now_s = self._known.get(uid), self._wall()
        nobody = known is not None and known[0] == _number(uid)
        if known is None or now_s - known[1] > (NOBODY_S if nobody else RENEW_S):
            self._ask(uid, now_s)
        if known is not None and not (nobody and uid in self._asked):
            return known[0]
        return _number(uid) if self._late(uid, now_s) else None

    def learn(self, users: Iterable[str]) -> None:
        """Look up beforehand who will ask: their first request need not wait."""

        def all_of_them(names: tuple[str, ...]) -> None:
            for name in names:
                try:
                    self._answers.put((pwd.getpwnam(name).pw_uid, name))
                except (KeyError, OSError):
                    continue  # told when they ask

        with contextlib.suppress(RuntimeError, MemoryError):  # told when they ask
            threading.Thread(target=all_of_them, args=(tuple(users),), name="users", daemon=True).start()

    def settle(self) -> None:
        """Take in what was answered, and say what was not."""
        while not self._answers.empty():
            uid, name = self._answers.get_nowait()
            self._asked.pop(uid, None)
            self._known[uid] = (name, self._wall())
            self._failing.done(_what(uid))
        now_s = self._wall()
        for uid in self._asked:
            if self._late(uid, now_s):
                why = f"the user database has not answered for {DEADLINE_S:g} s"
                self._failing.failed(_what(uid), why)

    def _ask(self, uid: int, now_s: float) -> None:
        if uid in self._asked:
            return
        try:
            threading.Thread(target=self._answer, args=(uid,), name=f"uid {uid}", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self._failing.failed(_what(uid), str(error) or type(error).__name__)
            return
        self._failing.done(_what(uid))
        self._asked[uid] = now_s

    def _answer(self, uid: int) -> None:
        name = _number(uid)
        try:
            name = self._look(uid)
        finally:
            self._answers.put((uid, name))

    def _late(self, uid: int, now_s: float) -> bool:
        return uid in self._asked and now_s - self._asked[uid] > DEADLINE_S


def _number(uid: int) -> str:
    return f"uid {uid}"


def _what(uid: int) -> str:
    return f"look up uid {uid}"
