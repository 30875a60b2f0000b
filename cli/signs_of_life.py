"""What the edge tells the service manager. Only a completed cycle of the decision loop feeds the watchdog."""

from connectors.systemd import Notifier
from dispatch.vocabulary import Decisions


class SignsOfLife:
    """READY with the first completed cycle, WATCHDOG and STATUS with each.

    Not STOPPING: an edge that ends is started anew by its supervisor, and the service goes on.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._ready = False

    def told(self, decisions: Decisions, dt_s: float) -> None:
        """A cycle of `dt_s` [s] is complete."""
        first = {} if self._ready else {"READY": "1"}
        self._ready = True
        self._notifier.tell(**first, WATCHDOG="1", STATUS=status_text(decisions))

    def close(self) -> None:
        """Tell nothing more."""
        self._notifier.close()


def status_text(decisions: Decisions) -> str:
    """One line for `systemctl status`."""
    n = len(decisions.alarm_book.standing())
    ladder = decisions.ladder
    return f"{decisions.mode}, {ladder.rung} ({ladder.reason}), {n} alarm{'' if n == 1 else 's'}"
