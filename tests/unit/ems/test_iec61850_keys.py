"""Site keys of IEC 61850 connections and rows of their maps; the example of docs/iec61850.md."""

import re
from argparse import Namespace
from importlib import metadata
from pathlib import Path

import pytest

from cli.check import protection
from cli.check import run as check
from cli.main import main
from cli.runbook_wire import map_sections
from connectors.field import FieldIO
from connectors.map_check import check_point_maps
from connectors.stores.permit import _plain
from ems.clock import VirtualClock
from ems.errors import BadValue, ConfigError
from ems.iec61850_reference import parse_reference
from ems.site import Connection, Protocol, Site
from ems.site_schema import load_devices, load_site
from tests.builders import T0

ROOT = Path(__file__).parents[3]
BROKEN = Path(__file__).parent / "broken_sites"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "iec61850.md").read_text(), re.DOTALL)
POINT = '{address: "IED1LD0/MMXU1.TotW.mag.f [MX]", type: FLOAT32, range: [0, 1], age_s_max: 3}'
SET = '{address: "IED1LD0/GGIO1.SPCSO1 [CO]", type: BOOLEAN, range: [0, 1], age_s_max: 3, writable: true}'


def devices(folder: Path, connection: str, rows: str) -> Connection:
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "bess_iec61850.yaml").write_text(rows)
    (folder / "site.yaml").write_text(f"bess: {{bess1: {{}}}}\n{connection}")
    (one,) = load_devices(folder / "site.yaml", []).connections
    return one


def problem(folder: Path, point: str, name: str = "p_kw", more: str = "") -> str:
    rows = f"device: one\nprotocol: iec61850\npoints:\n  {name}: {point}\n"
    with pytest.raises(ConfigError) as caught:
        devices(folder, BLOCKS[0] + more, rows)
    return "\n".join(str(p) for p in caught.value.problems)


def test_example_of_the_page_is_a_device(tmp_path):
    one = devices(tmp_path, *BLOCKS)
    assert (one.protocol, one.port, one.originator, one.tls) == (
        Protocol.IEC_61850, 102, "automatic_station", None,
    )  # fmt: skip
    assert [p.table for p in one.points] == ["attribute"] * 4
    assert next(p for p in one.points if p.writable).scale == 0.001
    assert check_point_maps([one]) == []


def test_tls_has_a_port_of_its_own(tmp_path):
    one = devices(tmp_path, BLOCKS[0] + "    tls: {}\n    originator: remote\n", BLOCKS[1])
    assert (one.port, one.originator) == (3782, "remote")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("IED1LD0/MMXU1.TotW.mag.f", "no functional constraint in brackets"),
        ("IED1LD0/MMXU1.TotW.mag.f [XX]", "functional constraint XX; known: ST MX SP"),
        ("IED1LD0/MMXU1$MX$TotW$mag$f [MX]", "write LD/LN.DO.DA"),
        ("IED1LD0/MHAI1.HA.phsAHar(3).mag.f [MX]", "element of an array"),
        ("MMXU1.TotW [MX]", "not LD/LN.DO.DA"),
        ("IED1LD0/MMXU1 [MX]", "not LD/LN.DO.DA"),
        ("1LD/MMXU1.TotW [MX]", "not LD/LN.DO.DA"),
        (f"{'L' * 65}/MMXU1.TotW [MX]", "64 letters"),
    ],
)
def test_reference_that_is_none_says_why(tmp_path, address, why):
    with pytest.raises(BadValue, match=re.escape(why)):
        parse_reference(address)
    told = problem(tmp_path, POINT.replace("IED1LD0/MMXU1.TotW.mag.f [MX]", address))
    assert why in told
    assert "points.p_kw.address" in told


