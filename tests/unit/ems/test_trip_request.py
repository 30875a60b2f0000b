"""The trip request of a PV plant in a site file: no silence and no safe table closes what was opened."""

import shutil
from pathlib import Path

import pytest

from ems.errors import ConfigError
from ems.site import Site
from ems.site_schema import load_site
from tests.architecture.source_tree import ROOT

AT = "address: 44, table: holding, type: u16, range: [0, 1], age_s_max: 25"
ROW = f"  trip_request: {{{AT}, writable: true}}\n"
ENTRY = """  pv1.trip_request:
    low: 0
    high: 1
    refresh_s: 10
    safe: {SAFE}
    silence: {SILENCE}
"""
HOLD = "grid_tied: hold, islanded: hold, black: hold"


def loaded(folder: Path, safe: str = HOLD, silence: str = "timeout_s: 45, action: hold") -> Site:
    shutil.copytree(ROOT / "sites" / "demo", folder / "demo")
    site_file, map_file = folder / "demo" / "site.yaml", folder / "demo" / "maps" / "pv_plant.yaml"
    rows = map_file.read_text()
    at = rows.index("  p_limit_kw:")
    map_file.write_text(rows[:at] + ROW + rows[at:])
    text = site_file.read_text()
    at = text.index("  pv1.p_limit_kw:\n")
    entry = ENTRY.replace("SAFE", safe).replace("SILENCE", silence)
    site_file.write_text(text[:at] + entry + text[at:])
    return load_site(site_file)


@pytest.mark.parametrize(
    ("safe", "silence"),
    [
        (HOLD, "timeout_s: 45, action: hold"),
        ("grid_tied: hold, islanded: 1, black: 1", "timeout_s: 45, action: value, value: 1"),
    ],
)
def test_trip_request_that_stays_is_taken(tmp_path: Path, safe: str, silence: str):
    own = loaded(tmp_path, safe, silence).authority.setpoints["pv1.trip_request"]
    assert (own.low, own.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("safe", "silence", "key"),
    [
        ("grid_tied: 0, islanded: hold, black: hold", "timeout_s: 45, action: hold", "grid_tied"),
        ("grid_tied: hold, islanded: 0, black: hold", "timeout_s: 45, action: hold", "islanded"),
        (HOLD, "timeout_s: 45, action: stop", "action"),
        (HOLD, "timeout_s: 45, action: value, value: 0", "action"),
    ],
)
def test_trip_request_that_lets_the_plant_in_again_is_refused(
    tmp_path: Path, safe: str, silence: str, key: str
):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, safe, silence)
    (problem,) = caught.value.problems
    assert problem.key == f"authority.pv1.trip_request.{'silence' if key == 'action' else 'safe'}.{key}"
    assert "hold" in problem.allowed
