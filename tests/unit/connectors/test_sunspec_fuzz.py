"""Seeded random SunSpec devices, sound, broken and changing: no crash, and no value that is not true."""

import os
import random

import pytest

from connectors.link import LinkError
from ems.commands import WriteOutcome
from ems.telemetry import Quality
from tests.unit.connectors.sunspec_fake import (
    TABLE,
    FakeWire,
    Memory,
    chain_of,
    device,
    link,
    model,
    row,
    same,
    start_of,
    truth,
)

READ = [n for n in TABLE if n not in ("704.WMaxLimPct", "704.WSet")]
SAMPLE = 400  # cases in `make test`
SOAK = 100_000
EXCEPTIONS = (1, 2, 3, 4, 5, 6, 8, 10, 11, 77)


def some_word(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, rng.randrange(65536), rng.randrange(65536)))


def some_scale(rng: random.Random) -> int:
    wild = rng.random() < 0.1
    return some_word(rng) if wild else (rng.randrange(-4, 4) & 0xFFFF)


def some_model(rng: random.Random) -> list[int]:
    name = rng.choice([*TABLE, "unknown"])
    if name == "unknown":
        length = rng.choice((0, 1, 7, 60, 300))
        return [rng.choice((64999, 65000, 9999, 3, 12)), length, *(some_word(rng) for _ in range(length))]
    number, _, at, count, _, scale_at = TABLE[name]
    lengths = {701: 153, 103: 50, 203: 105, 802: 62, 714: 18 + 25 * rng.randrange(4), 704: 65, 702: 50}
    words = model(number, lengths[number], {})
    words[2:] = [some_word(rng) for _ in words[2:]]
    for other, (n, _, a, c, _, s) in TABLE.items():
        if n == number and (other == name or rng.random() < 0.8) and a + c <= len(words):
            words[a : a + c] = [some_word(rng) for _ in range(c)]
            words[s] = some_scale(rng)
    assert at + count <= len(words) or number == 714
    assert scale_at < len(words)
    return words


def some_device(rng: random.Random) -> Memory:
    models = [some_model(rng) for _ in range(rng.randrange(9))]
    tail = [0xFFFF, 0] if rng.random() < 0.95 else [some_word(rng), some_word(rng)]
    return device(*models, base=rng.choice((40000, 40000, 40000, 50000, 0, 39999, 50001)), tail=tail)


def broken(rng: random.Random, memory: Memory) -> Memory:
    """The same device, after something that devices and adversaries do."""
    out = dict(memory)
    chain = chain_of(memory) or []
    for _ in range(rng.randrange(1, 4)):
        what = rng.randrange(6)
        if what == 0 and chain:  # a length that lies
            out[rng.choice(chain)[1] + 1] = some_word(rng)
        elif what == 1 and chain:  # another model there
            out[rng.choice(chain)[1]] = rng.choice((0, 1, 701, 703, 802, 0xFFFF, some_word(rng)))
        elif what == 2:  # it ends early
            end = rng.choice(sorted(out))
            out = {a: w for a, w in out.items() if a < end}
        elif what == 3 and chain:  # a scale factor, a value
            _, at, length = rng.choice(chain)
            out[at + 2 + rng.randrange(max(1, length))] = some_word(rng)
        elif what == 4:  # anything anywhere
            for _ in range(rng.randrange(1, 50)):
                out[rng.choice(sorted(out))] = some_word(rng)
        elif what == 5 and chain:  # the chain goes round: a length that leads behind the last register
            out[rng.choice(chain)[1] + 1] = rng.choice((65535, 65534, 25000, 0))
        if not out:
            return dict(memory)
    return out


class Case:
    """One device and what becomes of it while it is polled a few times."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.wire = FakeWire(some_device(self.rng), self.rng.choice((125, 125, 125, 60, 20)))
        self.sound = self.rng.random() < 0.25  # nothing goes wrong
        self.states = [self.wire.memory]  # every state of the device so far
        self.wire.before = self.trouble
        if not self.sound and self.rng.random() < 0.5:
            self.wire.memory = broken(self.rng, self.wire.memory)
            self.states = [self.wire.memory]

    def trouble(self) -> int | None:
        if self.sound:
            return None
        luck = self.rng.random()
        if luck < 0.02:
            raise LinkError("no answer in time")
        if luck < 0.04:
            return self.rng.choice(EXCEPTIONS)
        if luck < 0.07:
            self.wire.memory = broken(self.rng, self.wire.memory)
            self.states.append(self.wire.memory)
        return None

    async def run(self) -> int:
        """Poll; every good value is true of the device at one moment of the poll. Gives their number."""
        rows = [row(n, n, span=(-1e25, 1e25)) for n in READ]
        rows.append(row("limit", "704.WMaxLimPct", rating="702.WMaxRtg", writable=True, span=(0, 1e9)))
        it, good = link(self.wire, *rows), 0
        walked = 0  # first state that the chain may have been walked in
        for _ in range(4):
            began = len(self.states) - 1
            try:
                if not it.connected:
                    walked = began
                    await it.connect()
                    assert len((await it.identify())["models"] or "") < 4000
                values = await it.read()
            except LinkError:
                await it.disconnect()
                assert not self.sound or chain_of(self.wire.memory) is None
                continue
            for name in READ:
                starts = {start_of(m, name) for m in self.states[walked:]}
                told = values[name]
                known = [truth(m, name, at) for m in self.states[began:] for at in starts]
                if told.value is not None and told.quality is Quality.GOOD:
                    good += 1
                    assert any(k is not None and same(k, told.value) for k in known), (name, told, known)
                elif self.sound:
                    assert known == [None], (name, told, known)
            await self.write(it)
        return good

    async def write(self, it) -> None:
        """A limit that was confirmed is what the device then holds; one that was not sent changes nothing."""
        before, states = dict(self.wire.memory), len(self.states)
        wanted, n = self.rng.choice((0.0, 1.0, 12.5, 4000.0, 1e6)), len(self.wire.written)
        codec = it._rows["limit"].codec
        (reply,) = await it.write([(codec, wanted)], float("inf"))
        if reply.outcome is WriteOutcome.NOT_SENT:
            assert len(self.wire.written) == n
            assert self.wire.memory == before or len(self.states) > states
        elif reply.outcome is WriteOutcome.CONFIRMED and len(self.states) == states:
            memory = self.wire.memory
            at = self.wire.written[-1][0] - 14  # it is enabled last
            ratings = [start_of(m, "702.WMaxRtg") for m in self.states]
            percent = truth(memory, "704.WMaxLimPct", at)
            (rating, *_) = [r for s in ratings if (r := truth(memory, "702.WMaxRtg", s)) is not None]
            assert percent is not None
            assert memory[at + 14] == 1
            exponent = memory[at + 54] - (65536 if memory[at + 54] >= 32768 else 0)
            assert abs(percent * rating / 100 - wanted) <= 0.5000001 * 10.0**exponent * rating / 100
        for address, _ in self.wire.written[n:]:
            assert self.wire.memory.get(address) is not None
        self.wire.written.clear()


async def run_cases(first: int, count: int) -> None:
    good = 0
    for seed in range(first, first + count):
        try:
            good += await Case(seed).run()
        except (AssertionError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert good > count  # the cases are not all broken


async def test_random_devices_no_crash_and_no_value_that_is_not_true():
    await run_cases(int(os.environ.get("SUNSPEC_SEED", "1")), SAMPLE)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_random_devices_many():
    await run_cases(1_000_000, SOAK)
