"""The planner's plans rest on what was known of its inputs, and name it."""

import asyncio
import hashlib
import sqlite3
import time
import zlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli.inputs_process as process
from cli.main import main
from cli.plan_screen import input_lines
from cli.planner_inputs import PlannerInputs, ToldCaps, planner_inputs
from cli.process_config import ProcessConfig
from connectors.inputs.store import InputReader, InputStore, statuses
from connectors.northbound.records import Records
from connectors.stores.plans import PlanReader
from ems.condition import PlantCondition
from ems.control_site import LimitKind, UtilityLimit
from ems.forecast import CapAhead
from ems.input_rules import house_provider
from ems.inputs import AnnouncedOutage, InputKind, InputParams, InputVersion
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.records import JsonValue, StatusRow
from ems.series import UniformSeries
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from forecasting.history import HistoryForecaster
from tests.builders import site
from tests.contract.openadr3_peer import params
from tests.scenarios.test_41_forecast_missing import AT, POSE, LimitedClock, planner_loop
from tests.unit.connectors.inputs_here import site_with

HOUR = timedelta(hours=1)


def one(kind: str, **changes: Any) -> InputParams:
    found = InputKind(kind)
    return InputParams(id=kind, kind=found, provider=house_provider(found), folder="x", **changes)


def store(tmp_path: Path, input_id: str, issued: datetime, **told: Any) -> None:
    version = InputVersion(
        input=input_id, issued_at=issued, issued_told=True, arrived_at=issued, source="a.csv",
        **({"sha256": "ab" * 32} | told),
    )  # fmt: skip
    kept = InputStore(tmp_path)
    kept.take(version, b"raw")
    kept.close()


def plan(
    tmp_path: Path, plant: Site, condition: PlantCondition, notices: tuple[OutageNotice, ...] = ()
) -> Plan:
    """What the planner's loop makes at AT."""
    loop = planner_loop(tmp_path, LimitedClock(AT, 1.0))
    try:
        loop.inputs = planner_inputs(plant, HistoryForecaster(plant, {}, {}), notices, tmp_path)
        made, posed = loop._solve(AT, condition)
        assert posed.forecast.inputs == made.inputs
        loop._publish(made)
    finally:
        loop.store.close()
    return made


def now(**changes: Any) -> PlantCondition:
    return replace(POSE.condition(), at=AT, **changes)


def test_plan_names_the_versions_it_rests_on_and_keeps_them(tmp_path: Path):
    prices = UniformSeries(start=AT, step_s=3600.0, values=np.array([0.5, -0.2] + [0.3] * 30))
    store(tmp_path, "price", AT - HOUR, series={"import_per_kwh": prices})
    plant = replace(site(), inputs=(one("price"),))
    made = plan(tmp_path, plant, now())
    assert made.import_per_kwh[:5] == pytest.approx((0.5,) * 4 + (-0.2,))
    (use,) = made.inputs
    assert (use.input, use.version, use.issued_at, use.sha256) == ("price", 1, AT - HOUR, "ab" * 32)
    kept = PlanReader(tmp_path / "plans.sqlite").get(made.plan_id)
    assert kept is not None
    assert kept.inputs == made.inputs
    found = InputReader(tmp_path).version(use.version)
    assert found is not None
    assert found[1] == b"raw", "the bytes it was made on are still there"
    (line,) = input_lines(kept)
    assert line.startswith(
        "price version 1, issued 2026-04-01 08:00, arrived 2026-04-01 08:00 UTC, import_per_kwh"
    )


def test_what_a_plan_rests_on_is_held_against_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    prices = UniformSeries(start=AT, step_s=3600.0, values=np.full(32, 0.3))
    digest = hashlib.sha256(b"raw").hexdigest()
    store(tmp_path, "price", AT - HOUR, series={"import_per_kwh": prices}, sha256=digest)
    made = plan(tmp_path, replace(site(), inputs=(one("price"),)), now())
    asked = ["inputs", "demo", "--dir", str(tmp_path), "--plan"]
    for plan_id in ("current", made.plan_id):
        assert main([*asked, plan_id]) == 0
        assert "kept as it came" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "inputs.sqlite") as db:
        db.execute("UPDATE version SET raw = ?", (zlib.compress(b"other"),))
    db.close()
    assert main([*asked, "current"]) == 1
    assert "NOT what is kept" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "inputs.sqlite") as db:
        db.execute("DELETE FROM version")
    db.close()
    assert main([*asked, "current"]) == 1
    assert "not kept any more" in capsys.readouterr().out
    assert main([*asked, "p-0"]) == 2
    assert "allowed: a plan that was published" in capsys.readouterr().err


def test_plan_without_inputs_is_as_it_was(tmp_path: Path):
    base = HistoryForecaster(site(), {}, {})
    told = planner_inputs(site(), base, (), tmp_path)
    assert told.forecaster is base
    forecast = base.forecast(planner_loop(tmp_path, LimitedClock(AT, 1.0)).planner.horizon(AT), AT)
    assert told.measured(forecast, now(grid_mode=GridMode.ISLANDED)) is forecast
    assert told.outages(AT, now()) == ()


