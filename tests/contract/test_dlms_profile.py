"""Load profiles of a meter, through `ems import`: whole intervals by their own times, once, or none."""

import asyncio
import struct
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio

from cli.importing import _sources, _told
from cli.main import main
from connectors.dlms import profile as load
from connectors.imports import meter_rows
from connectors.imports.meter_rows import grouped, meaning_of
from connectors.imports.store import ImportedHistory, ImportStore
from ems.clock import SystemClock
from ems.dlms import parse_terms
from ems.errors import BadValue, ConfigError
from ems.records import Sample
from ems.site import Site
from ems.site_schema import load_site
from ems.site_schema.import_mapping import load_import_mapping
from tests.contract.fake_meter import (
    WH,
    FakeMeter,
    Place,
    W,
    array,
    moment,
    obis,
    octets,
    structure,
    time_of,
    u8,
    u16,
    u32,
)  # fmt: skip

DEMO = Path(__file__).parents[2] / "sites" / "demo"
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
STEP = timedelta(minutes=15)
COUNT = 96
CLOCK, STATUS = (8, obis("0-0:1.0.0"), 2), (1, obis("0-0:96.10.1"), 2)
IMPORT, EXPORT, TOTAL, MEAN = "1-0:1.29.0", "1-0:2.29.0", "1-0:1.8.0", "1-0:1.5.0"
COLUMNS = (CLOCK, STATUS, *((3, obis(c), 2) for c in (IMPORT, EXPORT, TOTAL, MEAN)))
NET = f"{IMPORT} - {EXPORT}"
MAPPING = """
source: revenue_meter
shape: dlms
meter: {{host: 127.0.0.1, port: {port}, timeout_s: 1, dlms: {{client: 32}}{more}}}
points:
  "{tag}": {{point: {point}}}
"""
ZONE = timedelta(hours=-4)  # of the demonstration's plant, in March before the change of time: see `days`


def captured(i: int) -> tuple[int, int, int, int]:
    """Wh imported and exported in interval i, Wh of the counter at its end, W on average."""
    return 10 * i, (i % 4) * 5, 5 * i * (i + 1), 40 * i


class Profile:
    """Rows of a meter, told by range or by entry as it is asked."""

    def __init__(self, meter: FakeMeter) -> None:
        self.rows: list[tuple[datetime, bytes]] = [self.row(i) for i in range(-8, COUNT + 8)]
        self.asked: list[tuple[datetime, datetime]] = []
        self.spoil: Callable[[bytes], bytes] = bytes
        meter.profile = self.told
        code = obis("1-0:99.1.0")
        meter.objects[7, code, 3] = array(
            *(structure(u16(c), octets(o), b"\x0f" + bytes([a]), u16(0)) for c, o, a in COLUMNS)
        )
        meter.objects[7, code, 4] = u32(900)
        meter.objects[7, code, 7] = u32(len(self.rows))
        for column, unit in ((IMPORT, WH), (EXPORT, WH), (TOTAL, WH), (MEAN, W)):
            meter.register(column, u32(0), 0, unit)
        self.set_clock(meter)

    @staticmethod
    def set_clock(meter: FakeMeter, ahead_s: float = 0.0, status: int = 0) -> None:
        now = SystemClock().now() + timedelta(seconds=ahead_s)
        meter.objects[CLOCK] = octets(moment(now, -120, status))

    @staticmethod
    def row(
        i: int, status: int = 0, time: bytes | None = None, at: datetime | None = None
    ) -> tuple[datetime, bytes]:
        """What is captured at the end of interval i; the meter keeps its own local time."""
        at = START + (i + 1) * STEP if at is None else at
        told = octets(moment(at, -120)) if time is None else time
        return at, structure(told, u8(status), *(u32(v) for v in captured(max(i, 0))))

    def told(self, place: Place, selection: bytes) -> bytes:
        if selection[0] == 2:
            first, last = struct.unpack_from(">I", selection, 4)[0], struct.unpack_from(">I", selection, 9)[0]
            return self.spoil(array(*(row for _, row in self.rows[first - 1 : last])))
        times = [time_of(selection[at : at + 12]) for at in (23, 37)]
        self.asked.append((times[0], times[1]))
        return self.spoil(array(*(row for at, row in self.rows if times[0] <= at <= times[1])))


@pytest_asyncio.fixture
async def meter() -> AsyncIterator[FakeMeter]:
    meter = FakeMeter()
    await meter.start()
    yield meter
    await meter.stop()
    assert not meter.unknown


