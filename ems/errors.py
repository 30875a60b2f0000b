"""Errors and problems.

    EmsError
    ├── BadValue          a number that must not be used (NaN, infinite, out of its range)
    ├── ConfigError       a site file or an option is refused; carries every Problem found
    ├── DataError         an input series is unusable (gap, wrong zone, wrong length)
    └── InvariantBroken   a bug: the supervisor takes the plant to its safe table and holds it there

Expected operating faults (time-out, refusal, infeasible) are returned values, never exceptions.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class EmsError(Exception):
    """Root of all errors raised on purpose; the command line prints them without a traceback."""


class BadValue(EmsError):
    """A number that must not be used: not finite, or outside what it may be."""


class DataError(EmsError):
    """An input series that cannot be used, with where and why."""


class InvariantBroken(EmsError):
    """Something that cannot be true was seen; the edge goes to its safe table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with an input: where it is, what was found, what is allowed."""

    file: str
    line: int | None
    key: str
    found: str
    allowed: str
    message: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{where}: {self.key}: found {self.found}; allowed: {self.allowed}"
        return f"{text} ({self.message})" if self.message else text


class ConfigError(EmsError):
    """Configuration is refused. `problems` holds all of them, not the first one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))
