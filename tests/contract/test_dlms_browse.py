"""What `ems browse --dlms` shows of a meter, and the family of three-phase meters, read from one."""

import asyncio
import re
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.browse import run as ems_browse
from cli.main import main
from connectors.dlms.browse import objects_of
from connectors.dlms.data import datum_of
from connectors.dlms.names import name_of
from connectors.field import FieldIO
from connectors.link import LinkError
from connectors.map_check import check_point_maps
from ems.clock import VirtualClock
from ems.errors import EmsError
from ems.points import POINTS, AssetKind
from ems.site_schema import load_devices
from ems.site_schema.families import family_text, read_family, shipped_folder
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.fake_meter import (
    HZ,
    NONE,
    PASSWORD,
    WH,
    A,
    FakeMeter,
    V,
    W,
    array,
    enum,
    f32,
    i32,
    moment,
    obis,
    octets,
    structure,
    u8,
    u16,
    u32,
    u64,
    visible,
)  # fmt: skip

ROOT = Path(__file__).parents[2]
FAMILY = shipped_folder() / "dlms_three_phase.yaml"
# point -> code, data, exponent and unit as a meter tells them, and what they mean
KNOWN = {
    "import_kwh": ("1-0:1.8.0", u64(987654321), 0, WH, 987654.321),
    "export_kwh": ("1-0:2.8.0", u32(12345), 2, WH, 1234.5),
    "p_kw": ("1-0:16.7.0", i32(-45678), 0, W, -45.678),
    "p_l1_kw": ("1-0:36.7.0", i32(-15000), 0, W, -15.0),
    "p_l2_kw": ("1-0:56.7.0", i32(-15678), 0, W, -15.678),
    "p_l3_kw": ("1-0:76.7.0", f32(-15.0), 3, W, -15.0),
    "v_pu": ("1-0:32.7.0", u16(2300), -1, V, 1.0),
    "v2_pu": ("1-0:52.7.0", u16(2415), -1, V, 1.05),
    "v3_pu": ("1-0:72.7.0", u16(2185), -1, V, 0.95),
    "i_l1_a": ("1-0:31.7.0", u32(65217), -3, A, 65.217),
    "i_l2_a": ("1-0:51.7.0", u32(68165), -3, A, 68.165),
    "i_l3_a": ("1-0:71.7.0", u32(65000), -3, A, 65.0),
    "f_hz": ("1-0:14.7.0", u16(5001), -2, HZ, 50.01),
    "pf": ("1-0:13.7.0", i32(-987), -3, NONE, -0.987),
}


def listed(meter: FakeMeter) -> None:
    """The list of objects that the meter shows, its association among them."""
    objects = {(class_id, code) for class_id, code, _ in meter.objects} | {(15, obis("0-0:40.0.0"))}
    rights = structure(array(), array())
    rows = [structure(u16(c), u8(0), octets(code), rights) for c, code in sorted(objects)]
    meter.objects[15, obis("0-0:40.0.0"), 2] = array(*rows)


@pytest_asyncio.fixture
async def meter() -> AsyncIterator[FakeMeter]:
    meter = FakeMeter()
    for code, data, exponent, unit, _ in KNOWN.values():
        meter.register(code, data, exponent, unit)
    meter.register("1-0:1.6.1", u32(8825), 1, W, class_id=4)
    meter.register("1-0:99.99.0", octets(b"x"), 0, NONE)
    meter.data("0-0:96.1.0", octets(b"4711"))
    meter.data("0-0:42.0.0", visible("MTR1234"))
    meter.data("0-0:96.3.10", enum(4))
    meter.data("0-0:97.97.0", array(u8(1)))
    meter.objects[3, obis("1-0:3.8.0"), 2] = 3
    meter.objects[3, obis("1-0:4.8.0"), 2] = u32(5)
    meter.objects[8, obis("0-0:1.0.0"), 2] = octets(moment(T0, -60))
    meter.objects[7, obis("1-0:99.1.0"), 4] = u32(900)
    meter.objects[7, obis("1-0:99.1.0"), 7] = u32(2976)
    meter.objects[64, obis("0-0:43.0.0"), 2] = u8(0)
    listed(meter)
    await meter.start()
    yield meter
    await meter.stop()
    assert not meter.unknown


