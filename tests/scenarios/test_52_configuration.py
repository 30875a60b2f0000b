"""52: configuration truncated, edited, of another site, of an old form: refused, the good one stays."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.writing_permit import kept_copy
from connectors.stores.commissioning import Record, read_record, write_record
from connectors.stores.permit import missing, require_commissioned
from ems.errors import ConfigError
from ems.site import Site
from ems.site_schema import load_site
from tests.scenarios.commissioning import changed, scaled, whole_record
from tests.scenarios.conftest import DEMO

pytestmark = pytest.mark.scenario(52)


def refusal(path: Path, record: Record, site: Site) -> str:
    with pytest.raises(ConfigError) as refused:
        require_commissioned(path, record, site)
    return str(refused.value)


def test_record_of_the_whole_site_permits_and_gives_the_identities(demo: Site, tmp_path: Path):
    path = tmp_path / "commissioning.json"
    write_record(path, whole_record(demo))
    told = require_commissioned(path, read_record(path), demo)
    assert told["pcs"]["serial"] == "x"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_truncated_record_is_refused(demo: Site, tmp_path: Path, cut: int):
    path = tmp_path / "commissioning.json"
    write_record(path, whole_record(demo))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConfigError, match=r"commissioning\.json"):
        read_record(path)


def test_edited_reordered_or_shortened_record_is_refused(demo: Site, tmp_path: Path):
    path = tmp_path / "commissioning.json"
    write_record(path, whole_record(demo))
    good = json.loads(path.read_text())
    spoils: tuple[Callable[[Any], object], ...] = (
        lambda e: e[20]["data"].update(verdict="fail"),
        lambda e: e[20].update(user="mallory"),
        lambda e: e.pop(20),
        lambda e: e.insert(3, e.pop(20)),
    )
    for spoil in spoils:
        spoilt = json.loads(json.dumps(good))
        spoil(spoilt["entries"])
        path.write_text(json.dumps(spoilt))
        with pytest.raises(ConfigError, match="another hash"):
            read_record(path)
    path.write_text(json.dumps({**good, "format": 0}))
    with pytest.raises(ConfigError, match="format"):
        read_record(path)


def test_record_of_another_site_is_refused(demo: Site, tmp_path: Path):
    assert "another site" in refusal(tmp_path, whole_record(replace(demo, name="other")), demo)


def test_what_changed_is_named_and_nothing_else(demo: Site, tmp_path: Path):
    record = whole_record(demo)
    said = refusal(tmp_path, record, scaled(demo, "bess1.p_set_kw", 10.0))
    assert "connections.pcs: found changed since commissioning" in said
    assert "gen1" not in said
    said = refusal(tmp_path, record, changed(demo, "pv1.p_kw", address="7"))
    assert "connections.pv_controller: found changed" in said
    dearer = replace(demo, diesel_per_l=9.0)
    assert require_commissioned(tmp_path, record, dearer)


def test_point_without_a_row_is_named(demo: Site, tmp_path: Path):
    record = whole_record(demo)[:-1]
    assert [p for p, _ in missing(record, demo)] == [demo.connections[-1].points[-1].point]
    assert demo.connections[-1].points[-1].point in refusal(tmp_path, record, demo)


def test_run_keeps_to_what_it_began_with_whatever_becomes_of_the_file(tmp_path: Path):
    """A process that is started again finds the good file; the next run refuses, nothing half-written."""
    home, data = tmp_path / "site", tmp_path / "data"
    (home / "maps").mkdir(parents=True)
    for path in (DEMO.parent / "maps").iterdir():
        (home / "maps" / path.name).write_bytes(path.read_bytes())
    (home / "site.yaml").write_bytes(DEMO.read_bytes())
    before = load_site(home / "site.yaml")
    copy = kept_copy(home / "site.yaml", data)
    assert load_site(copy) == before
    (home / "site.yaml").write_bytes(DEMO.read_bytes()[:3000])
    assert load_site(copy) == before
    files = sorted(data.rglob("*"))
    with pytest.raises(ConfigError):
        kept_copy(home / "site.yaml", data)
    assert sorted(data.rglob("*")) == files