@cache
def demo() -> Site:
    return load_site(DEMO / "site.yaml")


class Importing:
    def __init__(self, meter: FakeMeter, folder: Path) -> None:
        self.meter, self.folder = meter, folder
        (folder / "run").mkdir()
        self.profile = Profile(meter)

    def mapping(self, tag: str = NET, point: str = "grid1.p_kw", more: str = "") -> Path:
        file, more = self.folder / "meter.yaml", f", {more}" if more else ""
        file.write_text(MAPPING.format(port=self.meter.port, more=more, tag=tag, point=point))
        return file

    async def run(
        self,
        tag: str = NET,
        point: str = "grid1.p_kw",
        more: str = "",
        days: tuple[str, str] = ("2026-03-01", "2026-03-04"),
    ) -> tuple[int, str]:
        """What the command does, with a site that is read once for all tests."""
        file, site = self.mapping(tag, point, more), demo()
        args = Namespace(mapping=file, files=[], sqlite=None, postgresql=None, dir=self.folder / "run")
        args.start, args.to = (date.fromisoformat(d) for d in days)
        mapping = load_import_mapping(file, site)

        def take() -> str:
            with closing(ImportStore(args.dir)) as store:
                (rows,) = _sources(args, mapping, site)
                with closing(rows):
                    return "\n".join(_told(store.take(rows, mapping, START, by_content=False)))

        try:
            return 0, await asyncio.to_thread(take)
        except ConfigError as error:
            return 2, str(error)

    def samples(self, point: str = "grid1.p_kw") -> list[Sample]:
        with closing(ImportedHistory(self.folder / "run")) as imported:
            return list(imported.series(point, START - STEP * 9, START + timedelta(days=3), 100_000))


@pytest.fixture
def importing(meter: FakeMeter, tmp_path: Path) -> Importing:
    return Importing(meter, tmp_path)


def kw_of(samples: list[Sample]) -> dict[int, float | None]:
    """By number of the interval."""
    return {(s.at - START) // STEP: s.value if s.quality.value == "good" else None for s in samples}


@pytest.mark.parametrize("by", ["range", "entry"])
@pytest.mark.parametrize("block", [0, 200])
async def test_every_interval_arrives_once_as_mean_power_by_its_beginning(importing, by, block):
    importing.meter.block = block
    code, told = await importing.run(more=f"by: {by}")
    assert code == 0, told
    found = kw_of(importing.samples())
    assert list(found) == list(range(-8, COUNT + 8))
    for i in range(COUNT):
        got_wh, gave_wh, _, _ = captured(i)
        assert found[i] == pytest.approx((got_wh - gave_wh) * 4 / 1000)
    again, told = await importing.run(more=f"by: {by}")
    assert (again, "0 values added, 112 were there" in told) == (0, True), told
    assert importing.meter.released == importing.meter.associations
    if by == "range":
        assert all(end - start <= timedelta(days=1) for start, end in importing.profile.asked)


async def test_counter_gives_differences_and_its_own_stand(importing):
    code, told = await importing.run(tag=TOTAL)
    assert code == 0, told
    found = kw_of(importing.samples())
    for i in range(1, COUNT):
        assert found[i] == pytest.approx(captured(i)[0] * 4 / 1000)
    assert found[-8] is None, "nothing is known before the first row"
    await importing.run(tag=TOTAL, point="grid1.import_kwh")
    stands = importing.samples("grid1.import_kwh")
    assert stands[8].at == START + STEP, "a stand is of the moment it was captured"
    assert stands[20].value == pytest.approx(captured(12)[2] / 1000)


async def test_average_power_is_of_the_interval_before_its_time(importing):
    code, told = await importing.run(tag=MEAN)
    assert code == 0, told
    assert kw_of(importing.samples())[10] == pytest.approx(captured(10)[3] / 1000)


async def test_rows_that_are_bad_twice_cut_or_missing_are_no_values(importing):
    rows = importing.profile.rows
    rows[18] = Profile.row(10, status=0x02)  # clock invalid
    rows[28] = Profile.row(20, status=0x88)  # power was down, daylight saving: no matter
    del rows[38]  # interval 30 is missing
    at = START + 41 * STEP
    other = structure(octets(moment(at, -120)), u8(0), u32(7), u32(0), u32(1), u32(1))
    rows.insert(49, (at, other))  # interval 40 comes twice, and differently
    code, told = await importing.run()
    assert code == 0, told
    found = kw_of(importing.samples())
    assert (found[10], found[40]) == (None, None)
    assert found[20] is not None
    assert 30 not in found
    assert sum(v is None for v in found.values()) == 2


async def test_interval_in_parts_is_the_sum_of_them_and_no_average_or_difference_over_a_gap(importing):
    at = START + timedelta(minutes=15 * 5 + 7)
    part = structure(octets(moment(at, -120)), u8(0x80), u32(3), u32(0), u32(captured(4)[2] + 3), u32(99))
    importing.profile.rows.insert(13, (at, part))
    del importing.profile.rows[60]
    await importing.run(tag=IMPORT)
    assert kw_of(importing.samples())[5] == pytest.approx((captured(5)[0] + 3) * 4 / 1000)
    for tag in (MEAN, TOTAL):
        path = importing.folder / "run" / "imported.sqlite"
        path.unlink()
        await importing.run(tag=tag)
        found = kw_of(importing.samples())
        assert (found[5] is None) is (tag == MEAN)
        gap = next(i for i in range(COUNT) if i not in found)
        assert (found[gap + 1] is None) is (tag == TOTAL)


@pytest.mark.parametrize("year", [1, 1970, 9999])
async def test_row_of_no_believable_time_is_no_value(importing, year):
    importing.profile.rows[10] = (
        importing.profile.rows[10][0],
        structure(
            octets(moment(datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC), 0)),
            b"\x00",
            *(u32(v) for v in (1, 1, 1, 1)),
        ),
    )
    importing.profile.rows[11] = importing.profile.rows[11][0], structure(b"\x00", b"\x00", *[u32(1)] * 4)
    code, told = await importing.run()
    assert code == 0, told
    assert set(range(-8, COUNT + 8)) - set(kw_of(importing.samples())) == {2, 3}


