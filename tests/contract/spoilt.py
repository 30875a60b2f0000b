"""Spoilt answers by the million: how documents are spoilt, and time-outs that are skipped.

The event loop's clock jumps to the next timer when nothing is on the wire: for both ends of a line in one
process and one loop, over real sockets, where what one has written the other can read at once.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

_T = TypeVar("_T")
BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
EIGHTH = 125_000  # of a million
SETTLE_S = 0.0005  # what was written is with the other end by then


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for what is on the wire and not for time."""

    def __init__(self, settle_s: float) -> None:
        super().__init__()
        self.skipped_s, self._settle_s = 0.0, settle_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; with a time-out, the clock is put forward by it instead."""
        ready = super().select(timeout if timeout is None else min(timeout, self._settle_s))
        if not ready and timeout is not None and timeout > self._settle_s:
            self.skipped_s += timeout - self._settle_s
        return list(ready)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its `time()` is the clock and all that was skipped."""

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._jumps = _JumpingSelector(settle_s)
        super().__init__(self._jumps)

    def time(self) -> float:
        """As `asyncio` asks for it [s]."""
        return super().time() + self._jumps.skipped_s


def run(main: Coroutine[Any, Any, _T], settle_s: float = SETTLE_S) -> _T:
    """`asyncio.run` on such a loop; `settle_s`: what was written is with the other end by then."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(settle_s)) as runner:
        return runner.run(main)


class LoopClock:
    """The clock of the running event loop."""

    def now(self) -> datetime:
        """Aware UTC, by the loop's seconds."""
        return BEGAN + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        """As the loop counts [s]."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait [s]."""
        await asyncio.sleep(max(0.0, monotonic_s - self.monotonic_s()))


class Spoilt:
    """Counts what is really another answer than the right one."""

    def __init__(self) -> None:
        self.count = 0

    def by(self, spoil: Callable[[_T], _T]) -> Callable[[_T], _T]:
        """`spoil`, counted."""

        def counted(right: _T) -> _T:
            said = spoil(right)
            self.count += said != right
            return said

        return counted


def until_an_eighth(some: Callable[[int], Coroutine[Any, Any, int]], seed: int) -> None:
    """Run `some(seed)` with seeds of its own, each of which tells how many answers it has spoilt."""
    count = 0
    for k in range(1_000_000):
        if count >= EIGHTH:
            return
        count += run(some(1_000_000 * seed + k))


Spoiler = Callable[[Random, bytearray], None]


def document(random: Random, raw: bytes, pieces: Sequence[bytes], own: Sequence[Spoiler]) -> bytes:
    """With one to three things wrong: a bit, a gap, something twice or cut, noise, a piece, or by `own`."""
    out = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        at, n = random.randrange(len(out)), random.randint(1, 40)
        match random.randrange(6 + len(own)):
            case 0:
                out[at] ^= 1 << random.randrange(8)
            case 1:
                del out[at : at + n]
            case 2:
                out[at:at] = out[at : at + n]
            case 3:
                out[at:at] = random.choice(pieces)
            case 4:
                del out[random.randrange(max(1, len(out) - 40)) :]
            case 5:
                out[at : at + n] = random.randbytes(n)
            case k:
                own[k - 6](random, out)
        if not out:
            break
    return bytes(out)


def number_between(opens: bytes, closes: bytes, others: Sequence[bytes]) -> Spoiler:
    """Another number in the place of one that stands between two signs."""

    def spoil(random: Random, out: bytearray) -> None:
        places = [i for i in range(1, len(out)) if out[i - 1 : i] == opens and 48 <= out[i] <= 57]
        if places:
            at = random.choice(places)
            out[at : out.find(closes, at)] = random.choice(others)

    return spoil
