"""`northbound.iec104` in a site file: who may come in, what is where, what contradicts itself."""

import dataclasses
from pathlib import Path

import pytest

from cli.check import protection
from cli.main import main
from cli.northbound_iec104 import object_lines
from cli.runbook_text import runbook
from connectors.northbound.iec104_list import commands_of, map_id, rows_of
from connectors.stores.permit import sections
from ems.errors import ConfigError
from ems.iec104 import Iec104Times
from ems.northbound import Door, TlsFiles, WriteRights
from ems.northbound_iec104 import Iec104Command, Iec104Row, Iec104Server
from ems.northbound_names import names
from ems.site import Site
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"
LIMITS = """
  limits:
    dso: {kind: import, watchdog_s: 60, on_loss_kw: 0}
    curtail: {kind: pv, watchdog_s: 60, on_loss_kw: 0}
    read: {kind: import, watchdog_s: 60, on_loss_kw: 0, point: grid1.p_kw}
"""
PLAIN = "clients: [10.0.0.5], host: 0.0.0.0, writes: {limits: [dso], plain_from: [10.0.0.5]}"


@pytest.fixture
def loaded(tmp_path: Path):
    def load(server: str, *, more: str = "") -> Site:
        if not (tmp_path / "maps").exists():
            (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text().replace("\n  limits:\n", LIMITS, 1)
        (tmp_path / "site.yaml").write_text(f"{text}northbound: {{iec104: {{scada: {{{server}}}}}{more}}}\n")
        return load_site(tmp_path / "site.yaml")

    return load


def said(site: Site) -> str:
    """What `ems check` and the runbook say of it."""
    return "\n".join([*protection(site), runbook(site, {})])


def test_station_left_to_itself_is_read_only_and_of_this_machine_alone(loaded):
    site = loaded("")
    door = Door(host="127.0.0.1", port=2404, connections_max=8)
    assert site.iec104_servers == (Iec104Server(id="scada", door=door, station=1),)
    words = (
        "server scada: IEC 60870-5-104, common address 1, PLAIN, 127.0.0.1:2404, may be read from this "
        "machine; read-only"
    )
    assert words in said(site)
    assert "127.0.0.1:2404, IEC 60870-5-104, common address 1" in said(site)
    assert sections(site) == sections(dataclasses.replace(site, iec104_servers=()))


def test_station_with_tls_says_who_may_tell_by_certificate(loaded):
    site = loaded("host: 0.0.0.0, tls: {}, writes: {limits: [dso], roles: [GridOperator]}, clock: local")
    (server,) = site.iec104_servers
    assert (server.door.port, server.local_time) == (19998, True)
    assert server.door.tls == TlsFiles(
        ca="pki/iec104/ca.pem", certificate="pki/iec104/own.pem", key="pki/iec104/own.key"
    )
    assert server.writes == WriteRights(limits=("dso",), roles=("GridOperator",))
    assert "dso may be written by role GridOperator" in said(site)
    assert commands_of(server) == (Iec104Command(limit="dso", address=3001),)


def test_station_that_believes_an_address_says_so_loudly(loaded):
    assert said(loaded(PLAIN)).count("dso may be WRITTEN WITHOUT PROOF from 10.0.0.5") == 2


def test_automatic_list_has_everything_once_and_moves_by_kind(loaded):
    site = loaded("")
    rows = rows_of(site, site.iec104_servers[0])
    assert len({r.address for r in rows}) == len(rows)
    assert {n.name for n in names(site)} < {r.point for r in rows}
    at = {r.point: r for r in rows}
    assert (at["server.fresh"].address, at["server.fresh"].kind) == (1, "single_point")
    assert (at["limit.dso"].address, at["answer.curtail"].address) == (1001, 2002)
    assert min(r.address for r in rows if "." in r.point and r.point.startswith("grid1.")) == 10_001
    assert (at["grid1.p_kw"].kind, at["grid1.breaker_closed"].kind) == ("float", "single_point")
    assert map_id(rows, ()) != map_id(rows[1:], ())


def test_list_is_taken_as_it_is_declared_and_printed(loaded, tmp_path, capsys):
    site = loaded(
        f"{PLAIN}, map: {{grid1.p_kw: {{address: 7, type: scaled, scale: 0.1, deadband: 2}}, "
        "server.fresh: {address: 8, type: double_point}}, commands: {dso: {address: 9, select: true}}, "
        "k: 20, w: 10, t1_s: 30, t2_s: 5, t3_s: 60, time_tags: false, common_address: 300"
    )
    (server,) = site.iec104_servers
    assert server.rows == (
        Iec104Row(point="grid1.p_kw", address=7, kind="scaled", scale=0.1, deadband=2.0),
        Iec104Row(point="server.fresh", address=8, kind="double_point"),
    )
    assert server.commands == (Iec104Command(limit="dso", address=9, select=True),)
    assert server.times == Iec104Times(k=20, w=10, t1_s=30.0, t2_s=5.0, t3_s=60.0)
    text = "\n".join(object_lines(site, server))
    assert "| `grid1.p_kw` | 7 | M_ME_NB_1 | M_ME_NB_1 | 0.1 | 0 | 2 | kW |" in text
    assert "| `limit.dso` | 9 | C_SE_NC_1, C_SE_TC_1 | 1 | kW | select" in text
    assert "| t0, t1, t2, t3 | –, 30 s, 5 s, 60 s |" in text
    assert "| 11 M_ME_NB_1 | 3, 5, 20 |" in text
    assert main(["northbound", "map", str(tmp_path / "site.yaml"), "scada"]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("server", "key", "text"),
    [
        ("host: 0.0.0.0", "clients", "the addresses that may connect, or tls"),
        ("common_address: 65535", "common_address", "65534"),
        ("t2_s: 15", "t2_s", "less than t1_s, 15 s"),
        ("k: 4", "w", "k, 4, or less"),
        ("k: 0", "k", "1 or more"),
        ("tls: {server_name: a}", "tls.server_name", "we are the server"),
        ("writes: {limits: [dso]}", "writes", "plain_from"),
        ("writes: {limits: [read], plain_from: [::1]}", "writes.limits[0]", "dso, curtail"),
        ("map: {bess9.p_kw: {address: 1}}", "map.bess9.p_kw", "a mapped point of the plant"),
        ("map: {server.beat: {address: 1}}", "map.server.beat", "did you mean"),
        ("map: {grid1.p_kw: {address: 0}}", "map.grid1.p_kw.address", "1 or more"),
        ("map: {grid1.p_kw: {address: 1, scale: 0}}", "map.grid1.p_kw.scale", "other than 0"),
        (
            "map: {grid1.p_kw: {address: 1}, grid1.v_pu: {address: 1}}",
            "map.grid1.v_pu.address",
            "grid1.p_kw is there",
        ),
        (
            "map: {server.fresh: {address: 1, type: single_point, deadband: 1}}",
            "map.server.fresh.deadband",
            "nothing with type single_point",
        ),
        ("commands: {dso: {address: 1}}", "commands.dso", "a limit of writes.limits: none"),
        (f"{PLAIN}, commands: {{curtail: {{address: 1}}}}", "commands.curtail", "writes.limits: dso"),
        (
            f"{PLAIN}, map: {{grid1.p_kw: {{address: 1}}}}, commands: {{dso: {{address: 1}}}}",
            "commands.dso.address",
            "one object at an address: grid1.p_kw is there",
        ),
        (f"{PLAIN}, commands: {{dso: {{address: 1, scale: 0}}}}", "commands.dso.scale", "more than 0"),
    ],
)
def test_what_contradicts_itself_is_named(loaded, server, key, text):
    with pytest.raises(ConfigError) as caught:
        loaded(server)
    (problem,) = [p for p in caught.value.problems if p.key == f"northbound.iec104.scada.{key}"]
    assert text in str(problem)
    assert problem.line is not None


def test_limit_without_a_command_is_missed(loaded):
    with pytest.raises(ConfigError, match="none for 'curtail'"):
        loaded("writes: {limits: [dso, curtail], plain_from: [127.0.0.1]}, commands: {dso: {address: 1}}")


@pytest.mark.parametrize("family", ["modbus", "opc_ua"])
@pytest.mark.parametrize("name", ["scada", "other"])
def test_stations_have_names_and_places_of_their_own(loaded, family, name):
    other = "anonymous: true, port: 2404" if family == "opc_ua" else "port: 2404"
    with pytest.raises(ConfigError) as caught:
        loaded("", more=f", {family}: {{{name}: {{{other}}}}}")
    keys = {p.key for p in caught.value.problems}
    assert "northbound.iec104.scada.port" in keys or name == "scada"
    assert ("northbound.iec104.scada" in keys) is (name == "scada")
