"""From the site file to the Site, and the schema for editors."""

import random
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ems.assets import OnSilence, Sharing
from ems.errors import ConfigError
from ems.points import POINTS
from ems.site import Protocol
from ems.site_schema import load_site, map_json_schema, site_json_schema

DEMO = Path(__file__).parents[3] / "sites" / "demo" / "site.yaml"
GOOD = Path(__file__).parent / "broken_sites"


@pytest.fixture(scope="module")
def demo():
    return load_site(DEMO)


@pytest.fixture
def edited(tmp_path):
    """Load the small good site with some of its text replaced."""

    def _edited(*pairs: tuple[str, str], file: str = "good.yaml"):
        shutil.copytree(GOOD / "maps", tmp_path / "maps", dirs_exist_ok=True)
        shutil.copy(GOOD / "good.yaml", tmp_path / "good.yaml")
        target = tmp_path / file
        text = target.read_text()
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        target.write_text(text)
        return load_site(tmp_path / "good.yaml")

    return _edited


def keys_of(error: ConfigError) -> list[str]:
    return [p.key for p in error.problems]


def test_load_site_demo_is_the_plant_of_its_file(demo):
    assert demo.name == "demo"
    assert demo.hierarchy.path("gen1", "p_kw").endswith("mill-4/powerhouse/gen1/p_kw")
    assert demo.bess[0].battery.soc_max == 0.95
    assert demo.gensets[0].fuel_l_h == (41.6, 70.0, 99.9, 135.1)
    assert demo.gensets[0].start_delay_s == 40.0
    assert demo.gensets[1].sharing is Sharing.BASE_LOAD
    assert demo.grid.transfer_s == 0.2
    assert demo.weather is not None


def test_load_site_demo_maps_every_required_point_once(demo):
    mapped = [m.point for c in demo.connections for m in c.points]
    assert len(mapped) == len(set(mapped))
    required = {f"{a}.{s.name}" for a, kind in demo.asset_kinds().items() for s in POINTS[kind] if s.required}
    assert required <= set(mapped)
    assert set(demo.authority.setpoints) <= {
        m.point for c in demo.connections for m in c.points if m.writable
    }


def test_load_site_demo_device_units_and_signs_are_folded_in(demo):
    rows = {m.point: m for c in demo.connections for m in c.points}
    assert (rows["bess1.p_kw"].scale, rows["bess1.p_kw"].sign, rows["bess1.p_kw"].unit) == (0.1, -1, "kW")
    assert rows["gen2.p_kw"].word_order == "little"
    assert rows["pv1.p_limit_kw"].scale == 0.7
    assert rows["grid1.p_kw"].address.startswith("nsu=")
    assert {c.protocol for c in demo.connections} == {Protocol.MODBUS_TCP, Protocol.OPC_UA}


def test_load_site_demo_safe_table_and_silence(demo):
    bess = demo.authority.setpoints["bess1.p_set_kw"]
    assert (bess.safety.grid_tied, bess.safety.islanded, bess.safety.black) == (0.0, None, None)
    assert bess.safety.behaviour.on_silence is OnSilence.VALUE
    assert bess.safety.behaviour.value == 0.0
    assert all(
        s.safety.behaviour.timeout_s >= 3 * s.refresh_s for s in demo.authority.setpoints.values()
    )  # fmt: skip


def test_load_site_units_in_authority_and_ranges_converted(edited):
    site = edited(
        ("    low: -500\n    high: 500", "    low: -0.5 MW\n    high: 500 kW\n    ramp_per_s: 600 kW/min"),
        ("    high: 600", "    high: 600000 W"),
    )
    setpoint = site.authority.setpoints["bess1.p_set_kw"]
    assert (setpoint.low, setpoint.high, setpoint.ramp_per_s) == (-500.0, 500.0, 10.0)
    assert site.authority.setpoints["pv1.p_limit_kw"].high == 600.0


def test_load_site_outage_with_offset_becomes_utc(edited):
    notice = (
        "{id: a, issued_at: 2026-03-17T15:00+03:00, start: 2026-03-18T18:00+03:00, end: 2026-03-18T21:00Z}"
    )
    site = edited(("outages: []", f"outages:\n  - {notice}"))
    assert site.outages[0].issued_at == datetime(2026, 3, 17, 12, 0, tzinfo=UTC)
    assert site.outages[0].start == datetime(2026, 3, 18, 15, 0, tzinfo=UTC)


def test_load_site_without_connections_is_a_plant_to_simulate(edited, tmp_path):
    text = (GOOD / "good.yaml").read_text()
    site = edited((text[text.index("connections:") :], ""))
    assert site.connections == ()


