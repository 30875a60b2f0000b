"""Site keys of DLMS connections and rows of their maps; the example of docs/dlms.md."""

import re
from pathlib import Path

import pytest

from cli.check import _of_meter
from connectors.dlms.package import VERSION, dlms_problems, package_fault
from connectors.stores.permit import _plain
from ems.dlms import Dlms, Place, parse_place, unit_factor
from ems.errors import BadValue, ConfigError
from ems.points import METER_POINTS, AssetKind
from ems.site import Connection, Protocol
from ems.site_schema import load_devices
from tests.builders import site

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "dlms.md").read_text(), re.DOTALL)
ROW = '{address: "1-0:1.7.0*255", type: number, range: [0, 1], age_s_max: 15}'
GMAC = (
    "{authentication: gmac, system_title: 454D530000000001, encryption_key_file: e, "
    "authentication_key_file: a, counter_file: c}"
)


def devices(folder: Path, connections: str, rows: str) -> tuple[Connection, ...]:
    (folder / "maps").mkdir(exist_ok=True)
    text = (ROOT / "sites" / "demo" / "site.yaml").read_text()
    head = text[: text.index("\nconnections:")]
    (folder / "site.yaml").write_text(f"{head}\n{connections}")
    (folder / "maps" / "revenue_meter.yaml").write_text(rows)
    return load_devices(folder / "site.yaml").connections


def told(folder: Path, settings: str) -> Connection:
    block = re.sub(r"dlms: \{.*\}", f"dlms: {settings}", BLOCKS[0])
    (one,) = devices(folder, block, BLOCKS[1])
    return one


def test_docs_example_is_what_a_site_file_may_say(tmp_path):
    (one,) = devices(tmp_path, BLOCKS[0], BLOCKS[1])
    assert (one.protocol, one.port) == (Protocol.DLMS, 4059)
    assert one.dlms == Dlms(client=32, authentication="low", password_file="secrets/revenue_meter")
    rows = {p.point: p for p in one.points}
    assert rows["grid1.import_kwh"].high == 1e8
    assert rows["grid1.p_kw"].scale == 1.0
    assert not any(p.writable for p in one.points)


def test_settings_left_out_it_is_the_public_client(tmp_path):
    (one,) = devices(tmp_path, re.sub(r"    dlms: .*\n", "", BLOCKS[0]), BLOCKS[1])
    assert one.dlms == Dlms()
    assert (one.dlms.client, one.dlms.server, one.dlms.authentication) == (16, 1, "none")


def test_gmac_files_are_relative_to_the_site_file(tmp_path):
    settings = told(tmp_path, GMAC).dlms
    assert settings is not None
    whole = settings.located(Path("/srv/site"))
    assert (whole.encryption_key_file, whole.counter_file) == ("/srv/site/e", "/srv/site/c")
    assert whole.password_file is None


