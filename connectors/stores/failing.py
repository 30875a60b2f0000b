"""What a desk or store cannot do at its disk: told when it begins and when it is over, never raised.

One shape for all of them. A full disk, a folder that was taken away or a file system that became read-only is
an operating fault: the plant is controlled on, people hear of it, and what could not be done is tried again.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from ems.records import JsonValue

Told = Callable[[str, Mapping[str, JsonValue]], None]


class Failing:
    """The faults of one place.

    Parameters
    ----------
    place : what people know it by, as in `requests`.
    told : told of `store.failing` and `store.recovered`, with the place and what it could not do.
    """

    def __init__(self, place: str, told: Told) -> None:
        self._place, self._told = place, told
        self._faults: dict[str, str] = {}

    @property
    def now(self) -> str | None:
        """What cannot be done now and why; None: everything can."""
        return "; ".join(f"cannot {what}: {why}" for what, why in self._faults.items()) or None

    def on(self, what: str) -> bool:
        """Whether this failed when it was tried last."""
        return what in self._faults

    @contextlib.contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Do something at the disk that may fail; what fails is told, and not raised."""
        try:
            yield
        except OSError as error:
            self.failed(what, error.strerror if error.strerror else type(error).__name__)
        else:
            self.done(what)

    def found(self, what: str, why: str | None) -> None:
        """Somebody else tried: it can be done, or why it cannot."""
        if why is None:
            self.done(what)
        else:
            self.failed(what, why)

    def failed(self, what: str, why: str) -> None:
        """It cannot be done."""
        if what not in self._faults:
            self._told("store.failing", {"place": self._place, "what": what, "why": why})
        self._faults[what] = why

    def done(self, what: str) -> None:
        """It can."""
        if self._faults.pop(what, None) is not None:
            self._told("store.recovered", {"place": self._place, "what": what})
