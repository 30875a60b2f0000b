"""The requests of a poll: the fewest, and smaller ones in place of those that a device refuses.

It may be the holes that are refused, the number of registers, or one point among many. What is refused is
asked again in less within the same poll, so that a register that is not there costs its neighbours nothing.
"""

import math
import struct
from collections.abc import Iterator, Sequence

from connectors.modbus.blocks import ReadBlock, halves, read_blocks
from connectors.modbus.frames import READ_OF
from connectors.point_map import PointCodec

AT_ONCE_MAX = 16  # requests that are asked in two in one poll, while it is found out what a device takes
MORE_MAX = 32  # requests more than the fewest without holes, for good
AGAIN_S = 600.0  # after which it is asked in the fewest again: it may have refused while it started
SILENT_POLLS, SILENT_S = 5, 60.0  # after so many that refused everything, and between two tries from then on
_BODY = struct.Struct(">BBHH")  # unit id, function code, address, count


class Requests:
    """Iterated once a poll, after `begin`; what comes next may hang on what was said of the one before.

    Parameters
    ----------
    codecs : points of one device.
    unit : its unit id.
    holes_max, registers_max : as `read_blocks` has them.
    requests_max : of a poll, where the fewest are not more.
    """

    def __init__(
        self,
        codecs: Sequence[PointCodec],
        unit: int,
        *,
        holes_max: int,
        registers_max: int,
        requests_max: float = math.inf,
    ) -> None:
        self._unit, self._registers_max = unit, registers_max
        self._fewest = self._with_bodies(read_blocks(codecs, holes_max, registers_max))
        plain = len(read_blocks(codecs, 0, registers_max))
        self._most = min(max(len(self._fewest), plain) + MORE_MAX, max(len(self._fewest), requests_max))
        self._plan = list(self._fewest)
        self._at = -1  # of which it is the turn
        self._more = 0  # requests that may still be added in this poll
        self._asked = self._refused = 0  # requests of this poll; those of them that were too much
        self._heard = False  # something was answered in this poll
        self._silent = 0  # polls one after the other in which each request was refused
        self._now_s = -math.inf  # of this poll, wall time
        self._since_s = -math.inf  # from when on they were the fewest
        self._tried_s = -math.inf  # when less was asked for last

    def begin(self, now_s: float) -> None:
        """A poll begins at `now_s` [s wall]."""
        if self._heard:
            self._silent = 0
        elif self._asked and self._refused == self._asked:
            self._silent += 1
        refuses_all = self._silent >= SILENT_POLLS
        if refuses_all or now_s - self._since_s >= AGAIN_S:
            self._plan, self._since_s = list(self._fewest), now_s
        self._more = 0 if refuses_all and now_s - self._tried_s < SILENT_S else AT_ONCE_MAX
        self._at, self._heard, self._now_s = -1, False, now_s
        self._asked = self._refused = 0

    def __iter__(self) -> Iterator[tuple[ReadBlock, bytes]]:
        """Each request with its body, unit id first."""
        while self._at + 1 < len(self._plan):
            self._at += 1
            self._asked += 1
            yield self._plan[self._at]

    def was_answered(self) -> None:
        """The one whose turn it is was."""
        self._heard = True

    def ask_for_less(self, *, holes: bool) -> bool:
        """The one whose turn it is was refused; whether it is asked again in less, at the end of this poll.

        Parameters
        ----------
        holes : it may be what lies between its points.
        """
        self._refused += 1
        block, _ = self._plan[self._at]
        most = min(self._more, self._most - len(self._plan))
        finer = halves(block)
        if holes and block.has_holes:
            plain = read_blocks([codec for codec, _ in block.points], 0, self._registers_max)
            finer = plain if len(plain) - 1 <= most else finer
        if finer == (block,) or len(finer) - 1 > most:
            return False
        del self._plan[self._at]
        self._plan += self._with_bodies(finer)
        self._at, self._more, self._tried_s = self._at - 1, self._more - len(finer) + 1, self._now_s
        return True

    def _with_bodies(self, blocks: Sequence[ReadBlock]) -> list[tuple[ReadBlock, bytes]]:
        return [(b, _BODY.pack(self._unit, READ_OF[b.table], b.address, b.count)) for b in blocks]