async def browsed(capsys: pytest.CaptureFixture[str], port: int, **more: Any) -> tuple[int, list[str]]:
    plain: dict[str, Any] = {
        "host": f"127.0.0.1:{port}", "only": "", "timeout": 2.0, "dnp3": None, "master": 1, "bacnet": None,
        "network": None, "mac": "", "dlms": 32, "server": 1, "password_file": None,
    }  # fmt: skip
    code = await asyncio.to_thread(ems_browse, Namespace(**plain | more))
    return code, capsys.readouterr().out.splitlines()


async def test_ems_browse_lists_every_object_as_a_map_names_it(meter, capsys):
    meter.block = 100
    code, lines = await browsed(capsys, meter.port)
    assert code == 0
    shown = {" ".join(line.split()) for line in lines}
    assert len(shown) == len(KNOWN) + 12
    assert shown >= {
        "1-0:16.7.0*255 number -45678 W; active power import less export, now; register",
        "1-0:1.8.0*255 number 987654321 Wh; active energy import, since it was made; register",
        "1-0:32.7.0*255 number 230.0 V; voltage, L1, now; register",
        "1-0:71.7.0*255 number 65.000 A; current, L3, now; register",
        "1-0:13.7.0*255 number -0.987; power factor, now; register",
        "1-0:1.6.1*255 [class 4] number 88250 W; active power import, maximum, tariff 1; extended register",
        "1-0:99.99.0*255 an octet-string is told; register",
        "1-0:3.8.0*255 reading is denied (3); reactive energy import, since it was made; register",
        "1-0:4.8.0*255 5, scaler and unit are not told: object undefined (4); reactive energy export, "
        "since it was made; register",
        "0-0:96.1.0*255 [class 1] 4711; device number; data",
        "0-0:42.0.0*255 [class 1] MTR1234; logical device name; data",
        "0-0:96.3.10*255 [class 1] integer 4; data",
        "0-0:97.97.0*255 [class 1] an array; data",
        "0-0:1.0.0*255 [class 8] 2026-03-02 00:00:00 UTC; clock; clock",
        "1-0:99.1.0*255 [class 7] every 900 s, 2976 rows; load profile 1; profile",
        "0-0:43.0.0*255 [class 64] security",
        "0-0:40.0.0*255 [class 15] this association; association",
    }
    assert [line.split()[0] for line in lines] == sorted(
        (line.split()[0] for line in lines), key=lambda text: obis(text)
    )
    assert (meter.released, meter.busy) == (1, 0)
    code, lines = await browsed(capsys, meter.port, only="voltage")
    assert (code, len(lines)) == (0, 3)
    assert (await browsed(capsys, meter.port, only="99.98"))[0] == 1


async def test_ems_browse_one_by_one_and_with_a_password(meter, capsys, tmp_path):
    meter.lists, meter.authentication = "exception", "low"
    file = tmp_path / "p"
    file.write_bytes(PASSWORD)
    file.chmod(0o600)
    code, lines = await browsed(capsys, meter.port, password_file=str(file))
    assert code == 0
    assert any("230.0 V" in line for line in lines)
    with pytest.raises(EmsError, match="refuses the association"):
        await browsed(capsys, meter.port)


async def test_ems_browse_says_why_there_is_no_list(meter, capsys):
    meter.objects[15, obis("0-0:40.0.0"), 2] = 3
    with pytest.raises(EmsError, match="its list of objects is not told: reading is denied"):
        await browsed(capsys, meter.port)
    meter.mode = "silent"
    with pytest.raises(EmsError, match="no whole answer in time"):
        await browsed(capsys, meter.port, timeout=0.2)
    await meter.stop()
    with pytest.raises(EmsError, match="cannot connect"):
        await browsed(capsys, meter.port, timeout=0.2)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"dlms": 0}, "--dlms: found 0; allowed: 1 to 65535"),
        ({"server": 65536}, "--server: found 65536"),
        ({"dnp3": 1}, "--dlms: found with --dnp3"),
        ({"timeout": 0.0}, "--timeout"),
    ],
)
async def test_ems_browse_says_what_is_wrong_with_its_arguments(capsys, more, why):
    with pytest.raises(EmsError) as refused:
        await browsed(capsys, 1, **more)
    assert why in str(refused.value)


