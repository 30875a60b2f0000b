"""Where in a JSON document the value of a point is, for protocols that tell values so. Pure."""

import re
from dataclasses import dataclass

_POINTER = re.compile(r"(/([^~/]|~[01])*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonPlace:
    """Where in a document a value is, and what is told about it; places are JSON pointers (RFC 6901)."""

    value: str | None = None  # None: the document is the number itself
    quality: str | None = None
    good: tuple[bool | int | str, ...] = ()  # what stands at `quality` while the value is good
    time: str | None = None  # when the sample was taken
    time_form: str = "iso"  # iso | s | ms, the numbers since 1970 UTC
    words: tuple[str, ...] | None = None  # of a text: those that are known; the raw value is which it is


def is_pointer(text: str) -> bool:
    """Whether a text is a JSON pointer."""
    return _POINTER.fullmatch(text) is not None
