"""What waits to be written, in order and within a budget, while the file cannot be written or is slow.

Of what only its newest is read (status, condition, alarms) the newest few wait. Snapshots that are too many
are thinned to one a minute, all but the newest; then the oldest go. Commands, outcomes, refusals and events
have a budget of their own; over it go heartbeats and their outcomes, then refusals, then the oldest of the
rest. All of it is counted. Samples that devices recorded have a budget too, over which no more are taken:
their devices keep them. What was taken is never dropped.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from connectors.historian.rows import Entry, Kind
from connectors.recorded import Batch
from ems.commands import Command, WriteResult
from ems.telemetry import Snapshot

NEWEST_KEPT = {Kind.STATUS: 8, Kind.CONDITION: 8, Kind.ALARMS: 1}
BATCH_MAX = 2000  # entries in one transaction
FREED_RATIO = 0.1  # of the budget of audit rows, whenever it is used up
SAMPLES_MAX = 50_000  # of devices, that wait: 25 MB
SPARSE_S = 60.0  # between two snapshots of those that are thinned
HEARTBEAT = ".heartbeat"


class Backlog:
    """Entries in the order of their numbers. Not safe by itself: whoever owns it holds a mutex.

    Parameters
    ----------
    snapshots_max, audit_max : so many wait at most.
    """

    def __init__(self, snapshots_max: int, audit_max: int) -> None:
        self._snapshots_max, self._audit_max = snapshots_max, audit_max
        self._entries: deque[Entry] = deque()
        self._newest: dict[Kind, deque[Entry]] = {k: deque(maxlen=n) for k, n in NEWEST_KEPT.items()}
        self._in_hand: Sequence[Entry] = ()
        self.snapshots = self.audit = self.samples = 0  # that wait, those in hand as well
        self.lost: dict[str, int] = {}  # since the last `told`, by what it was
        self.lost_ever: dict[str, int] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._entries) + len(self._in_hand) + sum(len(q) for q in self._newest.values())

    @property
    def oldest(self) -> int | None:
        """Number of the oldest that waits; None: nothing does."""
        waiting = (self._in_hand, self._entries, *self._newest.values())
        return min((q[0][0] for q in waiting if q), default=None)

    def add(self, entry: Entry) -> None:
        """One more waits, and others go where the budget is used up."""
        kind = entry[1]
        if kind in self._newest:
            self._newest[kind].append(entry)
            return
        self._entries.append(entry)
        if kind is Kind.RECORDED:
            self.samples += _samples(entry)
        elif kind is Kind.SNAPSHOT:
            self.snapshots += 1
            if self.snapshots > self._snapshots_max:
                self._fewer_snapshots()
        else:
            self.audit += 1
            if self.audit > self._audit_max:
                self._fewer_audit()

    def has_room(self, samples: int) -> bool:
        """Whether so many samples of a device may wait as well; of none that wait, any number."""
        return not self.samples or self.samples + samples <= SAMPLES_MAX

    def take(self) -> list[Entry]:
        """The oldest entries that make a batch, and the newest of what only its newest is read."""
        n = min(len(self._entries), BATCH_MAX)
        batch = [self._entries.popleft() for _ in range(n)]
        for queue in self._newest.values():
            batch += queue
            queue.clear()
        batch.sort(key=lambda entry: entry[0])
        self._in_hand = batch
        return batch

    def give_back(self) -> None:
        """The batch in hand could not be written: it waits again, in its place."""
        for kind, queue in self._newest.items():
            both = [*(e for e in self._in_hand if e[1] is kind), *queue]
            queue.clear()
            queue.extend(both)  # keeps the newest
        self._entries.extendleft(reversed([e for e in self._in_hand if e[1] not in self._newest]))
        self._in_hand = ()

    def written(self) -> None:
        """The batch in hand is committed."""
        for entry in self._in_hand:
            kind = entry[1]
            self.snapshots -= kind is Kind.SNAPSHOT
            self.samples -= _samples(entry)
            self.audit -= kind not in (Kind.SNAPSHOT, Kind.RECORDED, *self._newest)
        self._in_hand = ()

    def told(self) -> Mapping[str, int]:
        """What was lost since the last call."""
        lost, self.lost = self.lost, {}
        return lost

    def _fewer_snapshots(self) -> None:
        """One a minute of all but the newest tenth; without the oldest eighth where that frees nothing."""
        seen, minutes = 0, set[float]()

        def sparse(entry: Entry) -> bool:
            nonlocal seen
            if not isinstance(entry[2], Snapshot) or seen >= self._snapshots_max - self._snapshots_max // 10:
                return False
            seen += 1
            minute = entry[2].at.timestamp() // SPARSE_S
            known = minute in minutes
            minutes.add(minute)
            return known

        if not self._drop(sparse, len(self._entries), "thinned_snapshots"):
            count = max(1, self._snapshots_max // 8)
            self._drop(lambda e: isinstance(e[2], Snapshot), count, "dropped_snapshots")

    def _fewer_audit(self) -> None:
        left = max(1, round(FREED_RATIO * self._audit_max))
        for what, rule in AUDIT_RULES.items():
            left -= self._drop(rule, left, what)
            if left <= 0:
                return

    def _drop(self, rule: Callable[[Entry], bool], most: int, what: str) -> int:
        """Take out the oldest entries for which a rule holds, `most` of them; how many there were."""
        kept: deque[Entry] = deque()
        gone = 0
        for entry in self._entries:
            if gone < most and rule(entry):
                gone += 1
            else:
                kept.append(entry)
        if gone:
            self._entries = kept
            if what.endswith("snapshots"):
                self.snapshots -= gone
            else:
                self.audit -= gone
            for counts in (self.lost, self.lost_ever):
                counts[what] = counts.get(what, 0) + gone
        return gone


def _samples(entry: Entry) -> int:
    return len(entry[2].samples) if isinstance(entry[2], Batch) else 0


def _is_heartbeat(entry: Entry) -> bool:
    command = entry[2].command if isinstance(entry[2], WriteResult) else entry[2]
    return isinstance(command, Command) and command.point.endswith(HEARTBEAT)


AUDIT_RULES: Mapping[str, Callable[[Entry], bool]] = {
    "heartbeats": _is_heartbeat,
    "refusals": lambda entry: entry[1] is Kind.REFUSAL,
    "audit_rows": lambda entry: entry[1] not in (Kind.SNAPSHOT, Kind.RECORDED),
}
