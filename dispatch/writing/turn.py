"""The last line once more, when a command's turn on its wire has come.

A link may hold a command back after the last line: another request is on the bus, a pause is due, the output
is selected first. So it asks again when the wire is its own, with no wait left before the bytes. What comes
out is recorded as intent, once; a command of several requests goes on with that, or not at all.
"""

from collections.abc import Callable

from ems.commands import Command, Refusal


class Turn:
    """What is said of one command when its turn comes.

    Parameters
    ----------
    ask : the last line of this moment; it may raise.
    intend : records the intent; it may raise.
    """

    def __init__(self, ask: Callable[[], Command | Refusal], intend: Callable[[Command], None]) -> None:
        self.said: Command | Refusal | None = None  # None: its turn has not come
        self.raised: Exception | None = None
        self._ask, self._intend, self._over = ask, intend, False

    def last_word(self, _: Command) -> Command | None:
        """The command as it may be sent now; None: it may not. Never raises (`ems.ports.LastWord`)."""
        if self._over or self.raised is not None or isinstance(self.said, Refusal):
            return None
        try:
            now = self._ask()
            if self.said is None:
                if isinstance(now, Command):
                    self._intend(now)
                self.said = now
        except Exception as what:  # noqa: BLE001  raised again when the link has come back
            self.raised = what
            return None
        if isinstance(self.said, Refusal) or isinstance(now, Refusal) or now.value != self.said.value:
            return None
        return self.said

    def end(self) -> None:
        """The cycle does not wait for it any longer: from now on nothing is sent."""
        self._over = True