def announce(tmp_path: Path, start: datetime, end: datetime) -> None:
    told = AnnouncedOutage(id="a", issued_at=AT - 9 * HOUR, start=start, end=end)
    store(tmp_path, "outages", AT - 9 * HOUR, outages=(told,))


def test_announced_outage_is_planned_as_an_island_and_named(tmp_path: Path):
    announce(tmp_path, AT + HOUR, AT + 3 * HOUR)
    made = plan(tmp_path, replace(site(), inputs=(one("outages"),)), now())
    modes = dict(zip((s - AT for s in made.grid.starts()), made.grid_mode, strict=True))
    assert modes[timedelta(0)] is GridMode.GRID_TIED
    assert modes[HOUR] is GridMode.ISLANDED
    assert modes[3 * HOUR] is GridMode.GRID_TIED
    assert made.inputs[0].series == ("outages.a",)


def test_mains_that_are_back_early_end_the_outage_only_where_that_is_declared(tmp_path: Path):
    announce(tmp_path, AT - 2 * HOUR, AT + 3 * HOUR)
    back = now(grid_losses=(AT - 2 * HOUR,), mains_good_s=700.0)
    for mains_back_s, later in ((None, GridMode.ISLANDED), (600.0, GridMode.GRID_TIED)):
        plant = replace(site(), inputs=(one("outages", mains_back_s=mains_back_s),))
        (tmp_path / "plans.sqlite").unlink(missing_ok=True)
        made = plan(tmp_path, plant, back)
        assert made.grid_mode[0] is GridMode.GRID_TIED, "the mains are measured"
        assert made.grid_mode[3] is later
        assert any("the mains are back before its end" in n for n in made.notes) is (mains_back_s is not None)


def test_outage_that_overruns_is_told_and_planned_on_from_now(tmp_path: Path):
    announce(tmp_path, AT - 3 * HOUR, AT - HOUR / 2)
    away = now(grid_mode=GridMode.ISLANDED, forming="bess1", grid_losses=(AT - 3 * HOUR,), mains_good=False)
    made = plan(tmp_path, replace(site(), inputs=(one("outages"),)), away)
    assert any("outages.a was announced until" in n and "the mains are not back" in n for n in made.notes)
    assert made.grid_mode[:4] == (GridMode.ISLANDED,) * 4


def test_announced_revised_or_cancelled_outage_has_a_new_plan_made(tmp_path: Path):
    plant = replace(site(), inputs=(one("outages"),))
    told = planner_inputs(plant, HistoryForecaster(plant, {}, {}), (), tmp_path)
    announce(tmp_path, AT + HOUR, AT + 2 * HOUR)
    assert told.changed(AT - 10 * HOUR, AT), "announced since"
    assert not told.changed(AT - HOUR, AT)
    assert not told.changed(AT - 10 * HOUR, AT + 3 * HOUR), "it is over"
    again = AnnouncedOutage(id="a", issued_at=AT, start=AT + HOUR, end=AT + 2 * HOUR, cancelled=True)
    store(tmp_path, "outages", AT, outages=(again,))
    assert told.changed(AT - HOUR, AT)
    assert not planner_inputs(site(), HistoryForecaster(site(), {}, {}), (), tmp_path).changed(AT - HOUR, AT)


INPUTS = """
  market: {kind: price, folder: inbox, every_s: 1}
  sky: {kind: weather, provider: open_meteo, url: 'http://127.0.0.1:9/v1', timeout_s: 2}
"""


def test_process_takes_files_and_says_how_each_input_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site_with(tmp_path, INPUTS)
    (tmp_path / "inbox").mkdir()
    today = datetime.now().astimezone().replace(minute=0, second=0, microsecond=0)
    rows = "".join(f"{(today + n * HOUR).isoformat()},0.2\n" for n in range(3))
    (tmp_path / "inbox" / "a.csv").write_text("time,import_per_kwh\n" + rows)
    monkeypatch.setattr(process, "STATUS_S", 0.1)
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)

    async def until_taken() -> None:
        task = asyncio.create_task(process.serve(config))
        give_up_s = time.monotonic() + 60.0
        while time.monotonic() < give_up_s and not task.done():
            row = statuses(tmp_path).get("input_market")
            if row is not None and row.fields["version"] is not None:
                break
            await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(until_taken())
    found = statuses(tmp_path)
    assert found["input_market"].fields["late"] == ""
    assert found["input_sky"].fields["late"] == "nothing came yet"
    assert found["inputs"].fields == {"inputs": 2, "overrun": ""}
    assert [p.name[17:] for p in (tmp_path / "inbox" / "archive").iterdir()] == ["a.csv"]