@pytest.mark.parametrize(
    ("name", "point", "key", "why"),
    [
        ("p_kw", POINT.replace("FLOAT32", "Float"), "type", "FLOAT32"),
        ("p_kw", POINT.replace('type:', 'table: node, type:'), "table", "nothing with iec61850"),
        ("p_kw", POINT.replace("[MX]", "[CO]"), "address", "only where the point is writable"),
        ("p_kw", re.sub('".*"', "7", POINT), "address", "a reference with its functional constraint"),
        ("p_set_kw", SET.replace("[CO]", "[MX]"), "address", "SP or CO where the point is writable"),
        ("p_set_kw", SET.replace("BOOLEAN", "Dbpos"), "type", "BOOLEAN"),
        ("p_kw", POINT.replace("type:", "value: /a, type:"), "value", "no value with iec61850"),
        ("p_kw", POINT.replace("FLOAT32", "Dbpos").replace("[0, 1]", "[5, 9]"), "sign", "raw 0 to 3"),
    ],
)  # fmt: skip
def test_row_that_cannot_be_is_refused_at_its_key(tmp_path, name, point, key, why):
    told = problem(tmp_path, point, name)
    assert f"points.{name}.{key}" in told
    assert why in told


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("    endpoint: /x\n", "endpoint"),
        ("    security: {policy: None}\n", "security"),
        ("    updates: subscribe\n", "updates"),
        ("    mqtt: {}\n", "mqtt"),
        ("    stamps_sampled: true\n", "stamps_sampled"),
        ("    serial: {device: /dev/ttyS0}\n", "serial"),
        ("    originator: nobody\n", "originator"),
        ("    subscription: {queue: 2}\n", "subscription"),
    ],
)
def test_keys_of_others_are_refused(tmp_path, more, key):
    assert f"connections.bess_controller.{key}" in problem(tmp_path, POINT, more=more)


REPORTS = "    reports: {blocks: [IED1LD0/LLN0.urcbMeas01 [RP]], integrity_s: 2}\n"


def test_blocks_with_a_buffer_ask_for_no_integrity_period(tmp_path):
    """Points are polled: nothing that is told keeps them fresh."""
    told = '    reports: {buffered: ["IED1LD0/LLN0.brcbEvents01 [BR]"], integrity_s: 60}\n'
    reports = devices(tmp_path, BLOCKS[0] + told, BLOCKS[1]).reports
    assert reports is not None
    assert (reports.blocks, reports.buffered) == ((), ("IED1LD0/LLN0.brcbEvents01 [BR]",))


def test_blocks_that_report_are_named_by_reference(tmp_path):
    told = REPORTS.replace("IED1LD0/LLN0.urcbMeas01 [RP]", '"IED1LD0/LLN0.urcbMeas01 [RP]"')
    reports = devices(tmp_path, BLOCKS[0] + told, BLOCKS[1]).reports
    assert reports is not None
    assert (reports.blocks, reports.integrity_s) == (("IED1LD0/LLN0.urcbMeas01 [RP]",), 2.0)
    assert "buffered" not in _plain(reports), "a key that came later: nobody has to commission anew"


@pytest.mark.parametrize(
    ("inside", "where", "why"),
    [
        ('blocks: ["IED1LD0/LLN0.brcbMeas01 [BR]"]', "reports.blocks", "LD/LN.block [RP]"),
        ('blocks: ["IED1LD0/LLN0.a.b [RP]"]', "reports.blocks", "LD/LN.block [RP]"),
        ('blocks: ["A/LLN0.a [RP]", "A/LLN0.a  [RP]"]', "reports.blocks", "each block once"),
        ("blocks: []", "reports.blocks", "in blocks or buffered"),
        ('blocks: ["A/LLN0.a [BR]"]', "reports.blocks", "is named in `buffered`"),
        ('buffered: ["A/LLN0.a [RP]"]', "reports.buffered", "is named in `blocks`"),
        ('buffered: ["A/LLN0.a [BR]", "A/LLN0.a  [BR]"]', "reports.buffered", "each block once"),
        ('blocks: ["A/LLN0.a [RP]"], integrity_s: 3', "points.p_kw.age_s_max", "more than integrity_s"),
    ],
)
def test_reports_that_cannot_be_are_refused(tmp_path, inside, where, why):
    told = problem(tmp_path, POINT, more=f"    reports: {{{inside}}}\n")
    assert where in told
    assert why in told


