"""P-Q corners in a site file: what they become, and what is said of corners that cannot be."""

import shutil
from pathlib import Path

import pytest

from cli.check import asset_lines
from ems.capability import capability_of
from ems.errors import ConfigError
from ems.site import Site
from ems.site_schema import load_site

HERE = Path(__file__).parent / "broken_sites"
PCS = "restart_s: 60}"
PV = "    azimuth_deg: 0\n    reconnect_s: 60\n"
WHOLE = ((-500.0, 0.0), (0.0, -300.0), (520.0, 0.0), (0.0, 400.0))


def corners(*pairs: tuple[float, float]) -> str:
    return f"[{', '.join(f'{{p_kw: {p}, q_kvar: {q}}}' for p, q in pairs)}]"


def loaded(tmp_path: Path, pcs: str = "", pv: str = "") -> Site:
    shutil.copytree(HERE / "maps", tmp_path / "maps")
    text = (HERE / "good.yaml").read_text()
    assert PCS in text
    assert PV in text
    text = text.replace(PCS, f"restart_s: 60, {pcs}}}" if pcs else PCS).replace(PV, PV + pv)
    (tmp_path / "site.yaml").write_text(text)
    return load_site(tmp_path / "site.yaml")


def test_pq_corners_become_a_polygon_counterclockwise(tmp_path: Path):
    pv = f"    s_kva: 650\n    pq_corners: {corners((0, 0), (0.6, 0.2), (0.6, -0.2))}\n"
    pv = pv.replace("0.6,", "0.6 MW,").replace("0.2}", "0.2 Mvar}")
    site = loaded(tmp_path, f"pq_corners: {corners(*reversed(WHOLE))}", pv)
    assert site.bess[0].pcs.capability == capability_of(reversed(WHOLE))
    assert set(site.bess[0].pcs.capability.corners) == set(WHOLE)
    assert site.pv[0].capability == capability_of([(600.0, -200.0), (600.0, 200.0), (0.0, 0.0)])


def test_pq_corners_are_shown_by_their_reach(tmp_path: Path):
    site = loaded(tmp_path, f"pq_corners: {corners(*WHOLE)}")
    said = {asset: text for _, asset, text in asset_lines(site)}
    assert said["bess1"].endswith("PCS 550 kVA, -300 to +400 kvar by 4 corners")
    assert "corners" not in said["pv1"]


def test_pq_corners_left_out_the_circle_counts(tmp_path: Path):
    site = loaded(tmp_path)
    assert (site.bess[0].pcs.capability, site.pv[0].capability) == (None, None)


@pytest.mark.parametrize(
    ("pairs", "found", "allowed"),
    [
        (WHOLE[:2], "2 corners", "three or more are needed"),
        ((*WHOLE, WHOLE[0]), "the corner -500 kW, 0 kvar twice", "each once is needed"),
        (
            (*WHOLE[:2], (200, -10), *WHOLE[2:]),
            "a dent at 200 kW, -10 kvar",
            "convex, in order around, is needed",
        ),
        (
            ((100, -50), (500, -50), (500, 50), (100, 50)),
            "no room for 0 kW, 0 kvar",
            "a polygon around it is needed",
        ),
        (
            ((-480, 0), *WHOLE[1:]),
            "480 kW taken at most, at 0 kvar",
            "room for p_charge_kw_max, 500 kW",
        ),
        (
            (*WHOLE[:2], (450, 0), WHOLE[3]),
            "450 kW given at most, at 0 kvar",
            "room for p_discharge_kw_max, 500 kW",
        ),
    ],
)
def test_pq_corners_that_cannot_be_are_told(
    tmp_path: Path, pairs: tuple[tuple[float, float], ...], found: str, allowed: str
):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"pq_corners: {corners(*pairs)}")
    (problem,) = caught.value.problems
    assert (problem.key, problem.found, problem.allowed) == ("bess.bess1.pcs.pq_corners", found, allowed)


def test_pq_corners_of_pv_without_a_rating_are_told(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, pv=f"    pq_corners: {corners((0, 0), (600, 200), (600, -200))}\n")
    (problem,) = caught.value.problems
    assert (problem.key, problem.found) == ("pv.pv1.pq_corners", "a plant without s_kva")


def test_reactive_powers_outside_the_corners_are_told_once_and_the_polygon_by_itself(tmp_path: Path):
    """A broken polygon is one problem; its curve is judged when it is whole."""
    dented = corners(*WHOLE[:2], (200, -10), *WHOLE[2:])
    control = "reactive: {by_power: [{p_kw: 0, q_kvar: 410}]}"
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"pq_corners: {dented}, {control}")
    keys = {p.key for p in caught.value.problems}
    assert "bess.bess1.pcs.pq_corners" in keys
    assert "bess.bess1.pcs.reactive.by_power[0].q_kvar" not in keys


@pytest.mark.parametrize(
    ("q_kvar", "refused"), [(-290.0, False), (-310.0, True), (390.0, False), (410.0, True)]
)
def test_stored_curve_stays_within_the_kvar_of_the_corners(tmp_path: Path, q_kvar: float, refused: bool):
    curve = f"curves: [{{index: 1, corners: [{{v_pu: 1, q_kvar: {q_kvar}}}]}}]"
    with pytest.raises(ConfigError) as caught:  # nobody has authority over the curve
        loaded(tmp_path, f"pq_corners: {corners(*WHOLE)}, reactive: {{takes: curve, {curve}}}")
    said = {p.key: p.allowed for p in caught.value.problems}
    key = "bess.bess1.pcs.reactive.curves[0].corners[0].q_kvar"
    assert said.get(key) == ("-300 to 400 kvar, by pq_corners" if refused else None)