def test_plan_from_the_command_line_rests_on_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    site_with(tmp_path, "  price: {kind: price, folder: inbox}\n")
    monkeypatch.chdir(tmp_path)
    start = datetime(2026, 3, 18, 6, tzinfo=AT.tzinfo)
    common = ["plan", ".", "--at", start.isoformat(), "--gap", "0.1", "--out", "out", "--inputs"]
    assert main([*common, "run"]) == 2
    said = "run: found neither inputs.sqlite nor a folder of an input; allowed: folders named price"
    assert said in capsys.readouterr().err
    prices = UniformSeries(start=start, step_s=3600.0, values=np.full(72, 0.777))
    store(tmp_path / "run", "price", start - HOUR, series={"import_per_kwh": prices})
    assert main([*common, "run"]) == 0
    assert "0.777" in (tmp_path / "out" / "plan.csv").read_text()
    assert '"version":1' in (tmp_path / "out" / "plan.json").read_text().replace(" ", "")
    page = (tmp_path / "out" / "plan.html").read_text()
    assert "prices of plans, of rules by the clock, and of the bill; here: import_per_kwh" in page
    (tmp_path / "files" / "price").mkdir(parents=True)
    rows = "".join(f"2026-03-18T{h:02}:00Z,2026-03-18T05:00Z,0.666\n" for h in range(6, 24))
    (tmp_path / "files" / "price" / "a.csv").write_text("time,issued_at,import_per_kwh\n" + rows)
    assert main([*common, "files"]) == 0
    assert "0.666" in (tmp_path / "out" / "plan.csv").read_text()
    assert main(["plan", "demo", "--inputs", "run"]) == 2
    assert "a site without inputs" in capsys.readouterr().err


# --- caps that a utility tells for times to come ---------------------------------------------------------


def cap(kw: float, first_h: float, last_h: float) -> CapAhead:
    return CapAhead(
        is_import=False, cap_kw=kw, start=AT + first_h * HOUR, end=AT + last_h * HOUR, source="dso"
    )


def told_of(*caps: CapAhead) -> PlannerInputs:
    base = HistoryForecaster(site(), {}, {})
    return PlannerInputs(site=site(), forecaster=base, notices=lambda at: (), caps=lambda at: caps)


@pytest.mark.parametrize(
    ("planned", "told", "changed"),
    [
        ((), (), False),
        ((), (cap(20.0, 1.0, 2.0),), True),
        ((cap(20.0, 1.0, 2.0),), (), True),
        ((cap(20.0, 1.0, 2.0),), (cap(30.0, 1.0, 2.0),), True),
        ((cap(20.0, 1.0, 2.0),), (cap(20.0, 1.5, 2.0),), True),
        ((cap(20.0, -3.0, 2.0),), (cap(20.0, -0.1, 2.0),), False),  # what holds now is told from now on
        ((cap(20.0, 1.0, 2.0), cap(5.0, -2.0, -1.0)), (cap(20.0, 1.0, 2.0),), False),  # that one is over
        ((cap(20.0, 1.0, 48.0),), (cap(20.0, 1.0, 48.3),), False),  # without end: as far as plans look
        ((cap(20.0, 1.0, 2.0),), (cap(20.0, 1.001, 2.001),), False),
    ],
)
def test_plan_is_made_anew_only_where_other_caps_are_told(
    planned: tuple[CapAhead, ...], told: tuple[CapAhead, ...], changed: bool
):
    assert told_of(*told).caps_changed(planned, AT) is changed


def test_caps_of_the_status_rows_are_planned_with(tmp_path: Path):
    """From the file of the utility process to the plan; without that file nothing is told."""
    limit = UtilityLimit(id="dso", kind=LimitKind.EXPORT, watchdog_s=60.0, on_loss_kw=0.0)
    plant = replace(
        site(), control=replace(site().control, limits=(limit,)), utilities=(params(443, "ca.pem", "secret"),)
    )
    path = tmp_path / "utility.sqlite"
    caps = ToldCaps(plant, path)
    assert caps(AT) == ()
    row: dict[str, JsonValue] = {
        "limit": "dso", "kw": 12.0, "start": (AT + HOUR).isoformat(), "end": (AT + 2 * HOUR).isoformat()
    }  # fmt: skip
    fields: dict[str, JsonValue] = {"trouble": "", "ahead": [row]}
    records = Records(path, now=lambda: AT)
    records.flush([StatusRow(process=plant.utilities[0].id, pid=1, at=AT, fields=fields)])
    records.close()
    (told,) = caps(AT)
    assert (told.cap_kw, told.source) == (12.0, plant.utilities[0].id)
    inputs = planner_inputs(plant, HistoryForecaster(plant, {}, {}), (), tmp_path, caps=caps)
    grid = TimeGrid.uniform(AT, 900.0, 4)
    assert inputs.measured(inputs.forecaster.forecast(grid, AT), now()).caps == (told,)