def test_reports_of_a_meter_come_before_it_is_taken_for_lost(whole):
    text = whole.read_text().replace(
        "host: 192.0.2.31\n", "host: 192.0.2.31\n    reports: {blocks: ['A/L.b [RP]'], integrity_s: 2.5}\n"
    )
    whole.write_text(text)
    with pytest.raises(ConfigError, match="would be taken for lost"):
        load_site(whole)


def test_two_points_of_one_attribute_are_refused(tmp_path):
    assert "attribute of 'bess1.p_kw' again" in problem(tmp_path, f"{POINT}\n  q_kvar: {POINT}")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('serial: {address: 7}', "address"),
        ('serial: {address: "A/B.C [CO]"}', "address"),
        ('model: {address: "A/B.C.d [DC]", type: u16}', "type"),
        ('model: {address: "A/B.C.d [DC]", length: 4}', "length"),
    ],
)  # fmt: skip
def test_identity_that_cannot_be_read_is_refused(tmp_path, line, key):
    told = problem(tmp_path, f"{POINT}\nidentity:\n  {line}")
    assert re.search(rf"identity\.(serial|model)\.{key}", told)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole site whose meter speaks IEC 61850."""
    text = (BROKEN / "good.yaml").read_text()
    before = "    protocol: opc_ua\n    host: 127.0.0.1\n    port: 48401\n    endpoint: /meter\n"
    assert text.count(before) == 1
    after = "    protocol: iec61850\n    host: 192.0.2.31\n"
    (tmp_path / "site.yaml").write_text(text.replace(before, after))
    (tmp_path / "maps").mkdir()
    for file in (BROKEN / "maps").glob("*.yaml"):
        rows = file.read_text()
        if file.name == "meter.yaml":
            rows = re.sub(r'nsu=urn:x;s=(\w+)", (.*writable)', r'IEDLD/GGIO1.\1 [CO]", \2', rows)
            rows = re.sub(r"nsu=urn:x;s=(\w+)", r"IEDLD/MMXU1.\1.mag [MX]", rows)
            for ours, theirs in (("Double", "FLOAT64"), ("Float", "FLOAT32"), ("Boolean", "BOOLEAN")):
                rows = rows.replace(f"type: {ours}", f"type: {theirs}")
            rows = rows.replace("protocol: opc_ua", "protocol: iec61850")
        (tmp_path / "maps" / file.name).write_text(rows)
    return tmp_path / "site.yaml"


def meter(site: Site) -> Connection:
    return next(c for c in site.connections if c.id == "meter")


def test_plain_mms_is_told_and_the_runbook_shows_how_it_is_written(whole, capsys):
    site = load_site(whole)
    assert "meter: PLAIN: whoever is on its network can read and operate 192.0.2.31:102" in "\n".join(
        protection(site)
    )
    book = "\n".join(map_sections(site))
    assert re.search(r"rest.close_request.*\[CO\]`.*Operate", book)
    assert check(Namespace(site=[str(whole)], quiet=True)) == 0


@pytest.mark.parametrize("found", [None, "0.10.0"])
def test_package_that_is_missing_or_another_one_is_told_with_what_to_install(
    whole: Path, capsys, monkeypatch, found: str | None
):
    def version(name: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    assert check(Namespace(site=[str(whole)], quiet=True)) == 1
    out = capsys.readouterr().out
    assert "connections.meter.protocol" in out
    assert "pip install 'hybrid-ems[iec61850]'" in out
    with pytest.raises(ConfigError, match="hybrid-ems"):
        FieldIO(load_site(whole), clock=VirtualClock(T0))
    assert main(["run", str(whole), "--dir", str(whole.parent / "data")]) == 2
    assert "hybrid-ems[iec61850]" in capsys.readouterr().err
    assert not (whole.parent / "data").exists()
