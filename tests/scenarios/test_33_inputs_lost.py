"""33: prices and weather come from elsewhere, and the line is lost for 72 h; plans cost what ours cost."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cli.planner_inputs import PlannerInputs, planner_inputs
from connectors.inputs.keeper import Feed
from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore
from connectors.inputs.web import Web
from ems.input_rules import house_provider, series_rules
from ems.inputs import InputKind, InputParams
from ems.plan import Plan
from ems.site import Site
from ems.timegrid import TimeGrid
from forecasting.history import HistoryForecaster
from tests.builders import site
from tests.scenarios.test_41_forecast_missing import AT, OPTIONS, POSE, LimitedClock, planner_loop
from tests.unit.connectors.inputs_here import Server, reply, serving

pytestmark = pytest.mark.scenario(33)
HOUR = timedelta(hours=1)
AWAY_H = 72


def of(server: Server) -> Site:
    """A site whose price and weather are asked for at a server."""
    price, weather = (
        InputParams(
            id=str(kind), kind=kind, provider=house_provider(kind), url=server.url.replace("data", kind),
            protection="plain", timeout_s=5.0, age_s_max=age_h * 3600.0,
        )
        for kind, age_h in ((InputKind.PRICE, 36.0), (InputKind.WEATHER, 12.0))
    )  # fmt: skip
    return replace(site(), inputs=(price, weather))


def told(path: str, at: datetime) -> bytes:
    """What the server says at a time: of the 30 h to come."""
    name, value = ("import_per_kwh", 0.9) if "price" in path else ("ghi_w_m2", 0.0)
    rows = "".join(f"{(at + n * HOUR).isoformat()},{at.isoformat()},{value}\n" for n in range(30))
    return f"time,issued_at,{name}\n{rows}".encode()


class Wan:
    """The feeds of a site in virtual time."""

    def __init__(self, directory: Path, plant: Site, server: Server) -> None:
        self.at = AT
        self.store = InputStore(directory)
        self.feeds = [
            Feed(
                params=p, rules=series_rules(plant, p), store=self.store, now=lambda: self.at,
                source=Web(p, directory), doubts=lambda version: (),
            )
            for p in plant.inputs
        ]  # fmt: skip
        server.answer = lambda handler: reply(handler, told(handler.path, self.at))

    def look(self) -> list[str]:
        return [look.outcome for feed in self.feeds for look in feed.look()]


def planned(directory: Path, inputs: PlannerInputs, at: datetime) -> Plan:
    (directory / "plans.sqlite").unlink(missing_ok=True)
    loop = planner_loop(directory, LimitedClock(at, 1.0))
    loop.inputs = inputs
    try:
        return loop._solve(at, replace(POSE.condition(), at=at))[0]
    finally:
        loop.store.close()


def lates(directory: Path, plant: Site, at: datetime) -> Sequence[bool]:
    return [bool(input_state(InputReader(directory), p, at).late) for p in plant.inputs]


def test_inputs_away_for_72_h_cost_no_more_than_our_own_forecast_and_come_back(tmp_path: Path):
    grid_s = [s for s, n in OPTIONS.blocks for _ in range(n)]
    with serving() as server:
        plant = of(server)
        wan = Wan(tmp_path, plant, server)
        assert wan.look() == ["taken", "taken"]
    base = HistoryForecaster(plant, {}, {})
    inputs = planner_inputs(plant, base, (), tmp_path)
    for hour in range(1, AWAY_H + 1):
        wan.at = AT + hour * HOUR
        assert wan.look() == ["failed", "failed"]
        grid = TimeGrid(start=wan.at, step_s=tuple(grid_s))
        seen, own = inputs.forecaster.forecast(grid, wan.at), base.forecast(grid, wan.at)
        assert (float(seen.import_per_kwh[0]) == 0.9) is (hour < 30), "a published price stays the price"
        assert np.array_equal(seen.pv_kw["pv1"], own.pv_kw["pv1"]) or hour <= 12
        assert lates(tmp_path, plant, wan.at) == [hour > 1, hour > 1], "failing for three looks"
    lost = planned(tmp_path, inputs, wan.at)
    never = planned(tmp_path, planner_inputs(site(), HistoryForecaster(site(), {}, {}), (), tmp_path), wan.at)
    assert lost.solve.objective is not None
    assert never.solve.objective is not None
    assert lost.solve.objective <= never.solve.objective * 1.01
    assert (lost.bess_p_kw, lost.genset_on, lost.inputs) == (never.bess_p_kw, never.genset_on, ())
    assert any(note.startswith("input price: tells nothing of this time") for note in lost.notes)
    with serving() as server:
        again = of(server)
        server.answer = lambda handler: reply(handler, told(handler.path, wan.at))
        for feed, params in zip(wan.feeds, again.inputs, strict=True):
            feed.source = Web(params, tmp_path)
        assert wan.look() == ["taken", "taken"], "at the first look"
    assert lates(tmp_path, plant, wan.at) == [False, False]
    back = planned(tmp_path, inputs, wan.at)
    assert back.import_per_kwh[0] == 0.9
    assert {use.input for use in back.inputs} == {"price", "weather"}
    wan.store.close()
