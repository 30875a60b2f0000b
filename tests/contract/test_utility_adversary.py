"""Spoilt documents of a utility's server: no crash, and no bound but one that stands in a sound document.

What is believed is held against a reading of its own (lxml, by local names): each bound that comes out must
stand in the document as it came, for the mode that it is told for. The documents are those of Envoy's models.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from lxml import etree

from connectors.ieee2030_5.documents import BadDocument, Documents
from connectors.ieee2030_5.events import Book
from connectors.ieee2030_5.reading import Reader
from connectors.ieee2030_5.told import Ask, Told
from connectors.ieee2030_5.walk import AHEAD_S_MAX, Places, Walk
from connectors.utility.asker import NoAnswer
from connectors.utility.bound import KW_MAX
from ems.clock import SystemClock
from tests.contract.spoilt import document, number_between
from tests.contract.utility_peer import EXPORT, IMPORT, Pki, params
from tests.contract.utility_server import PIN, Event, Program, watts

SAMPLE, SOAK = 1500, 1_000_000
PATHS = ("/tm", "/derp", "/derp/site/dderc", "/derp/site/derc")
WAY = ("/dcap", "/edev", "/edev/1/rg", "/edev/1/fsa")  # to our programs
PLACES = Places(time="/tm", device="/edev/1", programs=("/derp",), ders="", mirror="", every_s=900.0)
NUMBERS = (
    b"-1", b"0", b"1e3", b"NaN", b"INF", b"+5", b"32768", b"-32769", b"4294967296", b"9" * 30, b"", b" 7 ",
    b"0x10", b"1.5", b"\xd9\xa3", b"1_0", b"true", b"99999999999",
)  # fmt: skip
PIECES = (
    b"<!DOCTYPE a>", b"<?x y?>", b"<!-- c -->", b"&lol;", b"&#0;", b"<a>" * 40, b"</DERControl>", b"]]>",
    b"\x00", b"<DERControl/>", b'<e xmlns="urn:x"/>', b"<![CDATA[9]]>", b"\xff", b"xmlns:c='urn:c'",
)  # fmt: skip


def sound(pki: Pki) -> dict[str, bytes]:
    """What a server tells when nobody spoils it."""
    server = pki.serves()
    now_s = server.now_s()
    events = [
        Event(f"{i:02X}" * 16, now_s + 300 * (i - 1), 300, {mode: watts(100 + i, 2)}, random_duration_s=i)
        for i, mode in enumerate((EXPORT, IMPORT, EXPORT))
    ]
    events[1].base |= {"opModConnect": True}
    server.programs["site"] = Program(
        primacy=1, default={EXPORT: watts(5000), IMPORT: watts(2, 4)}, events=events
    )
    paths = (*PATHS, *WAY)
    return {p: server.document(p, 0, 100).to_xml(skip_empty=True, exclude_none=True) for p in paths}


def _elements(random: Random, out: bytearray) -> None:
    """One tag in the place of another, as often as it may be."""
    names = [
        b"value",
        b"multiplier",
        b"duration",
        b"start",
        b"primacy",
        b"mRID",
        b"opModExpLimW",
        b"interval",
    ]
    old, new = random.sample(names, 2)
    out[:] = out.replace(b"<" + old, b"<" + new) if random.random() < 0.5 else out.replace(old, new)


_number = number_between(b">", b"<", NUMBERS)
OWN = (_number, _number, _elements)
PARSER = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)


def sound_root(raw: bytes) -> Any:
    """The root of a sound document; read by nothing of ours."""
    try:
        return etree.fromstring(raw, PARSER)
    except etree.XMLSyntaxError:  # it holds names of name spaces to be addresses, which nobody else does
        return ElementTree.fromstring(raw)


def standing_texts(raw: bytes, name: str) -> list[str]:
    """What stands in the elements of a name, in capitals."""
    return [(e.text or "").strip().upper() for e in sound_root(raw).iter() if local(e) == name]


def standing(raw: bytes) -> dict[str, set[float]]:
    """Bounds [kW] that stand in a sound document, by mode."""
    root = sound_root(raw)
    found: dict[str, set[float]] = {}
    for base in root.iter():
        if local(base) != "DERControlBase":
            continue
        for mode in base:
            parts = {local(p): (p.text or "").strip() for p in mode}
            if parts.keys() >= {"multiplier", "value"}:
                with contextlib.suppress(ValueError, OverflowError):  # no number, or none of a plant
                    kw = int(parts["value"]) * 10.0 ** (int(parts["multiplier"]) - 3)
                    found.setdefault(local(mode), set()).add(kw)
    return found


def local(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


class Adversary:
    """Serves sound documents but for one, and holds what is believed against it."""

    def __init__(self, pki: Pki, seed: int) -> None:
        self.random, self.documents = Random(seed), sound(pki)
        self.served = dict(self.documents)
        server = params(SimpleNamespace(port=443), pki.own, pki.authority.file)  # type: ignore[arg-type]
        models = Documents()
        reader = Reader(server, models.modes, 1000.0)
        transport: Any = SimpleNamespace(get=self.get)
        self.walk = Walk(server, transport, models, reader, lfdi=pki.identity.lfdi, now=SystemClock().now)
        self.book, self.lfdi = Book(self.random), pki.identity.lfdi
        self.believed = self.refused = 0

    async def get(self, path: str) -> bytes:
        found = self.served.get(path.partition("?")[0])
        if found is None:
            raise NoAnswer(f"GET {path}: it answers 404", 404)
        return found

    async def once(self) -> None:
        if self.random.random() < 0.2:
            await self.on_the_way()
            return
        path = self.random.choice(PATHS)
        raw = document(self.random, self.documents[path], PIECES, OWN)
        self.served = {**self.documents, path: raw}
        try:
            told = await self.walk.told(PLACES)
        except (BadDocument, NoAnswer):
            self.refused += 1
            return
        self.believed += 1
        self.check(told, path, raw)

    async def on_the_way(self) -> None:
        """What leads to our programs is spoilt: it leads to a device of ours on this server, or nowhere."""
        path = self.random.choice(WAY)
        raw = document(self.random, self.documents[path], PIECES, OWN)
        self.served = {**self.documents, path: raw}
        try:
            places = await self.walk.places()
        except (BadDocument, NoAnswer):
            self.refused += 1
            return
        self.believed += 1
        assert all(p.startswith("/") for p in (places.time, *places.programs)), (path, raw)
        assert self.lfdi in standing_texts(self.served["/edev"], "lFDI"), (path, raw)
        assert str(PIN) in [t.lstrip("+0") for t in standing_texts(self.served["/edev/1/rg"], "pIN")], raw

    def check(self, told: Told, path: str, raw: bytes) -> None:
        assert abs(told.ahead_s) <= AHEAD_S_MAX, (path, raw)
        for program in told.programs:
            self._stands(program.default, "/derp/site/dderc")
            for control in program.controls:
                self._stands(control.ask, "/derp/site/derc")
        now_s = time.time() + told.ahead_s
        self.book.take(told, now_s)
        for mode in (EXPORT, IMPORT):
            bound = self.book.bound(mode, None, now_s)
            assert bound is None or (math.isfinite(bound.kw) and 0.0 <= bound.kw <= KW_MAX), (path, raw)
            if self.random.random() < 0.1:
                ahead = self.book.ahead(mode, None, now_s)
                assert all(0.0 <= a.kw <= KW_MAX and now_s <= a.start_s < a.end_s for a in ahead), raw

    def _stands(self, ask: Ask | None, path: str) -> None:
        """Every bound that came out stands in the document, for its mode."""
        if ask is None or not ask.bounds_kw:
            return
        found = standing(self.served[path])
        for mode, kw in ask.bounds_kw.items():
            near = any(math.isclose(kw, x, rel_tol=1e-12) for x in found.get(mode, ()))
            assert near, (mode, kw, found, self.served[path])


def run(pki: Pki, seed: int, count: int, every: Callable[[int], None] = lambda i: None) -> Adversary:
    one = Adversary(pki, seed)

    async def work() -> None:
        for i in range(count):
            await one.once()
            every(i)
            if i % 500 == 0:
                one.book = Book(one.random)

    asyncio.run(work())
    return one


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def test_spoilt_documents_are_refused_or_say_what_stands_in_them(pki):
    one = run(pki, 20305, SAMPLE)
    assert one.refused > SAMPLE / 2
    assert one.believed > SAMPLE / 100


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_spoilt_documents(pki):
    began_s, cpu_s = time.monotonic(), time.process_time()

    def every(i: int) -> None:
        if i and i % 50_000 == 0:
            print(f"{i}: {i / (time.monotonic() - began_s):.0f} documents a second", flush=True)

    one = run(pki, 2030, SOAK, every)
    spent_s = time.process_time() - cpu_s
    print(f"{SOAK} documents, {one.believed} believed, {SOAK / spent_s:.0f} a second of CPU")
    assert one.refused > SOAK / 2
