"""The demo as a user runs it: looked at from outside while it runs, and by what it leaves behind."""

import json
import re
import subprocess
from html.parser import HTMLParser

import pytest

from connectors.historian.sqlite import SqliteHistoryReader
from ems.commands import WriteOutcome
from sim.result import load_result
from tests.e2e.days import ALL, cycle_times_s, demo_day
from tests.e2e.live import LiveDemo, processes_with, wait_for

pytestmark = pytest.mark.timeout(1800)  # the first to ask for the end of the day waits for it
CONTROLLERS = {"mpc": "EMS", "rules": "plain rules", "rules_tou": "rules by the clock"}
ROUTES = ("/health", "/ready", "/api/v1/snapshot", "/api/v1/plan", "/metrics")


def register_kw(mbpoll: str, port: int, table: str, address: int) -> float:
    """32 bits of the PCS in kW, read by mbpoll; the device counts 100 W, charging positive."""
    command = [mbpoll, "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", "-q", "-B", "-o", "10"]
    command += ["-r", str(address), "-c", "1", "-t", table, "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"^\[{address}\]:\s+(-?\d+)", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return -0.1 * int(found[1])


@pytest.mark.needs_server
def test_demo_mbpoll_at_the_pcs_sees_setpoint_and_power_change(demo: LiveDemo, require_program):
    """Addresses from sites/demo/maps/bess_pcs.yaml: power 100 (input), setpoint 200 (holding)."""
    mbpoll = require_program("mbpoll")
    port = demo.port("pcs")
    wait_for("the edge's first status", lambda: demo.answer("/ready") or None)
    seen: list[tuple[float, float]] = []

    def changed() -> bool | None:
        assert demo.running, f"the demo ended, and mbpoll had seen only {seen}"
        setpoint, power = register_kw(mbpoll, port, "4:int", 200), register_kw(mbpoll, port, "3:int", 100)
        seen.append((setpoint, power))
        different = len({s for s, _ in seen}) >= 3
        return True if different and len({round(p) for _, p in seen}) >= 3 else None

    wait_for("a third setpoint", changed, 600.0)
    assert all(-550.0 <= s <= 550.0 for s, _ in seen), seen
    followed = [(s, p) for s, p in seen if abs(s - p) <= 15.0]  # noise, and cycles between the two reads
    assert len(followed) >= len(seen) / 2, f"the power does not follow the setpoint: {seen}"


@pytest.mark.parametrize("route", ROUTES)
def test_demo_service_while_the_day_runs_answers(demo: LiveDemo, route: str):
    body = demo.answer(route)
    if route == "/metrics":
        assert re.search(r"^ems_\w+(\{.*\})? [-+0-9.e]+$", body, re.MULTILINE), body[:2000]
    elif route == "/api/v1/snapshot":
        readings = json.loads(body)["readings"]
        assert readings["bess1.soc"]["quality"] == "good", readings["bess1.soc"]
        assert 0.05 <= readings["bess1.soc"]["value"] <= 1.0
    else:
        assert json.loads(body)


def test_demo_serve_keeps_the_service_up_over_the_finished_day(served_demo: LiveDemo):
    """A port of its own is no use here: the one of the day answers on, from what the day has stored."""
    assert json.loads(served_demo.answer("/health"))["status"] == "live"
    at = json.loads(served_demo.answer("/api/v1/plan"))["plan"]["issued_at"]
    assert at.startswith("2026-03-19T03:"), at
    assert "report:" in served_demo.text


def test_demo_exit_code_at_the_end_is_zero(finished_demo: LiveDemo):
    assert finished_demo.process.returncode == 0, finished_demo.text


def test_demo_table_ems_stands_beside_both_baselines(finished_demo: LiveDemo):
    text = finished_demo.text
    (head,) = [line for line in text.splitlines() if "unit" in line and "EMS" in line]
    cells = [c.strip() for c in re.split("[┃│|]", head) if c.strip()]
    assert cells == ["unit", *CONTROLLERS.values()]
    for row in ("Cost, all cash and stored energy", "Cost including lost load", "Diesel", "Genset starts"):
        (line,) = [x for x in text.splitlines() if re.match(rf"[│|]\s*{row}\s*[│|]", x)]
        figures = [c.strip() for c in re.split("[│|]", line)[3:6]]
        assert all(re.fullmatch(r"-?[\d\s.,]+", f) for f in figures), line


class Outside(HTMLParser):
    """Collects what a browser would load or open from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags += 1
        for name, value in attrs:
            target = (value or "").strip().lower()
            if name in ("src", "href", "srcset", "data", "action", "poster") and not target.startswith(
                ("#", "data:")
            ):
                self.found.append(f"<{tag} {name}={value}>")
            if name == "style" and re.search(r"url\(\s*['\"]?(?!data:|#)", target):
                self.found.append(f"<{tag} style={value}>")


def test_demo_report_is_one_file_that_loads_nothing(finished_demo: LiveDemo):
    html = (finished_demo.out / "report.html").read_text(encoding="utf-8")
    page = Outside()
    page.feed(html)
    assert page.tags > 50
    assert page.found == []
    styles = " ".join(re.findall(r"<style[^>]*>(.*?)</style>", html, re.DOTALL))
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", styles)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_demo_results_load_and_their_energy_closes(finished_demo: LiveDemo, controller: str):
    result = load_result(finished_demo.out / controller)
    counters = result.counters
    assert result.controller == controller
    assert counters.duration_s == pytest.approx(86400.0)
    assert counters.residual_kwh <= 1e-9 * sum(counters.demand_kwh.values())
    assert counters.violations.get("command_out_of_bounds", 0) == 0
    assert len(result.trace.t_s) > 1000


def test_demo_historian_agrees_with_the_counters(finished_demo: LiveDemo):
    found = re.search(
        r"The historian agrees with the plant's own meters\s+within ([\d.]+)%", finished_demo.text
    )
    assert found, finished_demo.text
    assert float(found[1]) <= 0.5


def test_demo_planner_was_killed_and_came_back_once(finished_demo: LiveDemo):
    """The screen says so, and the edge showed the last plan from the next cycle until it was back."""
    assert re.search(r"planner was killed once and came back 1 time", finished_demo.text)
    events = load_result(finished_demo.out / "mpc").events
    told = [(e.at, e.fields["now"]) for e in events if e.kind == "edge.source.changed"]
    lost = [at for at, now in told if now == "last_plan"]
    assert lost, told
    back = next(at for at, now in told if now == "plan" and at > lost[0])
    killed = lost[0].replace(hour=19, minute=15, second=0, microsecond=0)  # 15:15 local time
    assert (lost[0] - killed).total_seconds() <= 10.0
    assert (back - killed).total_seconds() <= 620.0


def test_demo_edge_missed_no_cycle_and_no_write_was_rejected(finished_demo: LiveDemo):
    scenario = demo_day()
    reader = SqliteHistoryReader(finished_demo.out / "run" / "history.sqlite")
    stored = [scenario.offset_s(s.at) for s in reader.series("bess1.p_kw", scenario.start, scenario.end, ALL)]
    assert stored == pytest.approx(cycle_times_s(scenario), abs=1e-3)
    commands = [c for c in reader.commands(scenario.start, scenario.end, None, ALL) if c.refused_code is None]
    assert len(commands) > 1000
    assert [c for c in commands if c.outcome is not WriteOutcome.CONFIRMED] == []


def test_demo_leaves_no_process_behind(finished_demo: LiveDemo):
    assert processes_with(str(finished_demo.out)) == []
