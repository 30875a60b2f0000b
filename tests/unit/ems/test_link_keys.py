"""`databases` in a site file: who is reached, how the server is known, and what contradicts itself."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from cli.check import protection
from cli.link_wires import wire_of
from connectors.link import Refused
from connectors.stores.permit import sections
from connectors.telemetry.wire import Desk
from ems.errors import ConfigError
from ems.links import DatabaseLink
from ems.site import Site
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"


@pytest.fixture
def loaded(tmp_path: Path):
    def load(told: str, more: str = "") -> Site:
        (tmp_path / "maps").unlink(missing_ok=True)
        (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text()
        (tmp_path / "site.yaml").write_text(f"{text}databases: {{plants: {{{told}}}}}\n{more}")
        return load_site(tmp_path / "site.yaml")

    return load


def test_database_left_to_itself_is_known_by_its_certificate(loaded):
    site = loaded("host: db.example.org, database: plants, user: mill4")
    (link,) = site.databases
    assert link == DatabaseLink(
        id="plants", host="db.example.org", port=5432, database="plants", schema="ems", user="mill4",
        protection="verified", ca="pki/postgresql/ca.pem", certificate="pki/postgresql/own.pem",
        key="pki/postgresql/own.key", timeout_s=60.0, backfill_per_s=None, backlog_s_max=900.0,
    )  # fmt: skip
    assert site.links == (link,)
    assert "plants: TLS, verified, as mill4 of plants at db.example.org:5432" in list(protection(site))


@pytest.mark.parametrize("host", ["127.0.0.1", "/var/run/postgresql"])
def test_database_of_this_machine_needs_no_tls(loaded, host):
    site = loaded(f"host: {host}, database: plants, user: mill4")
    assert site.databases[0].protection == "plain"
    assert "plants: none, as mill4 on this machine alone" in list(protection(site))


def test_commissioning_holds_whatever_links_there_are(loaded):
    site = loaded("host: db.example.org, database: plants, user: mill4")
    assert "databases" not in sections(site)


@pytest.mark.parametrize(
    ("told", "key", "allowed"),
    [
        ({"protection": "plain"}, "protection", "verified or mutual"),
        ({"host": "/run/pg", "protection": "verified"}, "protection", "plain, or left out"),
        ({"key": "a.key"}, "key", "nothing with protection: verified"),
        ({"host": "127.0.0.1", "ca": "a.pem"}, "ca", "nothing with protection: plain"),
        ({"password_env": "A", "password_file": "b"}, "password_file", "password_env or password_file"),
        ({"schema": "Ems"}, "schema", "lower-case letters"),
        ({"port": "0"}, "port", "1 or more"),
        ({"timeout_s": "0"}, "timeout_s", "more than 0 s"),
        ({"backfill_per_s": "1"}, "backfill_per_s", "10 or more"),
        ({"password": "secret"}, "password", "one of host, port"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_database_that_contradicts_itself_is_refused(loaded, told: dict[str, Any], key: str, allowed: str):
    keys = {"host": "db.example.org", "database": "plants", "user": "mill4"} | told
    with pytest.raises(ConfigError) as refused:
        loaded(", ".join(f"{k}: {v}" for k, v in keys.items()))
    (problem,) = refused.value.problems
    assert problem.key == f"databases.plants.{key}"
    assert allowed in problem.allowed


def test_name_of_another_link_is_refused(loaded):
    more = "telemetry: {plants: {host: broker.example.org, topic: ems/p1}}\n"
    with pytest.raises(ConfigError, match="a name that no link under `telemetry` has"):
        loaded("host: db.example.org, database: plants, user: mill4", more)


def exporting(loaded, told: str) -> Site:
    site: Site = loaded("host: 127.0.0.1, database: plants, user: mill4", f"exports: {{stick: {{{told}}}}}\n")
    return site


def test_folder_left_to_itself_takes_packed_days_of_the_plant(loaded):
    (link,) = exporting(loaded, "folder: /media/stick").exports
    assert (link.format, link.every, link.clock, link.mounted) == ("csv.gz", "day", "plant", False)
    assert link.backlog_s_max == 2.5 * 86400 + 300
    (hourly,) = exporting(loaded, "folder: out, every: hour, backlog_s_max: 1h").exports
    assert hourly.backlog_s_max == 3600.0
    assert "exports" not in sections(exporting(loaded, "folder: out"))


@pytest.mark.parametrize(
    ("told", "key", "allowed"),
    [
        ("folder: out, format: xlsx", "exports.stick.format", "'csv', 'csv.gz' or 'parquet'"),
        ("folder: out, every: minute", "exports.stick.every", "'hour' or 'day'"),
        ("folder: out}, more: {folder: out", "exports.more.folder", "another folder than that of 'stick'"),
        ("folder: out}, plants: {folder: b", "exports.plants", "a name that no link under `databases` has"),
    ],
)
def test_folder_that_contradicts_itself_is_refused(loaded, told: str, key: str, allowed: str):
    with pytest.raises(ConfigError) as refused:
        exporting(loaded, told)
    (problem,) = refused.value.problems
    assert (problem.key, problem.allowed) == (key, allowed)


def test_link_without_its_package_is_down_and_says_what_to_install(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "connectors.postgres.wire", None)
    site = loaded("host: db.example.org, database: plants, user: mill4")
    make = wire_of(site.databases[0], site, tmp_path, tmp_path)
    with pytest.raises(Refused, match=r"pip install 'hybrid-ems\[postgresql\]'"):
        make(cast("Desk", None))
