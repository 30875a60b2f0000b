"""What Prometheus reads."""

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from ems.errors import DataError
from tests.builders import site
from tests.unit.api.fakes import FakeHistory, FakePlans, clock, full_history, plan, status


def scrape(history: FakeHistory, plans: FakePlans) -> dict[tuple, float]:
    app = create_app(site=site(), history=history, plans=plans, clock=clock())
    answer = TestClient(app, base_url="http://127.0.0.1").get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    assert len({f.name for f in families}) == len(families)
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k != "path")): s.value
        for f in families
        for s in f.samples
    }


def test_metrics_parse_and_hold_values_with_units_in_names():
    got = scrape(full_history(), FakePlans([plan()]))
    assert got["ems_grid_p_kw", "grid1"] == 100.0
    assert got["ems_bess_p_kw", "bess1"] == -50.0
    assert got["ems_feeder_p_kw", "critical"] == 80.0
    assert got["ems_process_status_age_seconds", "edge"] == 1.0
    assert got["ems_process_cycle_s_p99", "edge"] == 0.04
    assert got["ems_process_held_safe", "edge"] == 0.0
    assert got["ems_process_state", "mode", "edge", "grid_tied"] == 1.0
    assert got["ems_grid_mode", "grid_tied"] == 1.0
    assert got["ems_grid_mode", "islanded"] == 0.0
    assert got["ems_plan_age_seconds",] == 300.0
    assert got["ems_plan_gap_ratio",] == 0.024
    assert got["ems_plan_label", "incumbent"] == 1.0
    assert got["ems_store_up", "historian"] == 1.0


def test_metrics_missing_values_are_absent_not_numbers():
    got = scrape(full_history(), FakePlans())
    assert ("ems_genset_p_kw", "gen1") not in got
    assert got["ems_point_good", "gen1", "p_kw"] == 0.0
    assert got["ems_point_age_seconds", "gen1", "p_kw"] == 60.0
    assert ("ems_bess_soc", "bess1") not in got  # it was NaN
    assert ("ems_process_worst", "edge") not in got
    assert not any(k[0] == "ems_bess_heartbeat" for k in got)
    assert got["ems_plan_valid",] == 0.0
    assert ("ems_plan_age_seconds",) not in got


def test_metrics_with_a_broken_store_say_so():
    got = scrape(FakeHistory(broken=DataError("gone")), FakePlans([plan()]))
    assert got["ems_store_up", "historian"] == 0.0
    assert got["ems_store_up", "plans"] == 1.0
    assert got["ems_plan_valid",] == 1.0


def test_metrics_hostile_field_names_and_values_still_parse():
    history = full_history()
    history.status_rows = {
        'ed"ge\n': status(
            'ed"ge\n', 1, **{"P95 cycle-time": 1.0, "mode": 'a"b\\c\n' + "x" * 500, "status_age_seconds": 3}
        )
    }
    got = scrape(history, FakePlans())
    assert got["ems_process_p95_cycle_time", 'ed"ge\n'] == 1.0
