"""`northbound.opc_ua` in a site file: who may come in, what may be written, what contradicts itself."""

import dataclasses
import io
from pathlib import Path

import pytest

from cli.check import protection
from cli.main import main
from cli.northbound import node_lines
from cli.runbook_text import runbook
from connectors.northbound.password_hash import hashed, matches
from connectors.northbound.ua_people import People
from connectors.opcua import certificates
from connectors.opcua.certificates import CertificateError
from connectors.stores.permit import sections
from ems.clock import SystemClock
from ems.errors import ConfigError
from ems.northbound import Door, WriteRights
from ems.northbound_ua import UA_POLICIES, OpcUaServer, UaServerFiles, UaUser
from ems.site import Site
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"
LIMITS = """
  limits:
    dso: {kind: import, watchdog_s: 60, on_loss_kw: 0}
    curtail: {kind: pv, watchdog_s: 60, on_loss_kw: 0}
    read: {kind: import, watchdog_s: 60, on_loss_kw: 0, point: grid1.p_kw}
"""
USERS = "users: {dso: {password_file: dso, role: utility}, eve: {certificate: eve.der}}"


@pytest.fixture
def loaded(tmp_path: Path):
    def load(server: str, *, more: str = "") -> Site:
        if not (tmp_path / "maps").exists():
            (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text().replace("\n  limits:\n", LIMITS, 1)
        north = f"northbound: {{opc_ua: {{scada: {{{server}}}}}{more}}}\n"
        (tmp_path / "site.yaml").write_text(f"{text}{north}")
        return load_site(tmp_path / "site.yaml")

    return load


def said(site: Site) -> str:
    """What `ems check` and the runbook say of it."""
    return "\n".join([*protection(site), runbook(site, {})])


def test_server_is_protected_read_only_and_of_this_machine_unless_said_otherwise(loaded):
    site = loaded("users: {look: {password_env: LOOK}}")
    assert site.opcua_servers == (
        OpcUaServer(
            id="scada",
            door=Door(host="127.0.0.1", port=4840),
            policies=UA_POLICIES,
            mode="SignAndEncrypt",
            files=UaServerFiles(
                certificate="pki/opcua/own.der", key="pki/opcua/own.key", trusted="pki/opcua/trusted"
            ),
            users=(UaUser(name="look", password_env="LOOK"),),
        ),
    )
    words = (
        "server scada: OPC UA, 127.0.0.1:4840, Basic256Sha256, Aes128Sha256RsaOaep, Aes256Sha256RsaPss, "
        "SignAndEncrypt, programs in pki/opcua/trusted, users look, from this machine; read-only"
    )
    assert said(site).count(words) == 2
    assert sections(site) == sections(dataclasses.replace(site, opcua_servers=()))


def test_who_may_write_is_said(loaded):
    site = loaded(
        f"host: 0.0.0.0, clients: [10.0.0.0/24], {USERS}, "
        "writes: {limits: [dso], roles: [utility], users: [eve], per_s: 2}"
    )
    (server,) = site.opcua_servers
    assert server.writes == WriteRights(limits=("dso",), roles=("utility",), subjects=("eve",), per_s=2.0)
    assert "users dso, eve, from 10.0.0.0/24; dso may be written by role utility, eve" in said(site)
    text = "\n".join(node_lines(site, server))
    assert "| `s=limit.dso` | kW | yes |" in text
    assert "| `s=limit.curtail` | kW | – |" in text
    assert "| `s=answer.dso` |" in text


def test_server_without_protection_must_be_said_and_is_told_each_time(loaded):
    site = loaded("policies: [None]")
    assert site.opcua_servers[0].is_open
    assert said(site).count("NO PROTECTION, as the site file says") == 2


@pytest.mark.parametrize(
    ("server", "key", "text"),
    [
        ("", "users", "who may come in, or `anonymous: true`"),
        ("policies: [None], host: 0.0.0.0", "clients", "the addresses that may connect"),
        ("policies: [None, Basic256Sha256]", "policies", "None alone"),
        (f"policies: [None], {USERS}", "users", "all may read, nobody write"),
        ("policies: [None], writes: {limits: [dso]}", "writes", "all may read, nobody write"),
        ("policies: [Basic128Rsa15]", "policies[0]", "Basic256Sha256"),
        ("anonymous: true, host: here.example.org", "host", "an address of this machine"),
        ("anonymous: true, clients: [10.0.0.5/24]", "clients[0]", "an address or a network"),
        ("users: {a: {}}", "users.a", "one of password_env, password_file, certificate"),
        ("users: {a: {password_env: A, certificate: a.der}}", "users.a", "one of password_env"),
        (f"{USERS}, writes: {{limits: [dso]}}", "writes", "who may write"),
        (
            f"{USERS}, writes: {{limits: [dso], roles: [boss]}}",
            "writes.roles[0]",
            "of a user: utility",
        ),
        (f"{USERS}, writes: {{limits: [dso], users: [bob]}}", "writes.users[0]", "a user: dso, eve"),
        (f"{USERS}, writes: {{limits: [read], users: [eve]}}", "writes.limits[0]", "dso, curtail"),
        (f"{USERS}, writes: {{limits: [dsso], users: [eve]}}", "writes.limits[0]", "did you mean 'dso'"),
    ],
)
def test_what_contradicts_itself_is_named(loaded, server, key, text):
    with pytest.raises(ConfigError) as caught:
        loaded(server)
    (problem,) = caught.value.problems
    assert problem.key == f"northbound.opc_ua.scada.{key}"
    assert text in f"{problem.allowed} {problem.message}"


@pytest.mark.parametrize("name", ["scada", "other"])
def test_servers_have_names_and_places_of_their_own(loaded, name):
    with pytest.raises(ConfigError) as caught:
        loaded("anonymous: true", more=f", modbus: {{{name}: {{port: 4840}}}}")
    keys = {p.key for p in caught.value.problems}
    assert "northbound.opc_ua.scada.port" in keys or name == "scada"
    assert ("northbound.opc_ua.scada" in keys) is (name == "scada")


def test_certificate_of_a_server_is_made_out_to_where_it_listens(loaded, tmp_path, capsys):
    site = loaded("host: 127.0.0.2, anonymous: true")
    asked = ["certificate", "make", str(tmp_path / "site.yaml"), "--server", "scada", "--address", "10.0.0.7"]
    assert main([*asked, "--host", "plant.example"]) == 0
    assert "client's list of trusted servers" in capsys.readouterr().out
    own = certificates.read_certificate(tmp_path / "pki" / "opcua" / "own.der")
    assert certificates.hosts(own) == ["plant.example", "10.0.0.7", "127.0.0.2"]
    assert certificates.uris(own) == [f"urn:plant.example:hybrid-ems:server:scada:{site.name}"]
    assert certificates.read_key(tmp_path / "pki" / "opcua" / "own.key").public_key() == own.public_key()
    assert main([*asked[:4], "other"]) == 2
    assert "allowed: scada" in capsys.readouterr().err


def test_password_is_kept_as_a_hash_and_known_again(tmp_path, monkeypatch, capsys):
    def typed(text: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return main(["northbound", "password", str(tmp_path / "secrets" / "dso")])

    assert typed("short\n") == 2
    assert "found 5 characters; allowed: 12 or more" in capsys.readouterr().err
    assert typed("correct horse battery\n") == 0
    file = tmp_path / "secrets" / "dso"
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_text().strip()
    assert "horse" not in kept
    assert kept != hashed("correct horse battery"), "salted"
    assert (matches(kept, "correct horse battery"), matches(kept, "correct horse")) == (True, False)
    assert (matches("in clear", "in clear"), matches("in clear", "in clea")) == (True, False)
    assert typed("correct horse battery\n") == 2
    assert "is there already" in capsys.readouterr().err
    users = [UaUser(name="dso", password_file="secrets/dso")]
    people = People(users, tmp_path, now=SystemClock().now, monotonic_s=SystemClock().monotonic_s)
    assert people.by_password("dso", "correct horse battery", "::1") == (users[0], "")
    assert people.by_password("dso", kept, "::1")[0] is None, "the hash is no password"


@pytest.mark.parametrize("numbers", ["1", "0:8:1:00:00", f"{2**30}:8:1:00:00", "3:8:1:00:00"])
def test_hash_that_is_none_is_refused_in_words(numbers):
    with pytest.raises(CertificateError, match="no such line"):
        matches(f"scrypt:{numbers}", "x")
