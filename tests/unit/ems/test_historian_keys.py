"""`historian` in a site file: how long audit rows are kept."""

import shutil
from pathlib import Path

import pytest

from ems.errors import ConfigError
from ems.site_schema import load_site

GOOD = Path(__file__).parent / "broken_sites"


@pytest.mark.parametrize(
    ("given", "key", "allowed"),
    [
        ("audit_keep_days: 364", "audit_keep_days", "365"),
        ("audit_keep_days: 400.5", "audit_keep_days", "a whole number"),
        ("audit_recent_h: 12", "audit_recent_h", "24 h or more"),
    ],
)
def test_audit_rows_cannot_be_kept_for_less(tmp_path, given, key, allowed):
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    (tmp_path / "site.yaml").write_text(f"{(GOOD / 'good.yaml').read_text()}historian: {{{given}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_site(tmp_path / "site.yaml")
    (problem,) = caught.value.problems
    assert problem.key == f"historian.{key}"
    assert allowed in problem.allowed


def test_audit_rows_are_kept_for_ever_unless_it_is_said(tmp_path):
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    (tmp_path / "site.yaml").write_text((GOOD / "good.yaml").read_text())
    assert load_site(tmp_path / "site.yaml").historian.audit_keep_days is None
