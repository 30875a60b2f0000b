"""A million spoilt frames of a meter, without a network between: refused, or what was told, nothing else."""

import itertools
import random
import struct
from pathlib import Path

import pytest

from connectors.dlms import session as wire
from connectors.dlms.apdus import NOTIFICATIONS, Denied, Result
from connectors.dlms.association import Association, ListRefused
from connectors.dlms.counter import Counter
from connectors.dlms.data import Datum, Malformed
from connectors.dlms.requests import Asked
from connectors.link import LinkError
from connectors.wire_log import QUIET
from ems.dlms import Dlms
from tests.contract.fake_meter import CLIENT, SERVER, FakeMeter, _Client, obis
from tests.contract.test_dlms_adversary import filled, random_spoil, secured

ASKED = [
    *(Asked(3, obis(code), n) for code in ("1-0:16.7.0", "1-0:1.8.0", "1-0:14.7.0") for n in (3, 2)),
    Asked(1, obis("0-0:96.1.0"), 2), Asked(8, obis("0-0:1.0.0"), 2), Asked(1, obis("0-0:96.9.9"), 2),
]  # fmt: skip


class Wire(wire.Session):
    """A session whose meter is in this process; what it answers goes through the framing, spoilt or not."""

    def __init__(self, meter: FakeMeter) -> None:
        super().__init__(client=CLIENT, server=SERVER)
        self.broken, self._client_of, self._spoil = "", _Client(meter), meter
        self._replies: list[bytes] = []

    async def exchange(self, apdu: bytes, until_s: float) -> bytes:
        if self.broken:
            raise LinkError(self.broken)
        answer = self._client_of.answer(apdu) or b""
        head = struct.pack(">HHHH", 1, SERVER, CLIENT, len(answer))
        self._replies, self._buffer[:] = [], b""
        self._spoil.frames += 1
        self.data_received(self._spoil.spoil_frame(head + answer))
        if not self._replies:
            self.drop("no whole answer in time")
        if self.broken:
            raise LinkError(self.broken)
        return self._replies[0]

    def _take(self, apdu: bytes) -> None:
        if apdu[0] in NOTIFICATIONS:
            return
        if self._replies:
            raise LinkError("an answer to nothing that was asked")
        self._replies.append(apdu)


class InMemory(Counter):
    """Numbers without a disk to wait for; the file has tests of its own."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._next, self._end = 1, 2**31

    def give_back(self) -> None:
        pass


class Bench:
    def __init__(self, folder: Path, way: str) -> None:
        settings = secured(folder)
        self.meter = filled()
        self.meter.authentication = way
        self.counter = InMemory()
        self.settings = Dlms(client=CLIENT, **(settings if way == "gmac" else {})).located(folder)

    async def associated(self) -> Association:
        """One that stands; the AARE may be spoilt, too."""
        self.meter.busy = 0
        made = Association(self.settings, timeout_s=1.0, tap=QUIET)
        made.session = Wire(self.meter)
        if made._cipher is not None:
            made._counter = made._cipher._counter = self.counter
        await made._associate()
        made._stands = True
        return made

    async def right(self) -> list[Result]:
        made = await self.associated()
        return await made.get(ASKED, merged=True)


async def survive(folder: Path, way: str, seed: int, count: int) -> tuple[int, int]:
    """Spoil so many answers: how many were refused, and how many taken."""
    bench, rng = Bench(folder, way), random.Random(seed)
    spoil, right = random_spoil(rng), await bench.right()
    # The last one of each is not on the way of an answer to GET: that one comes as it is.
    hooks = (
        ("spoil_frame", "spoil_ciphered", "spoil_action")
        if way == "gmac"
        else ("spoil_frame", "spoil", "spoil_block", "spoil_action")
    )
    refused = taken = bench.meter.frames = 0
    made: Association | None = None
    while bench.meter.frames < count:
        hook = rng.choice((*hooks, "spoil_aare"))
        bench.meter.block = rng.choice((0, 0, 9, 40))
        try:
            if made is None or made.session.broken or hook == "spoil_aare":
                if hook == "spoil_aare":
                    setattr(bench.meter, hook, spoil)
                made = await bench.associated()
            setattr(bench.meter, hook, spoil)
            told = await made.get(ASKED, merged=rng.random() < 0.7)
            assert len(told) == len(ASKED)
            assert all(isinstance(t, Datum | Denied) for t in told)
            if way == "gmac":
                assert all(t == r or isinstance(t, Denied) for t, r in zip(told, right, strict=True))
            taken += 1
        except ListRefused:
            refused += 1
        except (LinkError, Malformed):
            refused += 1
            made = None
        finally:
            setattr(bench.meter, hook, bytes)
    return refused, taken


@pytest.mark.parametrize("way", ["none", "gmac"])
async def test_spoilt_answers_are_refused_or_what_was_told(tmp_path, way):
    refused, taken = await survive(tmp_path, way, 62056, 1500)
    assert min(refused, taken) > 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("way", "seed"), list(itertools.product(["none", "gmac"], range(10))))
async def test_spoilt_answers_soak(tmp_path, way, seed):
    refused, taken = await survive(tmp_path, way, seed, 50_000)
    assert min(refused, taken) > 100
