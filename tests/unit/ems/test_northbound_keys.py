"""`northbound` and `tls` in a site file: who may come in, what may be written, what contradicts itself."""

import dataclasses
from pathlib import Path

import pytest

from cli.check import protection
from cli.northbound import map_lines
from cli.runbook_text import runbook
from connectors.stores.permit import _plain, sections
from ems.errors import ConfigError
from ems.northbound import Door, ModbusServer, ServedRow, TlsFiles, WriteRights
from ems.site import Site
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"
LIMITS = """
  limits:
    dso: {kind: import, watchdog_s: 60, on_loss_kw: 0}
    curtail: {kind: pv, watchdog_s: 60, on_loss_kw: 0}
    read: {kind: import, watchdog_s: 60, on_loss_kw: 0, point: grid1.p_kw}
"""


@pytest.fixture
def loaded(tmp_path: Path):
    def load(server: str) -> Site:
        (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text().replace("\n  limits:\n", LIMITS, 1)
        (tmp_path / "site.yaml").write_text(f"{text}northbound: {{modbus: {{ppc: {{{server}}}}}}}\n")
        return load_site(tmp_path / "site.yaml")

    return load


def said(site: Site) -> str:
    """What `ems check` and the runbook say of it."""
    return "\n".join([*protection(site), runbook(site, {})])


def test_server_left_to_itself_is_read_only_and_of_this_machine_alone(loaded):
    site = loaded("")
    assert site.modbus_servers == (ModbusServer(id="ppc", door=Door(host="127.0.0.1", port=502), unit_id=1),)
    assert "server ppc: PLAIN, 127.0.0.1:502, may be read from this machine; read-only" in said(site)


def test_server_with_tls_says_who_may_write_by_certificate(loaded):
    site = loaded("host: 0.0.0.0, tls: {}, writes: {limits: [dso], roles: [GridOperator], subjects: [ppc]}")
    (server,) = site.modbus_servers
    assert (server.door.port, server.door.tls) == (
        802,
        TlsFiles(ca="pki/modbus/ca.pem", certificate="pki/modbus/own.pem", key="pki/modbus/own.key"),
    )
    assert server.writes == WriteRights(limits=("dso",), roles=("GridOperator",), subjects=("ppc",))
    assert "dso may be written by role GridOperator, CN ppc" in said(site)
    assert "may be read from everybody" in said(site)


def test_server_that_believes_an_address_says_so_loudly(loaded):
    site = loaded("host: 0.0.0.0, clients: [10.0.0.0/24], writes: {limits: [dso], plain_from: [10.0.0.5]}")
    assert said(site).count("dso may be WRITTEN WITHOUT PROOF from 10.0.0.5") == 2


def test_map_is_taken_as_it_is_declared_and_printed(loaded):
    rows = "server.beat: {address: 0, type: u16}, limit.dso: {address: 4, table: holding, scale: 0.5}"
    site = loaded(
        f"map: {{{rows}}}, clients: [127.0.0.1], writes: {{limits: [dso], plain_from: [127.0.0.1]}}"
    )
    (server,) = site.modbus_servers
    assert server.rows == (
        ServedRow(point="server.beat", table="both", address=0, data_type="u16"),
        ServedRow(point="limit.dso", table="holding", address=4, data_type="f32", scale=0.5),
    )
    text = "\n".join(map_lines(site, server))
    assert "| `limit.dso` | holding | 4 | f32 | 0.5 | 0 | kW | NaN | – | – | function 16, whole |" in text


def test_commissioning_holds_whatever_servers_there_are(loaded):
    site = loaded("")
    assert sections(site) == sections(dataclasses.replace(site, modbus_servers=()))


@pytest.mark.parametrize(
    ("server", "key", "text"),
    [
        ("host: 0.0.0.0", "clients", "the addresses that may connect, or tls"),
        ("host: here.example.org", "host", "an address of this machine"),
        ("clients: [10.0.0.5/24]", "clients[0]", "an address or a network"),
        ("tls: {server_name: a}", "tls.server_name", "we are the server"),
        ("writes: {limits: [dso]}", "writes", "plain_from"),
        ("writes: {limits: [read], plain_from: [127.0.0.1]}", "writes.limits[0]", "dso, curtail"),
        ("writes: {limits: [dsso], plain_from: [127.0.0.1]}", "writes.limits[0]", "did you mean 'dso'"),
        ("writes: {limits: [], plain_from: [127.0.0.1]}", "writes.limits", "at least 1"),
        ("writes: {limits: [dso], roles: [a], plain_from: [::1]}", "writes.roles", "nothing without tls"),
        ("writes: {limits: [dso], plain_from: [10.0.0.0/8]}", "writes.plain_from[0]", "one address"),
        (
            "clients: [10.0.0.1], writes: {limits: [dso], plain_from: [10.0.0.5]}",
            "writes.plain_from[0]",
            "could not even connect",
        ),
        ("tls: {}, writes: {limits: [dso]}", "writes", "who may write, by certificate"),
        (
            "tls: {}, writes: {limits: [dso], roles: [a], plain_from: [::1]}",
            "writes.plain_from",
            "another server",
        ),
        ("map: {bess9.p_kw: {address: 0}}", "map.bess9.p_kw", "a mapped point of the plant"),
        ("map: {grid1.p_kw: {address: 65535}}", "map.grid1.p_kw.address", "its last register at 65535"),
        ("map: {grid1.p_kw: {address: 0, scale: 0}}", "map.grid1.p_kw.scale", "other than 0"),
        ("map: {grid1.p_kw: {address: 0, not_available: 1}}", "map.grid1.p_kw.not_available", "it is NaN"),
        (
            "map: {grid1.p_kw: {address: 0, type: u16, not_available: 65536}}",
            "map.grid1.p_kw.not_available",
            "0 to 65535",
        ),
        (
            "map: {grid1.p_kw: {address: 0}, grid1.v_pu: {address: 1, table: input}}",
            "map.grid1.v_pu",
            "one value: grid1.p_kw is there",
        ),
        (
            "map: {grid1.p_kw: {address: 0, table: input, quality_at: 2, age_at: 2}}",
            "map.grid1.p_kw",
            "one value: grid1.p_kw",
        ),
        (
            "map: {limit.dso: {address: 0, table: input}}, writes: {limits: [dso], plain_from: [::1]}",
            "map.limit.dso.table",
            "holding or both",
        ),
        (
            "map: {grid1.p_kw: {address: 0}}, writes: {limits: [dso], plain_from: [::1]}",
            "writes.limits[0]",
            "it has no register",
        ),
        ("connections_max: 0", "connections_max", "1 or more"),
        ("requests_per_s: 0", "requests_per_s", "more than 0"),
    ],
)
def test_server_that_contradicts_itself_is_refused(loaded, server, key, text):
    with pytest.raises(ConfigError) as refused:
        loaded(server)
    (problem,) = [p for p in refused.value.problems if p.key == f"northbound.modbus.ppc.{key}"]
    assert text in str(problem)
    assert problem.line is not None


def test_two_servers_at_one_port_are_refused(loaded):
    with pytest.raises(ConfigError, match="another port"):
        loaded("port: 5020}, other: {port: 5020")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("protocol: modbus_tcp", "protocol: modbus_tcp\n    tls: {server_name: pcs.example}", ""),
        ("protocol: opc_ua", "protocol: opc_ua\n    tls: {}", "no tls with opc_ua"),
    ],
)
def test_connection_with_tls_is_modbus_over_tcp(tmp_path, before, after, text):
    (tmp_path / "maps").symlink_to(GOOD / "maps")
    plain = (GOOD / "good.yaml").read_text()
    assert before in plain
    file = tmp_path / "site.yaml"
    file.write_text(plain.replace(before, after, 1))
    if text:
        with pytest.raises(ConfigError, match=text):
            load_site(file)
        return
    site = load_site(file)
    (one,) = [c for c in site.connections if c.tls is not None]
    assert one.tls is not None
    assert one.tls.server_name == "pcs.example"
    assert f"{one.id}: TLS, a certificate on both sides" in said(site)


def test_records_of_commissioning_made_before_there_was_tls_still_hold():
    site = load_site(GOOD / "good.yaml")
    (one, *_) = [c for c in site.connections if c.protocol == "modbus_tcp"]
    changed = dataclasses.replace(one, tls=TlsFiles(ca="a", certificate="b", key="c"))
    assert "tls" not in _plain(one)
    assert _plain(changed)["tls"]["ca"] == "a"