async def test_counter_that_goes_back_gives_no_value(importing):
    rows = importing.profile.rows
    for n in range(60, len(rows)):
        at = rows[n][0]
        i = n - 8
        rows[n] = at, structure(octets(moment(at, -120)), u8(0), u32(0), u32(0), u32(i), u32(0))
    await importing.run(tag=TOTAL)
    found = kw_of(importing.samples())
    assert found[52] is None
    assert found[53] == pytest.approx(4 / 1000)


async def test_time_and_status_that_are_null_go_on_from_the_row_before(importing):
    rows = importing.profile.rows
    for n in range(len(rows)):
        if n % 96 not in (0, 7, 8):
            at = rows[n][0]
            values = (u32(v) for v in captured(max(n - 8, 0)))
            rows[n] = at, structure(b"\x00", b"\x00", *values)
    code, told = await importing.run(more="by: entry")
    assert code == 0, told
    assert kw_of(importing.samples())[50] == pytest.approx((captured(50)[0] - captured(50)[1]) * 4 / 1000)


async def test_connection_that_is_lost_is_made_again_and_the_rest_is_read(importing, monkeypatch):
    monkeypatch.setattr(meter_rows, "PAUSE_S", 0.01)
    calls = 0

    def spoil(data: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return data[:-1] if calls in (2, 3) else data

    importing.profile.spoil = spoil
    code, told = await importing.run()
    assert code == 0, told
    assert len(kw_of(importing.samples())) == COUNT + 16
    assert importing.meter.associations == 3
    importing.profile.spoil = lambda data: data[:-1]
    code, told = await importing.run(days=("2026-03-02", "2026-03-03"))
    assert (code, "meter: found" in told) == (2, True), told
    assert importing.meter.associations == 6


@pytest.mark.parametrize(
    ("change", "tag", "said"),
    [
        (lambda m, p: p.set_clock(m, 90.0), NET, "the clock of the meter is +90 s from ours, more than 60 s"),
        (lambda m, p: p.set_clock(m, status=1), NET, "does not believe its clock"),
        (lambda m, p: None, "1-0:9.29.0", "is not one of its columns; there are 0-0:1.0.0*255 [class 8"),
        (lambda m, p: m.register(IMPORT, u32(0), 0, W + 1), NET, "VA is told, kWh in the map"),
        (lambda m, p: m.objects.pop((3, obis(IMPORT), 3)), NET, "scaler and unit of 1-0:1.29.0"),
        (lambda m, p: m.objects.update({(7, obis("1-0:99.1.0"), 4): u32(0)}), NET, "a capture period of 0 s"),
        (lambda m, p: m.objects.update({(7, obis("1-0:99.1.0"), 3): array()}), NET, "no columns"),
        (
            lambda m, p: m.objects.pop((7, obis("1-0:99.1.0"), 3)),
            NET,
            "the columns of 1-0:99.1.0*255: object",
        ),
        (lambda m, p: setattr(m, "conformance", m.conformance & ~4), NET, "selective access was not agreed"),
        (lambda m, p: None, f"{IMPORT} - {TOTAL}", "of interval and difference are no difference"),
        (lambda m, p: setattr(m, "result", 1), NET, "refuses the association"),
    ],
)
async def test_profile_that_cannot_be_believed_is_refused_by_name(importing, monkeypatch, change, tag, said):
    monkeypatch.setattr(meter_rows, "PAUSE_S", 0.01)
    change(importing.meter, importing.profile)
    code, told = await importing.run(tag=tag)
    assert (code, said in " ".join(told.split())) == (2, True), told
    assert not importing.samples()


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        (('"1-0:1.29.0 - 1-0:2.29.0"', '"1.29.0"'), "columns of the profile"),
        (('"1-0:1.29.0 - 1-0:2.29.0"', '"0-0:96.10.1 [class 1]"'), "registers (classes 3, 4, 5)"),
        (('"1-0:1.29.0 - 1-0:2.29.0"', '"1-0:1.29.0 - 1-0:1.29.0"'), "a code less itself"),
        (("{point: grid1.p_kw}", "{point: grid1.p_kw, unit: W}"), "the meter says it"),
        (("dlms: {client: 32}", "dlms: {client: 32, authentication: low}"), "meter.dlms.authentication"),
        (("dlms: {client: 32}", "profile: x"), "meter.profile"),
        (("shape: dlms", "shape: dlms\ntag: x"), "nothing with shape: dlms"),
        (("shape: dlms", "shape: long"), "the meter, with shape: dlms and with no other"),
    ],
)
def test_mapping_of_a_meter_that_cannot_be_is_refused_by_name(tmp_path, swap, said):
    text = MAPPING.format(port=4059, more="", tag=NET, point="grid1.p_kw")
    assert swap[0] in text
    (tmp_path / "m.yaml").write_text(text.replace(*swap))
    with pytest.raises(ConfigError) as refused:
        load_import_mapping(tmp_path / "m.yaml", demo())
    assert said in " ".join(str(refused.value).split())