@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        ("{client: 0}", "client", ""),
        ("{server: 65536}", "server", ""),
        ("{authentication: high}", "authentication", "gmac"),
        ("{authentication: low}", "authentication", "one of password_env and password_file"),
        ("{authentication: low, password_file: p, password_env: P}", "authentication", "one of"),
        ("{password_file: p}", "password_file", "nothing with authentication: none"),
        ("{authentication: gmac}", "counter_file", "a value with authentication: gmac"),
        (GMAC.replace("454D530000000001", "454D53"), "system_title", "16 hexadecimal digits"),
        (GMAC.replace("counter_file", "password_file: p, counter_file"), "password_file", "nothing with"),
        ("{clock: 1-0}", "clock", "0-0:1.0.0*255"),
        ("{time_zone: Mars/Olympus}", "time_zone", "IANA"),
        ("{adress: 1}", "adress", ""),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(tmp_path, settings, key, why):
    with pytest.raises(ConfigError, match=rf"revenue_meter\.dlms\.{key}") as refused:
        told(tmp_path, settings)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("row", "key", "why"),
    [
        (ROW.replace("1-0:1.7.0*255", "1.7.0"), "address", "not A-B:C.D.E"),
        (ROW.replace("1-0:1.7.0*255", "1-0:1.7.300"), "address", "allowed: 0 to 255"),
        (ROW.replace("*255", "*255 [class 7]"), "address", "class 7 attribute 2; read as numbers"),
        (ROW.replace("*255", "*255 [attribute 3]"), "address", "class 3 attribute 3"),
        (ROW.replace("*255", "*255 [bad 0x01]"), "address", "only classes 4 and 5 have a status"),
        (ROW.replace("*255", "*255 [class 3, class 4]"), "address", "class twice"),
        (ROW.replace("*255", "*255 [register]"), "address", "'register' in brackets"),
        (ROW.replace("number", "u32"), "type", "number"),
        (ROW.replace("number", "integer").replace("*255", " [class 5]"), "type", "number with a demand"),
        (ROW.replace("number", "number, bit: 0"), "bit", "only with integer types"),
        (ROW.replace("number", "number, writable: true"), "writable", "a meter is only read"),
        (ROW.replace("number", "number, table: node"), "table", "nothing with dlms"),
        (ROW.replace("number", "number, unit: V"), "unit", "not of active power"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(tmp_path, row, key, why):
    rows = f"device: one\nprotocol: dlms\npoints:\n  p_kw: {row}\n"
    with pytest.raises(ConfigError, match=rf"points\.p_kw\.{key}") as refused:
        devices(tmp_path, BLOCKS[0], rows)
    assert why in str(refused.value)


def test_identity_with_a_status_or_a_length_is_refused(tmp_path):
    head = "device: one\nprotocol: dlms\nidentity:\n  serial: {address: "
    tail = f"}}\npoints:\n  p_kw: {ROW}\n"
    with pytest.raises(ConfigError, match="a text has no status"):
        devices(tmp_path, BLOCKS[0], f'{head}"0-0:96.1.0 [class 4, bad 0x1]"{tail}')
    with pytest.raises(ConfigError, match=r"identity\.serial\.length"):
        devices(tmp_path, BLOCKS[0], f'{head}"0-0:96.1.0", length: 4{tail}')
    with pytest.raises(ConfigError, match="an OBIS code, such as 0-0:96"):
        devices(tmp_path, BLOCKS[0], f"{head}12{tail}")


def test_two_connections_with_one_counter_are_refused(tmp_path):
    first = re.sub(r"dlms: \{.*\}", f"dlms: {GMAC}", BLOCKS[0])
    second = first[first.index("  revenue_meter") :].replace("revenue_meter:", "check_meter:")
    second = second.replace("2.61", "2.62").replace("asset: grid1", "asset: essential")
    with pytest.raises(ConfigError, match=r"check_meter\.dlms\.counter_file"):
        devices(tmp_path, first + second, f"device: one\nprotocol: dlms\npoints:\n  p_kw: {ROW}\n")


def test_keys_of_dlms_belong_to_dlms_alone(tmp_path):
    with pytest.raises(ConfigError, match="no dlms with iec61850"):
        devices(
            tmp_path,
            BLOCKS[0].replace("protocol: dlms", "protocol: iec61850"),
            BLOCKS[1].replace("protocol: dlms", "protocol: iec61850"),
        )
    with pytest.raises(ConfigError, match="left out with dlms"):
        devices(
            tmp_path, BLOCKS[0].replace("    asset", "    watchdog_point: grid1.p_kw\n    asset"), BLOCKS[1]
        )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1-0:1.7.0*255", Place(3, bytes([1, 0, 1, 7, 0, 255]))),
        (" 1-0:1.7.0 ", Place(3, bytes([1, 0, 1, 7, 0, 255]))),
        ("1-1:1.8.0*101 [class 4, bad 0x0F]", Place(4, bytes([1, 1, 1, 8, 0, 101]), 2, 15)),
        ("1-0:1.4.0[class 5, attribute 3]", Place(5, bytes([1, 0, 1, 4, 0, 255]), 3)),
    ],
)
def test_places_are_read_as_they_are_written(text, place):
    assert parse_place(text) == place
    assert parse_place(str(place).partition(" ")[0]).obis == place.obis


@pytest.mark.parametrize(
    ("code", "wanted", "factor"),
    [(27, "kW", 1e-3), (30, "kWh", 1e-3), (32, "kvarh", 1e-3), (35, "pu", 1.0), (255, "", 1.0),
     (56, "", 0.01), (33, "A", 1.0), (44, "Hz", 1.0)],
)  # fmt: skip
def test_units_are_converted_to_those_of_the_point(code, wanted, factor):
    assert unit_factor(code, wanted) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("code", "wanted", "why"),
    [(35, "kW", "V is told, kW in the map"), (30, "kW", "Wh is told, kW in the map"),
     (255, "kW", "no unit is told, kW in the map"), (27, "", "W is told, no unit in the map"),
     (255, "pu", "no unit is told, pu in the map"), (99, "kW", "unit 99 is told, kW in the map")],
)  # fmt: skip
def test_unit_of_something_else_is_refused_with_both(code, wanted, why):
    with pytest.raises(BadValue) as refused:
        unit_factor(code, wanted)
    assert str(refused.value) == why


def test_meter_points_are_read_where_they_are_mapped_and_nowhere_else(tmp_path):
    assert not METER_POINTS & set(site().read_names()["grid1"])
    assert site().kind_of("grid1") is AssetKind.GRID


def test_connection_without_dlms_is_what_was_commissioned_before():
    (other, *_) = site().connections or (None,)
    assert other is None or "dlms" not in _plain(other)


def test_check_says_how_a_meter_is_known(tmp_path):
    plain, low, gmac = (told(tmp_path, s) for s in ("{}", "{authentication: low, password_env: P}", GMAC))
    assert "can show us false values" in _of_meter(plain, local=False)
    assert "read the password" in _of_meter(low, local=False)
    assert _of_meter(low, local=True) == ""
    assert "encrypted" in _of_meter(gmac, local=False)


def test_another_release_of_the_library_is_refused(tmp_path, monkeypatch):
    assert package_fault() == ""
    monkeypatch.setattr("connectors.dlms.package.metadata.version", lambda _: "25.1.0")
    assert f"only with dlms-cosem {VERSION}" in package_fault()
    one = told(tmp_path, "{}")
    (problem,) = dlms_problems(type(load_devices(tmp_path / "site.yaml"))(connections=(one,)))
    assert problem.key == "connections.revenue_meter.protocol"
