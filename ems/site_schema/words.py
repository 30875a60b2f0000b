"""Words of messages that several checks use."""

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str]) -> str:
    """Did-you-mean, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def clock(hour: float) -> str:
    """A local hour as 18:30."""
    return f"{int(hour):02d}:{round(hour % 1 * 60):02d}"
