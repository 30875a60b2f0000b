"""One row of the commissioning report."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a row."""

    PASS = "pass"  # noqa: S105  a verdict
    FAIL = "fail"
    NOT_SHOWN = "not shown"  # nothing speaks against it, and nothing proves it


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """What was found out about one point.

    Parameters
    ----------
    shown : how: `read` (good and plausible), `effect` (a step was followed and seen at the POI).
    text : what was measured, or what is wrong and what that looks like.
    """

    point: str
    verdict: Verdict
    shown: str
    text: str
