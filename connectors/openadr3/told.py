"""What a VTN of OpenADR 3 has told, as far as a plant asks for it. Pure.

Source: OpenADR 3.1.0 User Guide, 7.3 (times of events and intervals), and the OpenAPI of 3.0.1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

REPEATS_MAX = 5000  # of one event, as far as it is looked at ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An interval of an event. Times in s since 1970 UTC."""

    number: int  # its id in the event
    start_s: float  # before chance
    duration_s: float | None  # None: without end
    random_s: float | None = None  # this one and those behind it: at most so much earlier or later
    kw: Mapping[str, float] = field(default_factory=dict)  # by type of payload, of those that are told here
    prices_per_kwh: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # by type; parts of equal length


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A step at its real time."""

    start_s: float
    end_s: float | None  # None: without end
    kw: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event that is meant for us."""

    id: str
    program: str  # its id
    title: str
    priority: int | None  # the lowest goes first; None: after all others
    steps: tuple[Step, ...]
    limited: bool = False  # `duration` of the event counts: it cuts its steps, or repeats them
    duration_s: float | None = None  # that one; None: without end
    made_s: float = 0.0  # when it was made or changed, at the latest when it was heard of
    price_fault: str = ""  # why its prices are not believed; then it has none
    unmet: tuple[str, ...] = ()  # types of payload that nobody here can do
    wants_demand: bool = False  # whether it asks for the mean power in its intervals
    reports: tuple[str, ...] = ()  # types of other reports that it asks for

    def windows(self, seed: str) -> tuple[Window, ...]:
        """Its steps at their real times.

        Parameters
        ----------
        seed : of chance, one for this plant: the same event gets the same start at each look.
        """
        return tuple(self._moved(seed))

    def _moved(self, seed: str) -> Iterator[Window]:
        shift_s = 0.0
        for i, step in enumerate(self.steps):
            if step.random_s is not None:
                shift_s = Random(f"{seed} {self.id} {i}").uniform(-step.random_s, step.random_s)
            start_s = step.start_s + shift_s
            end_s = None if step.duration_s is None else start_s + step.duration_s
            yield Window(start_s=start_s, end_s=end_s, kw=step.kw)

    def at(self, now_s: float, seed: str) -> list[Window]:
        """Its steps that run, moved to now where the event repeats them."""
        windows = self.windows(seed)
        if not windows:
            return []
        first_s = min(w.start_s for w in windows)
        last_s, turned_s = self._last_s(first_s), self._turned_s(windows, first_s, now_s)
        if last_s is not None and now_s >= last_s:
            return []
        return [
            Window(start_s=w.start_s + turned_s, end_s=_first(_later(w.end_s, turned_s), last_s), kw=w.kw)
            for w in windows
            if w.start_s + turned_s <= now_s and (w.end_s is None or now_s < w.end_s + turned_s)
        ]

    def between(self, word: str, now_s: float, until_s: float, seed: str) -> Iterator[Window]:
        """Its steps with a type of payload that are not over, repeated ones among them, up to `until_s`."""
        if not any(word in s.kw for s in self.steps):
            return
        windows = self.windows(seed)
        first_s = min(w.start_s for w in windows)
        last_s, ends = self._last_s(first_s), [w.end_s for w in windows]
        ours = [w for w in windows if word in w.kw]
        span_s = 0.0 if any(e is None for e in ends) else max(e for e in ends if e is not None) - first_s
        repeats = self.limited and span_s > 0.0
        begun = max(0, math.floor((now_s - first_s) / span_s)) if repeats else 0
        stop_s = until_s if last_s is None else min(until_s, last_s)
        for k in range(begun, begun + REPEATS_MAX):
            moved_s = k * span_s
            for w in ours:
                end_s = _first(_later(w.end_s, moved_s), last_s)
                if w.start_s + moved_s < stop_s and (end_s is None or end_s > now_s):
                    yield Window(start_s=w.start_s + moved_s, end_s=end_s, kw=w.kw)
            if not repeats or first_s + moved_s + span_s >= stop_s:
                return

    def _last_s(self, first_s: float) -> float | None:
        """Where its own duration cuts it; None: nowhere."""
        return first_s + self.duration_s if self.limited and self.duration_s is not None else None

    def _turned_s(self, windows: tuple[Window, ...], first_s: float, now_s: float) -> float:
        """By how much its steps are moved, where they are repeated."""
        ends = [w.end_s for w in windows]
        if not self.limited or now_s < first_s or any(e is None for e in ends):
            return 0.0
        span_s = max(e for e in ends if e is not None) - first_s
        return (now_s - first_s) // span_s * span_s if span_s > 0.0 else 0.0

    def span(self, seed: str) -> tuple[float | None, float | None]:
        """When it begins and ends; None: never."""
        windows = self.windows(seed)
        if not windows:
            return None, None
        first_s = min(w.start_s for w in windows)
        if self.limited:
            return first_s, self._last_s(first_s)
        ends = [w.end_s for w in windows]
        return first_s, None if any(e is None for e in ends) else max(e for e in ends if e is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program, with the units of its types of payload."""

    id: str
    name: str
    units: Mapping[str, str] = field(default_factory=dict)  # by type; "": several
    currencies: Mapping[str, str] = field(default_factory=dict)  # the same
    targets: tuple[str, ...] | None = None  # None: it is meant for all


def _first(a_s: float | None, b_s: float | None) -> float | None:
    """The earlier of two times; None: never."""
    if a_s is None or b_s is None:
        return b_s if a_s is None else a_s
    return min(a_s, b_s)


def _later(at_s: float | None, by_s: float) -> float | None:
    return None if at_s is None else at_s + by_s