async def test_ems_import_reads_a_profile(importing, monkeypatch, capsys):
    """The command itself."""
    monkeypatch.setattr(meter_rows, "PAUSE_S", 0.01)
    asked = ["--mapping", str(importing.mapping()), "--dir", str(importing.folder / "run")]
    asked += ["--from", "2026-03-01", "--to", "2026-03-04"]
    assert await asyncio.to_thread(main, ["import", str(DEMO), *asked]) == 0
    assert "112 values added" in capsys.readouterr().out
    importing.meter.result = 1
    assert await asyncio.to_thread(main, ["import", str(DEMO), *asked]) == 2
    assert "refuses the association" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "unit", "wanted", "way"),
    [
        ("1-0:1.29.0", 30, "kW", "of interval"), ("1-0:1.8.0", 30, "kW", "difference"),
        ("1-0:1.5.0", 27, "kW", "average"), ("1-0:1.7.0", 27, "kW", "as it is"),
        ("1-0:1.8.0", 30, "kWh", "as it is"), ("1-0:3.29.0", 32, "kvar", "of interval"),
        ("1-0:14.7.0", 44, "Hz", "as it is"),
    ],
)  # fmt: skip
def test_columns_mean_what_their_code_and_unit_say(text, unit, wanted, way):
    (term,) = parse_terms(text)
    assert meaning_of(term, unit, wanted).way == way


@pytest.mark.parametrize(("text", "unit"), [("1-0:1.9.0", 30), ("1-0:32.7.0", 35), ("1-0:1.29.0", 255)])
def test_columns_that_are_no_power_are_refused(text, unit):
    (term,) = parse_terms(text)
    with pytest.raises(BadValue):
        meaning_of(term, unit, "kW")


def test_rows_belong_to_the_end_of_their_interval():
    rows = [load.Row(START + timedelta(minutes=m), 0, (1.0,)) for m in (0, 7, 15, 15, 22)]
    found = grouped(rows, 900)
    assert list(found) == [START, START + STEP]
    assert len(found[START + STEP].inside) == 1
    assert not found[START + STEP].twice