@pytest.mark.parametrize("data", [u8(1), array(u8(1)), array(structure(u16(3), u8(0), octets(b"1"), u8(0)))])
def test_list_of_objects_that_is_none_is_refused(data):
    with pytest.raises(LinkError):
        objects_of(datum_of(data))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("1-0:1.8.2", "active energy import, since it was made, tariff 2"),
        ("1-0:2.29.0", "active energy export, of each interval"),
        ("1-0:76.7.0", "active power import less export, L3, now"),
        ("1-0:0.4.2", "current transformer, numerator"),
        ("1-0:0.4.7", "ratio or constant"), ("0-0:43.1.3", "invocation counter"),
        ("6-0:1.0.0", ""), ("1-0:91.7.0", ""),
    ],
)  # fmt: skip
def test_codes_have_the_names_of_the_standard(code, name):
    assert name_of(obis(code)) == name


async def test_ems_read_shows_the_example_of_the_page(meter, tmp_path, capsys):
    """The site file and the map of docs/dlms.md, with a password, as somebody types them."""
    page = (ROOT / "docs" / "dlms.md").read_text()
    site, rows = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[:2]
    site = site.replace("host: 192.0.2.61", f"host: 127.0.0.1\n    port: {meter.port}")
    demo = (ROOT / "sites" / "demo" / "site.yaml").read_text()
    (tmp_path / "site.yaml").write_text(demo[: demo.index("\nconnections:")] + "\n" + site)
    for folder in ("maps", "secrets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "maps" / "revenue_meter.yaml").write_text(rows)
    secret = tmp_path / "secrets" / "revenue_meter"
    secret.write_bytes(PASSWORD)
    secret.chmod(0o600)
    meter.authentication = "low"
    meter.data("0-0:96.3.1", u8(1))
    arguments = ["read", str(tmp_path), "revenue_meter", "--wait", "3"]
    assert await asyncio.to_thread(main, arguments) == 0
    told = capsys.readouterr().out
    assert f"revenue_meter: dlms 127.0.0.1:{meter.port} client 32 server 1" in told
    assert "identity serial: 4711" in told
    assert re.search(r"grid1.p_kw +-45.678 kW", told)
    assert re.search(r"grid1.import_kwh +987654 kWh", told)
    meter.register("1-0:16.7.0", i32(5), 0, V)
    assert await asyncio.to_thread(main, [*arguments[:-1], "0.2"]) == 1
    assert "V is told, kW in the map" in capsys.readouterr().out


def test_family_printed_and_read_again_is_the_same(tmp_path):
    document, form = read_family(FAMILY)
    assert form is not None, document.problems
    (tmp_path / FAMILY.name).write_text(family_text(form))
    assert read_family(tmp_path / FAMILY.name)[1] == form
    assert set(form.points) == set(KNOWN) <= {s.name for s in POINTS[AssetKind.GRID]}


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_family_reads_every_point_of_a_meter(meter, tmp_path, one_by_one):
    """With phases held, so that those of the POI are read too."""
    if one_by_one:
        meter.conformance &= ~(1 << 9)
    text = (ROOT / "sites" / "demo" / "site.yaml").read_text()
    head = text[: text.index("\nconnections:")]
    held = head.replace("  id: grid1\n", "  id: grid1\n  phases: {caps: total, i_a_max: 2 kA}\n", 1)
    (tmp_path / "site.yaml").write_text(f"""{held}
connections:
  meter:
    {{protocol: dlms, host: 127.0.0.1, port: {meter.port}, dlms: {{client: 32}}, poll_s: 1, timeout_s: 2,
     family: dlms_three_phase, settings: {{v_ln_v: 230 V, p_max_kw: 100 kW}}, asset: grid1}}
""")
    devices = load_devices(tmp_path / "site.yaml")
    (connection,) = devices.connections
    assert {p.point.partition(".")[2] for p in connection.points} == set(KNOWN)
    assert not check_point_maps([connection])
    io = FieldIO(devices, clock=VirtualClock(T0))
    try:
        readings = {r.point.partition(".")[2]: r for r in await io.read_all()}
        assert {n: r.value for n, r in readings.items()} == pytest.approx({n: k[4] for n, k in KNOWN.items()})
        assert {r.quality for r in readings.values()} == {Quality.GOOD}
        assert io.identities()["meter"] == {"serial": "4711"}
    finally:
        await io.close()
