"""Device families in a site file: what one YAML file is enough for, and what is refused by line and key."""

import re
import shutil
from pathlib import Path

import pytest

from cli.main import main
from connectors.identity import unlike_map
from connectors.point_map import point_codecs
from ems.errors import ConfigError
from ems.points import GensetState
from ems.site import Connection, IdentityField, Site
from ems.site_schema import check_family_file, files_of, load_families, load_site
from ems.site_schema.families import shipped_folder
from ems.telemetry import Quality

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "sites" / "demo"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "families.md").read_text(), re.DOTALL)
(ACME,) = [block for block in BLOCKS if block.startswith("family: acme_px")]
PV = "    asset: pv1\n    map: maps/pv_plant.yaml\n"
GEN1 = "    asset: gen1\n    map: maps/genset.yaml\n"
USE = "    asset: pv1\n    family: acme_px\n    settings: {p_rated_kw: 700 kW}\n"


def site_folder(folder: Path, use: str = USE, acme: str = ACME, silence: bool = True) -> Path:
    """The demonstration site whose PV controller is of the family in docs/families.md."""
    shutil.copytree(DEMO, folder, dirs_exist_ok=True)
    text = (folder / "site.yaml").read_text()
    assert text.count(PV) == 1
    text = text.replace(PV, use)
    if silence:
        start = text.index("  pv1.p_limit_kw:")
        head, tail = text[:start], text[start:]
        text = head + re.sub(r"silence:\s*\{[^}]*\}", "silence: {timeout_s: 60, action: full}", tail, count=1)
    (folder / "site.yaml").write_text(text)
    (folder / "families").mkdir(exist_ok=True)
    (folder / "families" / "acme_px.yaml").write_text(acme)
    return folder / "site.yaml"


def small_folder(folder: Path, use: str = USE, acme: str = ACME) -> Path:
    """As much of a site as it takes to have assets: it is refused, but not for its family alone."""
    (folder / "families").mkdir()
    (folder / "families" / "acme_px.yaml").write_text(acme)
    (folder / "site.yaml").write_text(
        "grid: {id: grid1}\npv: {pv1: {p_dc_kwp: 1}}\nconnections:\n  pv_controller:\n"
        f"    protocol: modbus_tcp\n    host: h\n    port: 15024\n    poll_s: 1\n    timeout_s: 0.5\n{use}"
    )
    return folder / "site.yaml"


def connection(site: Site, connection_id: str) -> Connection:
    return next(c for c in site.connections if c.id == connection_id)