def test_load_site_one_map_for_two_devices_reports_its_fault_once(edited):
    with pytest.raises(ConfigError) as caught:
        edited(("type: s32, scale: 0.1", "type: s33, scale: 0.1"), file="maps/field.yaml")
    assert keys_of(caught.value) == ["points.bess1.p_kw.type"]


def test_load_site_fault_of_form_does_not_hide_faults_elsewhere(edited):
    with pytest.raises(ConfigError) as caught:
        edited(
            ("    p_rated_kw: 400", "    p_rated_kw: a lot"),
            ("    p_dc_kwp: 700", "    p_dc_kwp: 7000"),
            ("  islanded: [bess1, gen1]", "  islanded: [bess1, gen7]"),
        )
    assert keys_of(caught.value) == ["gensets.gen1.p_rated_kw", "pv.pv1.p_dc_kwp", "forming.islanded[1]"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("p_peak_kw: 120,", "p_peak_kw: 495,", None),
        ("p_peak_kw: 120,", "p_peak_kw: 505,", "forming.islanded[0]"),
        ("p_peak_kw: 120, power_factor_ratio: 0.95", "p_peak_kw: 495, power_factor_ratio: 0.85", "forming.islanded[0]"),  # noqa: E501
    ],
)  # fmt: skip
def test_load_site_critical_peak_at_the_edge_of_the_forming_source(edited, old, new, key):
    changes = [
        (old, new),
        ("    p_rated_kw: 400", "    p_rated_kw: 560"),  # 532 where it stands
        ("    s_kva: 500", "    s_kva: 700"),
    ]
    changes += [("{p_kw: 400, fuel_l_h: 108.3}", "{p_kw: 560, fuel_l_h: 151}")]
    if key is None:
        edited(*changes)
        return
    with pytest.raises(ConfigError) as caught:
        edited(*changes)
    assert keys_of(caught.value) == [key]


def test_load_site_critical_energy_counts_failed_starts(edited):
    slow = ("    crank_s: 10", "    crank_s: 1750")
    two_starts = 120 * 2 * 1780 / 3600  # kWh; a full battery holds 809 of them
    assert two_starts < 809 < 120 * 15 * 1780 / 3600
    edited(slow)
    with pytest.raises(ConfigError) as caught:
        edited(slow, ("      energy_kwh: 1 MWh", "      energy_kwh: 120"))
    assert keys_of(caught.value) == ["reserve.failed_starts"]


NASTY = (
    "", "~", "true", "-1", "0", "1e400", "99999999999999999999", "x", "[]", "{}", "[1]", "{a: 1}", ".nan",
    "-.inf", "2026-01-01", "'5 kW'", "hold", "*a", "!t 1", "9 %", "-5 MWh", "é",
)  # fmt: skip


@pytest.mark.parametrize("file", ["good.yaml", "maps/field.yaml", "maps/meter.yaml"])
def test_load_site_any_value_replaced_loads_or_is_refused(tmp_path, file):
    """Thirty mutations per file, always the same: none may end in another exception."""
    rng = random.Random(20260318)
    shutil.copytree(GOOD / "maps", tmp_path / "maps")
    shutil.copy(GOOD / "good.yaml", tmp_path / "good.yaml")
    text = (GOOD / file).read_text()
    spots = list(re.finditer(r"(?<=: )[^\s{\[,}\]][^,}\]\n]*|(?<=[\[ ])[\w.-]+(?=[:,\]])", text))
    refused = 0
    for _ in range(30):
        spot = rng.choice(spots)
        (tmp_path / file).write_text(text[: spot.start()] + rng.choice(NASTY) + text[spot.end() :])
        try:
            load_site(tmp_path / "good.yaml")
        except ConfigError as error:
            refused += len(error.problems) > 0
    assert refused > 20


def test_site_json_schema_closed_and_documented():
    schema = site_json_schema()
    assert schema["additionalProperties"] is False
    assert {"grid", "bess", "authority", "connections"} <= set(schema["properties"])
    power = schema["$defs"]["GensetForm"]["properties"]["p_rated_kw"]
    assert {"type": "number", "exclusiveMinimum": 0} in power["anyOf"]
    assert "from" in schema["$defs"]["TouWindowForm"]["properties"]
    assert "points" in map_json_schema()["properties"]


def test_site_schema_loads_no_heavy_package():
    heavy = ("pandas", "pyomo", "highspy", "scipy", "pvlib", "fastapi", "plotly")
    code = f"import sys, ems.site_schema; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
