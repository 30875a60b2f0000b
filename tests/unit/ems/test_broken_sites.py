"""Every broken site file names its faults: `# FAULT <key> ...` in the line they must be reported in."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ems.assets import BurnOff, Exercise, LowLoad, QuietHours, Rating, ReactivePolicy
from ems.battery_terms import FullCharge, RestingSoc, SocLimit, SocReserve, TemperatureLimit, Warranty
from ems.control import ControlMode, Role
from ems.control_site import ControlParams, LimitKind
from ems.cycle_life import CycleLife
from ems.errors import ConfigError
from ems.poi import FlappingPolicy, TransformerParams
from ems.site_schema import load_site
from ems.sources import SourceSets, StrengthPolicy

HERE = Path(__file__).parent / "broken_sites"
BROKEN = sorted(HERE.glob("[0-9]*.yaml"))
MAPS = re.compile(r"^\s+map: (\S+)", re.MULTILINE)


def expected_faults(site_file: Path) -> set[tuple[str, int | None, str]]:
    """(file name, line, key) of every marker in a site file and in the maps it names."""
    text = site_file.read_text()
    maps = [HERE / name for name in MAPS.findall(text)]
    found: set[tuple[str, int | None, str]] = set()
    for file in [site_file, *maps]:
        if not file.exists():
            found.add((file.name, None, "(the file)"))
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            _, marker, keys = line.partition("# FAULT ")
            names = [keys] if keys.startswith("(") else keys.split()
            found |= {(file.name, number, key) for key in names if marker}
    return found


def test_broken_sites_are_more_than_ten():
    assert len(BROKEN) >= 10


@pytest.mark.parametrize("site_file", BROKEN, ids=lambda p: p.stem)
def test_load_site_broken_file_reports_every_fault_and_no_other(site_file):
    expected = expected_faults(site_file)
    with pytest.raises(ConfigError) as caught:
        load_site(site_file)
    found = {(Path(p.file).name, p.line, p.key) for p in caught.value.problems}
    assert found == expected, str(caught.value)
    assert all(p.found and p.allowed for p in caught.value.problems)


def test_load_site_good_file_of_the_same_shape_passes():
    site = load_site(HERE / "good.yaml")
    assert site.grid.p_import_kw_max == 350.0
    assert site.bess[0].battery.energy_kwh == 1000.0
    assert site.bess[0].battery.cycle_life == CycleLife(
        depth_ratio=(0.2, 0.85), cycles_count=(30_000.0, 5_000.0), replacement_cost=120_000.0
    )
    assert site.bess[0].battery.power_by_soc[0] == SocLimit(soc=0.05, charge_ratio=0.5, discharge_ratio=0.5)
    assert site.bess[0].battery.derating == (
        TemperatureLimit(temp_degc=0.0, charge_ratio=0.0, discharge_ratio=0.8),
        TemperatureLimit(temp_degc=15.0, charge_ratio=1.0, discharge_ratio=1.0),
    )
    assert site.bess[0].battery.full_charge == FullCharge(
        interval_s=2_592_000.0, hold_s=7200.0, late_cost_per_h=2.0
    )
    always, backup = site.bess[0].battery.soc_reserve
    assert always == SocReserve(soc=0.3)
    assert backup.local is not None
    assert (backup.local.start_h, backup.local.end_h, backup.soc, backup.price_per_kwh) == (17, 21, 0.6, 1.5)
    assert backup.local.weekdays == frozenset({0})
    assert site.bess[0].battery.resting == RestingSoc(above_soc=0.8, price_per_kwh=0.001)
    assert site.bess[0].battery.warranty == Warranty(
        day_kwh_max=1500.0, year_kwh_max=300_000.0, discharge_per_h_max=0.5, mean_soc_max=0.6
    )
    assert site.gensets[0].starts_per_day_max == 6
    assert site.gensets[0].quiet == (QuietHours(start_h=22.0, end_h=6.0, cost_per_h=40.0),)
    assert site.gensets[0].low_load == LowLoad(
        below_ratio=0.4,
        price_per_kwh=0.05,
        budget_h=6.0,
        burn_off=BurnOff(after_h=12.0, for_h=1.0, above_ratio=0.7),
    )
    assert site.gensets[0].start_cost_after(7.9) == 15.0
    assert site.gensets[0].start_cost_after(8.1) == 40.0
    assert site.gensets[0].rating == Rating(mean_ratio_max=0.7, year_h_max=300.0)
    assert site.gensets[0].p_rated_kw == pytest.approx(400.0 * (1.0 - 0.03 - 0.02))  # 1600 m, 45 degC
    assert site.gensets[0].fuel_kw == pytest.approx((100.0, 200.0, 300.0, 380.0))
    assert site.gensets[0].fuel_l_h[-1] == pytest.approx(80.6 + 0.8 * (108.3 - 80.6))
    assert site.gensets[0].exercise == Exercise(every_h=720.0, for_h=0.5, load_ratio=0.4)
    assert site.gensets[0].balance_per_h == 0.5
    assert site.deliveries[0].fuel_l == 800.0
    assert site.gensets[0].tank_usable_l == 1900.0
    assert site.maintenance[0].start == datetime(2026, 3, 18, 5, 0, tzinfo=UTC)
    assert site.grid.reactive == ReactivePolicy(v_poi_min_pu=0.94, v_poi_max_pu=1.06)
    assert site.grid.ramp_kw_s == 0.5
    assert site.grid.transformer == TransformerParams(s_kva=400.0, overload_per_kvah=2.0)
    assert site.grid.flapping == FlappingPolicy(window_h=6.0, growth_ratio=3.0, dwell_s_max=3600.0)
    assert site.grid.strength == StrengthPolicy(scr_ratio_min=3.0, genset_ratio=5.0, s_grid_kva=4000.0)
    sets = (("bess1", "pv1"), ("bess1", "gen1", "pv1"))
    assert site.sources == SourceSets(islanded=sets, unpermitted_cost_per_h=100.0)
    assert (site.reserve.n_minus_1, site.reserve.n_minus_1_tied) == (("genset", "pv"), ("import", "bess"))
    assert site.reserve.pv_drop_ratio == 0.6
    evening, repair = site.grid.caps
    assert evening.local is not None
    assert (evening.local.start_h, evening.local.end_h, evening.local.weekdays) == (
        17.0,
        21.0,
        frozenset({0}),
    )
    assert (evening.p_import_kw_max, evening.p_export_kw_max) == (200.0, None)
    assert (repair.start, repair.p_import_kw_max) == (datetime(2026, 3, 18, 15, 0, tzinfo=UTC), 100.0)
    assert sum(len(c.points) for c in site.connections) == 23 + 7


def test_load_site_points_of_efficiency_become_curves_and_the_loss_that_stands(tmp_path):
    """Charging 4, 12.5 and 30 kW are lost: 4 - 50 x 8.5 / 200 of it at no power, if it is not told."""
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    text = (HERE / "good.yaml").read_text()
    for line in (
        "eta_charge: 0.975",
        "eta_discharge: 0.975",
        "loss_charge_pu: 0.0173",
        "loss_discharge_pu: 0.0188",
    ):
        assert text.count(f"      {line}\n") == 1
        text = text.replace(f"      {line}\n", "")
    rows = "{p_kw: 50, eta_ratio: 92 %}, {p_kw: 250, eta_ratio: 0.95}, {p_kw: 0.5 MW, eta_ratio: 0.94}"
    new = f"      efficiency_charge: [{rows}]\n      efficiency_discharge: [{rows}]\n"
    (tmp_path / "told.yaml").write_text(
        text.replace("      no_load_loss_kw: 2\n", f"{new}      no_load_loss_kw: 1\n")
    )
    (tmp_path / "left.yaml").write_text(text.replace("      no_load_loss_kw: 2\n", new))
    told, left = (load_site(tmp_path / f"{name}.yaml").bess[0].battery for name in ("told", "left"))
    assert told.charge_curve is not None
    assert told.charge_curve.p_kw == (0.0, 50.0, 250.0, 500.0)
    assert told.charge_curve.loss_kw == pytest.approx((0.0, 3.0, 11.5, 29.0))
    assert (told.eta_charge, told.eta_discharge) == pytest.approx((0.95, 0.95))
    at_zero = [
        y1 - 50.0 * (y2 - y1) / 200.0 for y1, y2 in ((4.0, 12.5), (50.0 / 0.92 - 50.0, 250.0 / 0.95 - 250.0))
    ]
    assert (told.no_load_loss_kw, left.no_load_loss_kw) == pytest.approx((1.0, max(at_zero)))
    assert left.discharge_curve is not None
    assert left.discharge_curve.loss_kw[-1] == pytest.approx(500.0 / 0.94 - 500.0 - max(at_zero))


def test_load_site_control_section_becomes_parameters_in_units_of_their_points():
    control = load_site(HERE / "good.yaml").control
    assert control.start_mode is ControlMode.MANUAL
    assert control.users["eve"] == {Role.OPERATOR, Role.ENGINEER}
    assert (control.setpoint_expiry_s, control.transfer_ramp_s) == (7200.0, 20.0)
    assert control.emergency_stop == {"bess1.p_set_kw": 0.0, "pv1.p_limit_kw": 0.0}
    (door,) = control.interlocks
    assert (door.point, door.low, door.high) == ("bus.contact_1", 0.5, None)
    bounded, blocked = door.effects
    assert (bounded.point, bounded.low, bounded.high, bounded.blocks) == (
        "bess1.p_set_kw",
        -50.0,
        50.0,
        False,
    )
    assert (blocked.point, blocked.blocks) == ("gen1.run_request", True)
    feed_in, ripple, import_cap = control.limits
    assert (feed_in.kind, feed_in.on_loss_kw, feed_in.heartbeat) == (
        LimitKind.PV,
        180.0,
        "grid1.limits_heartbeat",
    )
    assert [(c.point, c.cap_kw) for c in ripple.contacts] == [
        ("bus.contact_2", 360.0),
        ("bus.contact_3", 0.0),
    ]
    assert ripple.on_loss_kw is None
    assert (import_cap.kind, import_cap.watchdog_s, import_cap.on_loss_kw) == (LimitKind.IMPORT, 300.0, 100.0)


def test_load_site_without_control_section_keeps_everything_in_auto():
    site = load_site(Path(__file__).parents[3] / "sites" / "demo" / "site.yaml")
    assert site.control == ControlParams()