def refused(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_site(path)
    return [str(p) for p in caught.value.problems]


def test_family_of_the_documents_is_one_yaml_file_and_reads_as_it_says(tmp_path):
    path = site_folder(tmp_path)
    assert check_family_file(tmp_path / "families" / "acme_px.yaml") == []
    site = load_site(path)
    codecs = point_codecs(connection(site, "pv_controller"))
    assert codecs["pv1.p_limit_kw"].encode(350.0) == [500]  # tenths of a percent of 700 kW
    assert codecs["pv1.p_limit_kw"].decode([1000]).value == pytest.approx(700.0)
    assert codecs["pv1.p_kw"].decode([0x1170, 0x0001]).value == pytest.approx(
        70.0
    )  # 70,000 W, low word first
    row = codecs["pv1.p_kw"].point
    assert [row.low, row.high] == pytest.approx([-35.0, 770.0])
    assert [codecs["pv1.state"].decode([n]).value for n in (0, 1, 2, 3)] == [0.0, 0.0, 1.0, 1.0]
    assert codecs["pv1.state"].decode([4]) == (None, Quality.DEVICE_BAD)
    assert [codecs["pv1.remote"].decode([n]).value for n in (0x10, 0xFFEF)] == [1.0, 0.0]
    assert connection(site, "pv_controller").family == "acme_px"
    assert "families/acme_px.yaml" in files_of(path)


def test_family_beside_the_site_counts_before_a_shipped_one(tmp_path):
    path = site_folder(tmp_path)
    own = ACME.replace("family: acme_px", "family: huawei_sun2000")
    (tmp_path / "families" / "huawei_sun2000.yaml").write_text(own)
    text = path.read_text().replace("family: acme_px", "family: huawei_sun2000")
    path.write_text(text)
    rows = {p.point: p for p in connection(load_site(path), "pv_controller").points}
    assert rows["pv1.p_kw"].address == "100"
    assert load_families(tmp_path)["huawei_sun2000"].maker == "Acme"
    assert load_families()["huawei_sun2000"].maker == "Huawei"


def test_shipped_family_is_no_file_of_the_site_and_channels_become_points(tmp_path):
    path = site_folder(tmp_path)
    text = path.read_text() + (
        "  contacts:\n    {protocol: modbus_tcp, host: 127.0.0.1, port: 15030, poll_s: 1, timeout_s: 0.5,\n"
        "     family: advantech_adam4150,\n"
        "     points: {bus.emergency_stop: {from: di_1}, bus.contact_1: {from: di_2, inverted: true}}}\n"
    )
    path.write_text(text)
    site = load_site(path)
    codecs = point_codecs(connection(site, "contacts"))
    assert set(codecs) == {"bus.emergency_stop", "bus.contact_1"}
    assert [codecs["bus.emergency_stop"].decode([n]).value for n in (0b010, 0b101)] == [1.0, 0.0]
    assert [codecs["bus.contact_1"].decode([n]).value for n in (0b100, 0b011)] == [0.0, 1.0]
    assert not any("advantech" in name for name in files_of(path))


def test_site_says_what_is_different_on_its_device(tmp_path):
    change = (
        "    points: {p_kw: {address: 120, sign: -1, range: [-800 kW, 800 kW]}}\n    leave_out: [remote]\n"
    )
    site = load_site(site_folder(tmp_path, USE + change))
    rows = {p.point: p for p in connection(site, "pv_controller").points}
    assert (rows["pv1.p_kw"].address, rows["pv1.p_kw"].sign, rows["pv1.p_kw"].low) == ("120", -1, -800.0)
    assert "pv1.remote" not in rows


def test_genset_family_names_its_states_and_heartbeat_of_a_family_is_used(tmp_path):
    beat = "  beat: {address: 60, table: holding, type: u16, range: [0, 9], age_s_max: 25, writable: true}\n"
    acme = ACME.replace("assets: [pv]", "assets: [pv]\nwatchdog_point: beat")
    acme = acme.replace("points:\n", f"points:\n{beat}")
    path = site_folder(tmp_path, acme=acme)
    use = "    asset: gen1\n    family: dse_gencomm\n    settings: {p_rated_kw: 500, tank_l: 2000}\n"
    text = path.read_text().replace(GEN1, use)
    path.write_text(text)
    found = refused(path)
    assert [f for f in found if "no map for gen1.run_request" in f], found  # it is wired, as the family says
    text = text.replace(use, GEN1)
    path.write_text(text)
    assert connection(load_site(path), "pv_controller").watchdog_point == "pv1.beat"
    row = point_codecs(family_connection("dse_gencomm", tmp_path))["gen1.state"]
    assert row.decode([4]).value == GensetState.COOLING_DOWN.code
    assert row.decode([15]) == (None, Quality.DEVICE_BAD)


def family_connection(name: str, folder: Path) -> Connection:
    from ems.site_schema.build_wire import connections
    from ems.site_schema.placing import read_draft

    (folder / "one.yaml").write_text(
        "gensets: {gen1: x}\nconnections:\n  dut: {protocol: modbus_tcp, host: h, port: 1, poll_s: 1, "
        f"timeout_s: 1, family: {name}, asset: gen1, settings: {{p_rated_kw: 500, tank_l: 2000}}}}\n"
    )
    return connections(read_draft(folder / "one.yaml"))[0]


WRONG_USE = [
    (USE.replace("acme_px", "acme_pq"), "connections.pv_controller.family", "did you mean 'acme_px'?"),
    (USE.replace("    settings: {p_rated_kw: 700 kW}\n", ""), "settings.p_rated_kw", "rated active power"),
    (USE.replace("700 kW", "700 kVA"), "settings.p_rated_kw", "apparent power"),
    (USE.replace("700 kW", "0"), "settings.p_rated_kw", "more than 0 kW"),
    (USE.replace("{p_rated_kw: 700 kW}", "{p_rated_kw: 700, x: 1}"), "settings.x", "one of p_rated_kw"),
    (USE.replace("    asset: pv1\n", ""), "connections.pv_controller.asset", "the asset that the points"),
    (USE + "    map: maps/pv_plant.yaml\n", "connections.pv_controller.map", "both `map` and `family`"),
    (USE + "    points: {p_kwh: {sign: -1}}\n", "points.p_kwh", "one of p_kw, state"),
    (USE + "    points: {p_kw: {from: di_0}}\n", "points.p_kw.from", "no channels"),
    (USE + "    points: {p_kw: {writable: true}}\n", "points.p_kw.writable", "an unknown key"),
    (USE + "    points: {p_kw: {address: 70000}}\n", "points.p_kw.address", "0 to 65534"),
    (USE + "    points: {p_kw: {unit: kvar}}\n", "points.p_kw.unit", "reactive power"),
    (USE + "    leave_out: [p_kvar]\n", "connections.pv_controller.leave_out", "'p_kvar'"),
    (USE + "    leave_out: [state]\n", "connections.pv_controller", "no map for pv1.state"),
]  # fmt: skip


@pytest.mark.parametrize(("use", "key", "said"), WRONG_USE, ids=str)
def test_wrong_use_of_a_family_refused_by_file_line_and_key(tmp_path, use, key, said):
    path = small_folder(tmp_path, use)
    found = [f for f in refused(path) if key in f]
    assert found
    assert any(said in f for f in found), found
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", f) for f in found), found


WRONG_FAMILY = [
    (("family: acme_px", "family: acme"), "family", "the name of its file"),
    (("maker: Acme\n", ""), "maker", "this key is required"),
    (("unverified: states 4 to 9", "unverifed: x"), "source.unverifed", "did you mean 'unverified'?"),
    (("  state:  ", "  stat:   "), "points.stat", "did you mean 'state'?"),
    (("times: p_rated_kw", "times: p_kw"), "points.p_limit_kw.times", "one of p_rated_kw"),
    (("times: p_rated_kw", "times: p_rated_kw, unit: kW"), "points.p_limit_kw.unit", "left out beside"),
    (("range: [-0.05, 1.1]", "range: [-5 kW, 7 kW]"), "points.p_kw.range", "two plain numbers"),
    (("2: producing", "2: running"), "points.state.codes", "'running' is no waiting producing"),
    (("codes: {0: waiting", "codes: {zero: waiting"), "points.state.codes", "no whole number"),
    (("codes: {0: waiting", "codes: {0: 7"), "points.state.codes", "values inside the range"),
    (("codes: {0: waiting", "codes: {0x1: waiting"), "points.state.codes", "each count once"),
    (("bit: 4", "bit: 16"), "points.remote.bit", "0 to 15 in u16"),
    (("bit: 4", "bit: 4, inverted: true, scale: 2"), "points.remote.inverted", "without them"),
    (("bit: 4", "bit: 4, inverted: true"), "points.remote.inverted", "a cut wire (raw 0) reads 1, remote"),
    (("bit: 4", "bit: 4, sign: -1, offset: 1"), "points.remote.offset", "`open_wire_unsafe: true`"),
    (("bit: 4", "bit: 4, open_wire_unsafe: true"), "points.remote.open_wire_unsafe", "nothing, or false"),
    (("bit: 4", "open_wire_unsafe: true"), "points.remote.open_wire_unsafe", "only with bus.emergency_stop"),
    (("codes: {0", "open_wire_unsafe: true, codes: {0"), "points.state.open_wire_unsafe", "only with bus.em"),
    (("scale: 0.001, times: p_rated_kw", "bit: 1"), "points.p_limit_kw.bit", "only points that are read"),
    (("type: s32, unit: W", "type: s33, unit: W"), "points.p_kw.type", "'s33'"),
    (("starts: PX-", "starts: PX-, expect: PX-7"), "identity.model", "one of them"),
    (("  p_limit_kw: {action", "  p_kw: {action"), "silence.p_kw", "a setpoint: p_limit_kw"),
    (("maker: Acme", "maker: Acme\nwatchdog_point: beat"), "watchdog_point", "one of p_kw"),
    (("address: 110", "address: 101"), "points.state.address", "a register of 'p_kw' too"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "key", "said"), WRONG_FAMILY, ids=[w[1] + str(i) for i, w in enumerate(WRONG_FAMILY)]
)
def test_wrong_family_refused_alone_and_in_a_site_by_its_own_file_line_and_key(tmp_path, change, key, said):
    assert change[0] in ACME
    path = small_folder(tmp_path, acme=ACME.replace(*change))
    family = tmp_path / "families" / "acme_px.yaml"
    for found in ([str(p) for p in check_family_file(family)], refused(path)):
        mine = [f for f in found if f": {key}: " in f and f.startswith(f"{family}:")]
        assert any(said in f for f in mine), found


def test_cut_wire_of_a_family_allowed_by_its_row_is_told_and_the_site_may_turn_it_back(tmp_path, capsys):
    unsafe = ACME.replace("bit: 4", "bit: 4, inverted: true, open_wire_unsafe: true")
    path = site_folder(tmp_path, acme=unsafe)
    assert check_family_file(tmp_path / "families" / "acme_px.yaml") == []
    assert main(["check", str(path)]) == 0
    assert "contact     pv1.remote: A CUT WIRE READS AS REMOTE" in capsys.readouterr().out
    assert main(["families", "acme_px", "--site", str(path)]) == 0
    assert "bit 4, inverted, A CUT WIRE READS WELL" in capsys.readouterr().out
    text = path.read_text()
    turned = "    points: {remote: {inverted: false}}\n"
    path.write_text(text.replace(USE, USE + turned))
    (found,) = refused(path)
    assert "points.remote.open_wire_unsafe: " in found
    assert "`open_wire_unsafe: false`" in found
    path.write_text(text.replace(USE, USE + turned.replace("false", "false, open_wire_unsafe: false")))
    assert main(["check", str(path)]) == 0
    assert "CUT WIRE" not in capsys.readouterr().out


def test_cut_wire_of_a_channel_is_judged_where_the_site_file_wires_it(tmp_path):
    path = site_folder(tmp_path)
    text = path.read_text() + (
        "  contacts:\n    {protocol: modbus_tcp, host: 127.0.0.1, port: 15030, poll_s: 1, timeout_s: 0.5,\n"
        "     family: advantech_adam4150,\n     points: {bus.emergency_stop: {from: di_1, inverted: true}}}\n"
    )
    path.write_text(text)
    (found,) = refused(path)
    assert found.startswith(f"{path}:{len(text.splitlines())}: ")
    assert "connections.contacts.points.bus.emergency_stop.inverted: found true: a cut wire" in found
    path.write_text(text.replace("inverted: true", "inverted: true, open_wire_unsafe: true"))
    load_site(path)
    shipped = (shipped_folder() / "advantech_adam4150.yaml").read_text()
    told = shipped.replace("bit: 1, range", "bit: 1, inverted: true, open_wire_unsafe: true, range")
    own = tmp_path / "families" / "advantech_adam4150.yaml"
    own.write_text(told)
    assert any("channels.di_1.open_wire_unsafe" in str(p) for p in check_family_file(own))
    assert any("channels.di_1.open_wire_unsafe" in f for f in refused(path))


def test_time_out_that_a_device_tells_has_no_unit_alone_and_in_a_site(tmp_path):
    told = ACME.replace("timeout_s: 60,", "timeout_s: 60, timeout_point: limit_timeout,")
    row = (
        "  limit_timeout: {address: 112, table: input, type: u16, unit: s, range: [0, 600], age_s_max: 25}\n"
    )
    path = site_folder(tmp_path, acme=told.rstrip() + "\n" + row)
    text = path.read_text()
    silence = "silence: {timeout_s: 60, action: full"
    path.write_text(text.replace(silence, f"{silence}, timeout_point: pv1.limit_timeout"))
    alone = [str(p) for p in check_family_file(tmp_path / "families" / "acme_px.yaml")]
    for found in (alone, refused(path)):
        assert any("points.limit_timeout.unit: found 's'" in f for f in found), found


def test_heartbeat_too_seldom_for_the_time_out_of_a_setpoint_refused(tmp_path):
    path = site_folder(tmp_path)
    beat = "    watchdog_point: bess1.heartbeat\n"
    text = path.read_text()
    path.write_text(text.replace(beat, f"{beat}    watchdog_period_s: 15\n"))
    load_site(path)
    path.write_text(text.replace(beat, f"{beat}    watchdog_period_s: 15.1\n"))
    (found,) = refused(path)
    assert "watchdog_period_s: found 15.1 s; allowed: a third of the shortest time-out" in found


def test_silence_that_the_family_knows_better_refused(tmp_path):
    found = refused(site_folder(tmp_path, silence=False))
    assert any("authority.pv1.p_limit_kw.silence.action" in f and "allowed: full" in f for f in found), found
    assert any("authority.pv1.p_limit_kw.silence.timeout_s" in f and "allowed: 60 s" in f for f in found), (
        found
    )


def test_two_bits_of_one_register_are_two_points_and_a_whole_register_is_not_shared(tmp_path):
    extra = "  q_kvar: {address: 111, table: input, type: u16, unit: kvar, range: [0, 9], age_s_max: 25}\n"
    path = small_folder(tmp_path, acme=ACME.rstrip() + "\n" + extra)
    assert any("a register of 'remote' too" in f or "a register of 'q_kvar' too" in f for f in refused(path))


def field(**told: object) -> IdentityField:
    values: dict[str, object] = {
        "name": "model", "address": "0", "table": "holding", "data_type": "string", "length": 8,
        "byte_order": "big", "word_order": "big",
    }  # fmt: skip
    return IdentityField(**(values | told))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "text", "same"),
    [
        ({"starts": "SUN2000"}, "SUN2000-100KTL", True),
        ({"starts": "SUN2000"}, "LUNA2000", False),
        ({"one_of": ("1648", "1651")}, "1651", True),
        ({"one_of": ("1648", "1651")}, "165", False),
    ],
)
def test_identity_by_beginning_or_by_list(told, text, same):
    assert (unlike_map([field(**told)], {"model": text}) == []) is same


def test_command_lists_shows_prints_and_checks_families(tmp_path, capsys):
    assert main(["families"]) == 0
    assert set(shipped_folder().glob("*.yaml")) == {
        shipped_folder() / f"{line.split()[0]}.yaml" for line in capsys.readouterr().out.splitlines()
    }
    assert main(["families", "advantech_adam4150"]) == 0
    shown = capsys.readouterr().out
    assert "unverified" in shown
    assert "holding 300, u16, bit 6" in shown
    assert main(["families", "dse_gencomm", "--yaml"]) == 0
    file = tmp_path / "dse_gencomm.yaml"
    file.write_text(capsys.readouterr().out)
    assert main(["families", "--check", str(file)]) == 0
    file.write_text(file.read_text().replace("assets: [genset]", "assets: [gen]"))
    assert main(["families", "--check", str(file)]) == 2
    assert f"{file}:" in capsys.readouterr().err
    assert main(["families", "dse_gencom"]) == 2
    assert "did you mean 'dse_gencomm'?" in capsys.readouterr().err


def test_check_says_which_family_a_connection_uses(tmp_path, capsys):
    path = site_folder(tmp_path)
    assert main(["check", str(path)]) == 0
    assert "pv_controller: acme_px" in capsys.readouterr().out
