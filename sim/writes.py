"""What a simulated device makes of a write."""

from enum import StrEnum


class WriteVerdict(StrEnum):
    """What a device makes of a write."""

    ACCEPTED = "accepted"
    UNKNOWN_POINT = "unknown_point"
    READ_ONLY = "read_only"
    BAD_VALUE = "bad_value"  # not finite, or outside the bounds of the site's authority
    SILENT = "silent"  # the device does not answer
    REFUSED = "refused"  # the device answers with an exception: busy, or not in this state
