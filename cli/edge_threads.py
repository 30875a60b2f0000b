"""Threads of the edge that ended by a fault: nobody looks after what they did, and people hear of it."""

import threading

import structlog

from dispatch.vocabulary import Alarm

log = structlog.get_logger()


class EndedThreads:
    """From when it is made to when it is closed: which threads of the process ended by an exception.

    It stands as long as the process does, because no thread is begun again.
    """

    def __init__(self) -> None:
        self._ended: dict[str, str] = {}
        self._before = threading.excepthook
        threading.excepthook = self._heard

    def close(self) -> None:
        """Leave the ends of threads to whoever was told of them before."""
        threading.excepthook = self._before

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """One alarm for all of them."""
        text = "; ".join(f"{name}: {what}" for name, what in self._ended.items())
        return (Alarm(code="edge.thread.ended", text=text),) if text else ()

    def _heard(self, args: threading.ExceptHookArgs) -> None:
        name = "a thread" if args.thread is None else args.thread.name
        self._ended = {**self._ended, name: f"{args.exc_type.__name__}: {args.exc_value}"}
        log.error("edge.thread.ended", thread=name, exc_info=args.exc_value)
