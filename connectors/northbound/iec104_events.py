"""What has changed, kept for clients that are away: bounded, and what was lost for that is told."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice

from connectors.northbound.iec104_list import Shown

GROUPS_MAX = 32  # clients that are remembered while they are away


class Changes:
    """The newest changes, numbered without end."""

    def __init__(self, kept_max: int) -> None:
        self._kept: deque[Shown] = deque(maxlen=kept_max)
        self.end = 0  # number of the next one

    @property
    def begin(self) -> int:
        """Number of the oldest one that is kept."""
        return self.end - len(self._kept)

    def add(self, change: Shown) -> None:
        """One more; the oldest gives way."""
        self._kept.append(change)
        self.end += 1

    def since(self, number: int, count: int) -> Iterator[Shown]:
        """At most `count` of them from a number on, which must still be kept."""
        assert number >= self.begin
        # From the nearer end: a client that keeps up costs nothing, however much is kept.
        left = self.end - number
        if left > len(self._kept) // 2:
            return islice(self._kept, number - self.begin, number - self.begin + count)
        newest = list(islice(reversed(self._kept), left))
        return iter(newest[::-1][:count])


class Group:
    """One client, whatever connections it has: what it has been told and has confirmed."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.confirmed = changes.end  # numbers before it have arrived
        self.lost_count = 0  # changes that it will never be told, since it interrogated last
        self.lost_told = False
        self.introduced = False  # whether it has been told that we began

    def caught_up(self, number: int) -> int:
        """Where to go on from `number`: later where changes have been lost, which are counted."""
        gone = self._changes.begin - number
        if gone <= 0:
            return number
        self.lost_count += gone
        self.confirmed = max(self.confirmed, self._changes.begin)
        return self._changes.begin


class Groups:
    """The clients of one station."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._known: OrderedDict[tuple[str, str], Group] = OrderedDict()

    def of(self, key: tuple[str, str]) -> Group:
        """The group of a client; who has not been here for the longest is forgotten for a new one."""
        if key not in self._known:
            self._known[key] = Group(self._changes)
            if len(self._known) > GROUPS_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]
