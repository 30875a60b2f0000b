"""Three phases in a site file: what the keys become, and what they are without a word."""

import shutil
from pathlib import Path

import pytest

from ems.phases import EVEN, PHASE_POINTS, PhaseParams
from ems.site import Site
from ems.site_schema import load_site

HERE = Path(__file__).parent / "broken_sites"
PHASES = "".join(
    f'  grid1.p_l{n}_kw: {{address: "nsu=urn:x;s=P{n}", type: Double, range: [-300, 300], age_s_max: 10}}\n'
    for n in (1, 2, 3)
)


@pytest.fixture
def with_phases(tmp_path: Path) -> Site:
    shutil.copytree(HERE / "maps", tmp_path / "maps")
    meter = tmp_path / "maps" / "meter.yaml"
    meter.write_text(meter.read_text() + PHASES)
    text = (HERE / "good.yaml").read_text()
    text = text.replace("  transfer_s: 0.2\n", "  transfer_s: 0.2\n  phases: {i_a_max: 0.6 kA}\n")
    vital = "p_peak_kw: 120, power_factor_ratio: 0.95"
    text = text.replace(vital, f"{vital}, phase_share: [60 %, 0.3, 0.1]")
    (tmp_path / "site.yaml").write_text(text)
    return load_site(tmp_path / "site.yaml")


def test_phase_keys_become_parameters(with_phases: Site):
    assert with_phases.grid.phases == PhaseParams(margin_kw=35.0, worst=True, i_a_max=600.0)
    assert [f.phase_share for f in with_phases.feeders] == [(0.6, 0.3, 0.1), EVEN]
    assert set(with_phases.phased()) == {"grid1"}
    assert "p_l1_kw" in with_phases.read_names()["grid1"]
    assert "p_l1_kw" not in with_phases.read_names()["gen1"]


def test_phase_keys_left_out_nothing_is_held_on_a_phase():
    site = load_site(HERE / "good.yaml")
    assert site.phased() == {}
    assert not PHASE_POINTS & {n for names in site.read_names().values() for n in names}
