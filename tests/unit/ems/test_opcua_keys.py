"""Site keys of OPC UA connections: protected unless it is said that they are not; polled or told."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from cli.check import protection
from connectors.opcua.security import located
from ems.errors import ConfigError
from ems.site import Connection, Site, UaSubscription
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"
AT_HOME = "    host: 127.0.0.1\n    port: 48401\n"
AWAY = "    host: 10.0.0.5\n    port: 48401\n"
PROTECTED = "    security: {policy: Basic256Sha256, user: ems, password_env: METER}\n"


@pytest.fixture
def loaded(tmp_path):
    """The small good site, its OPC UA meter (or its Modbus field) with more lines."""

    def load(where: str, more: str = "", field: str = "") -> Site:
        shutil.copytree(GOOD / "maps", tmp_path / "maps", dirs_exist_ok=True)
        text = (GOOD / "good.yaml").read_text()
        assert text.count(AT_HOME) == 1
        text = text.replace(AT_HOME, where + more)
        text = text.replace("    port: 15021\n", f"    port: 15021\n{field}", 1)
        (tmp_path / "site.yaml").write_text(text)
        return load_site(tmp_path / "site.yaml")

    return load


def meter(site: Site) -> Connection:
    (one,) = (c for c in site.connections if c.id == "meter")
    return one


def test_this_machine_needs_no_protection(loaded):
    site = loaded(AT_HOME)
    assert meter(site).security is None
    assert list(protection(site)) == []


def test_another_machine_without_a_word_is_refused_and_the_cost_is_told(loaded):
    with pytest.raises(ConfigError) as caught:
        loaded(AWAY)
    (problem,) = caught.value.problems
    assert problem.key == "connections.meter.security"
    assert "can read and write" in problem.message


def test_none_must_be_said_and_is_told_each_time(loaded):
    site = loaded(AWAY, "    security: {policy: None}\n")
    (line,) = protection(site)
    assert line.startswith("meter: NONE")
    assert "10.0.0.5:48401" in line


def test_files_have_usual_places_and_are_relative_to_the_site_file(loaded, tmp_path):
    security = meter(loaded(AWAY, PROTECTED)).security
    assert security is not None
    assert (security.mode, security.user, security.password_env) == ("SignAndEncrypt", "ems", "METER")
    assert (security.certificate, security.key, security.trusted) == (
        "pki/own.der",
        "pki/own.key",
        "pki/trusted",
    )
    whole = located(dataclasses.replace(security, password_file="/etc/secret"), tmp_path)
    assert whole.certificate == str(tmp_path / "pki" / "own.der")
    assert (whole.password_file, whole.user_key) == ("/etc/secret", None)
    assert list(protection(loaded(AWAY, PROTECTED))) == ["meter: Basic256Sha256, SignAndEncrypt, ems"]


@pytest.mark.parametrize(
    ("inside", "keys"),
    [
        ("policy: Basic128Rsa15", ["policy"]),
        ("policy: Basic256Sha256, mode: None", ["mode"]),
        ("policy: None, user: ems, password_env: X", ["user", "password_env"]),
        ("policy: None, mode: Sign", ["mode"]),
        ("policy: Basic256Sha256, user: ems", ["user"]),
        ("policy: Basic256Sha256, password_env: X", ["password_env"]),
        ("policy: Basic256Sha256, user: ems, password_env: X, password_file: y", ["password_file"]),
        ("policy: Basic256Sha256, user: ems, password_env: x-y", ["password_env"]),
        ("policy: Basic256Sha256, user_certificate: u.der", ["user_certificate"]),
        (
            "policy: Basic256Sha256, user: e, password_env: X, user_certificate: u.der, user_key: u.key",
            ["user_certificate"],
        ),
    ],
)
def test_security_that_contradicts_itself_is_named(loaded, inside, keys):
    with pytest.raises(ConfigError) as caught:
        loaded(AWAY, f"    security: {{{inside}}}\n")
    assert [p.key for p in caught.value.problems] == [f"connections.meter.security.{k}" for k in keys]


def test_keys_of_opc_ua_refused_at_modbus(loaded):
    more = "    security: {policy: None}\n    updates: subscribe\n    subscription: {queue: 2}\n"
    with pytest.raises(ConfigError) as caught:
        loaded(AT_HOME, field=more)
    assert [p.key.rpartition(".")[2] for p in caught.value.problems] == [
        "security",
        "updates",
        "subscription",
    ]


def test_subscription_has_values_that_follow_from_the_poll(loaded):
    usual = UaSubscription(publishing_s=0.5, sampling_s=0.5, keep_alive_s=1.0, queue=4)
    assert meter(loaded(AT_HOME, "    updates: subscribe\n")).subscription == usual
    assert meter(loaded(AT_HOME)).subscription is None
    more = "    updates: subscribe\n    subscription: {publishing_s: 200 ms, queue: 9}\n"
    own = UaSubscription(publishing_s=0.2, sampling_s=0.2, keep_alive_s=0.4, queue=9)
    assert meter(loaded(AT_HOME, more)).subscription == own


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ("    subscription: {queue: 2}\n", {"connections.meter.subscription"}),
        (
            "    updates: subscribe\n    subscription: {publishing_s: 1, keep_alive_s: 0.5}\n",
            {"connections.meter.subscription.keep_alive_s"},
        ),
        (
            "    updates: subscribe\n    subscription: {publishing_s: 1, keep_alive_s: 1.5}\n",
            {"connections.meter.subscription.keep_alive_s"},  # the meter at the POI: 3 s is lost
        ),
    ],
)
def test_subscription_that_contradicts_itself_is_named(loaded, more, keys):
    with pytest.raises(ConfigError) as caught:
        loaded(AT_HOME, more)
    assert {p.key for p in caught.value.problems} == keys


def test_subscription_that_proves_a_value_less_often_than_it_may_age_refused(loaded):
    with pytest.raises(ConfigError) as caught:
        loaded(AT_HOME, "    updates: subscribe\n    subscription: {keep_alive_s: 1 h}\n")
    found = caught.value.problems
    assert sum(p.key.endswith("age_s_max") and "meter.yaml" in p.file for p in found) == len(found) - 1
    assert len(found) > 1
