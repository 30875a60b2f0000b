"""What the edge remembers of letting go of the plant."""

import math
from dataclasses import dataclass

from ems.release import ReleaseWish


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseMemory:
    """The wish, and what became of it when it was tried last."""

    wish: ReleaseWish | None = None
    released: bool = False
    tried_s: float = -math.inf  # edge monotonic
    bus: tuple[str, str | None] = ("", None)  # grid mode and forming source it was tried with
    against: tuple[str, ...] = ()
