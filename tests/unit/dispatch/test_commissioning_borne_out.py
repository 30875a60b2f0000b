"""What bears a reading out, and what goes to a person because nothing does."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.commission_plant import _Run
from dispatch.commissioning.plausible import read_rows
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.commissioning.witness import Witness, shown_by
from dispatch.layout import Layout, layout_of
from ems.site import Connection, PointMap
from ems.site_schema import load_site
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0
from tests.scenarios.conftest import DEMO

SITE = load_site(DEMO)
LAYOUT = layout_of(SITE)
# 300 kW of load: 180 from the grid, 160 from PV, 40 into the battery; gen1 stands still, gen2 likewise.
READ: dict[str, float] = {
    "bess1.p_kw": -37.6, "bess1.q_kvar": 0.0, "bess1.soc": 0.5, "bess1.p_charge_kw_max": 550.0,
    "bess1.p_discharge_kw_max": 500.0, "bess1.state": 1.0, "bess1.heartbeat": 0.0, "bess1.p_set_kw": -40.0,
    "gen1.p_kw": 0.0, "gen1.state": 0.0, "gen1.fuel_l": 1500.0, "gen1.run_h": 40.0,
    "gen1.run_request": 0.0, "gen1.p_set_kw": 0.0,
    "gen2.p_kw": 0.0, "gen2.state": 0.0, "gen2.fuel_l": 1500.0, "gen2.run_h": 40.0,
    "gen2.run_request": 0.0, "gen2.p_set_kw": 0.0,
    "pv1.p_kw": 160.0, "pv1.p_available_kw": 160.0, "pv1.state": 1.0, "pv1.p_limit_kw": 700.0,
    "grid1.p_kw": 180.0, "grid1.q_kvar": 98.0, "grid1.v_pu": 0.97, "grid1.f_hz": 50.0,
    "grid1.breaker_closed": 1.0, "bus.alive": 1.0, "bus.v_pu": 0.97, "bus.f_hz": 50.0,
    "critical.p_kw": 110.0, "critical.closed": 1.0, "essential.p_kw": 160.0, "essential.closed": 1.0,
    "essential.close_request": 1.0, "deferrable.p_kw": 30.0, "deferrable.closed": 1.0,
    "deferrable.close_request": 1.0,
}  # fmt: skip


def snapshot(at_s: float = 0.0, **changes: float | None) -> Snapshot:
    values = READ | {k.replace("__", "."): v for k, v in changes.items()}
    readings = {
        p: Reading(point=p, value=v, quality=Quality.GOOD, source_time=T0, arrived_s=at_s)
        for p, v in values.items()
        if v is not None
    }
    return Snapshot(at=T0, monotonic_s=at_s, readings=readings)


def row(point: str, layout: Layout | None = None, /, **changes: float | None) -> PointRow:
    looks = [snapshot(float(s), **changes) for s in range(5)]
    layout = LAYOUT if layout is None else layout
    return next(r for r in read_rows(layout, looks) if r.point == point)


@pytest.mark.parametrize(
    ("point", "changes", "verdict", "said"),
    [
        ("pv1.p_kw", {}, Verdict.PASS, "160 kW"),
        ("gen1.p_kw", {}, Verdict.NOT_SHOWN, "nothing flows"),
        ("deferrable.p_kw", {"deferrable__p_kw": 20.0}, Verdict.NOT_SHOWN, "too little flows"),
        ("deferrable.p_kw", {"deferrable__p_kw": 1e-38}, Verdict.FAIL, "no device tells: word order"),
        ("gen1.state", {}, Verdict.NOT_SHOWN, "a 0"),
        ("gen1.state", {"gen1__state": 4.0}, Verdict.PASS, "4"),
        ("gen1.state", {"gen1__state": 0.5}, Verdict.FAIL, "no state of a genset"),
        ("gen1.state", {"gen1__state": 1.0, "gen1__p_kw": 60.0}, Verdict.FAIL, "in state 1 and gives 60 kW"),
        ("gen1.fuel_l", {}, Verdict.PASS, "1500 L"),
        ("gen1.fuel_l", {"gen1__fuel_l": 1.2e-38}, Verdict.FAIL, "no device tells"),
        ("gen1.fuel_l", {"gen1__fuel_l": 3200.0}, Verdict.FAIL, "more than the 3150 of gen1"),
        ("gen1.fuel_l", {"gen1__fuel_l": 300.0}, Verdict.NOT_SHOWN, "nearly empty, or another scale"),
        ("gen1.run_h", {}, Verdict.NOT_SHOWN, "compare it with the panel"),
        ("bess1.soc", {"bess1__soc": 0.05}, Verdict.NOT_SHOWN, "outside 0.1 to 0.95"),
        ("bess1.p_charge_kw_max", {}, Verdict.PASS, "550 kW"),
        ("bess1.p_charge_kw_max", {"bess1__p_charge_kw_max": 55.0}, Verdict.NOT_SHOWN, "another scale"),
        ("bess1.p_charge_kw_max", {"bess1__p_charge_kw_max": 500.0}, Verdict.NOT_SHOWN, "reads the same"),
        ("bess1.p_charge_kw_max", {"bess1__p_charge_kw_max": 5.0}, Verdict.FAIL, "and 37.6 kW flow"),
        ("pv1.p_available_kw", {}, Verdict.NOT_SHOWN, "while a limit bites"),
        ("pv1.p_available_kw", {"pv1__p_available_kw": 16.0}, Verdict.FAIL, "16 kW are available, and 160"),
        ("grid1.q_kvar", {}, Verdict.PASS, "98 kvar"),
        ("grid1.q_kvar", {"grid1__q_kvar": -98.0}, Verdict.NOT_SHOWN, "the sources give -98 kvar"),
        ("grid1.q_kvar", {"gen1__state": 4.0}, Verdict.NOT_SHOWN, "nothing else tells it"),
        ("grid1.q_kvar", {"critical__p_kw": None}, Verdict.NOT_SHOWN, "nothing else tells it"),
        ("bess1.q_kvar", {}, Verdict.NOT_SHOWN, "nothing flows"),
        ("bess1.q_kvar", {"bess1__q_kvar": 40.0}, Verdict.NOT_SHOWN, "nothing else tells it"),
        ("essential.closed", {}, Verdict.NOT_SHOWN, "so does bus.alive"),
        ("essential.closed", {"essential__closed": 0.1}, Verdict.FAIL, "allowed: 0 or 1"),
        ("grid1.breaker_closed", {}, Verdict.PASS, "1"),
        ("grid1.p_kw", {"critical__p_kw": None}, Verdict.NOT_SHOWN, "not all powers of the site are read"),
        ("bess1.heartbeat", {}, Verdict.NOT_SHOWN, "our heartbeat"),
    ],
)
def test_reading_passes_where_something_bears_it_out(
    point: str, changes: dict[str, float | None], verdict: Verdict, said: str
):
    found = row(point, **changes)
    assert found.verdict is verdict, found
    assert said in found.text


@pytest.mark.parametrize(
    ("charge", "discharge", "verdict"),
    [
        (550.0, 300.0, Verdict.PASS),
        (300.0, 550.0, Verdict.FAIL),  # exchanged
        (300.0, 300.0, Verdict.FAIL),  # off by one: both are the other's
    ],
)
def test_limits_of_unlike_directions_that_are_exchanged_fail(
    charge: float, discharge: float, verdict: Verdict
):
    (b,) = SITE.bess
    unlike = layout_of(
        replace(SITE, bess=(replace(b, battery=replace(b.battery, p_discharge_kw_max=300.0)),))
    )
    told = {"bess1__p_charge_kw_max": charge, "bess1__p_discharge_kw_max": discharge}
    assert row("bess1.p_charge_kw_max", unlike, **told).verdict is verdict


def with_points(connection: str, *names: str) -> Layout:
    """The site with more points mapped."""

    def wider(c: Connection) -> Connection:
        base = c.points[0]
        new = tuple(more(base, n) for n in names)
        return replace(c, points=(*c.points, *new)) if c.id == connection else c

    def more(base: PointMap, name: str) -> PointMap:
        return replace(base, point=name, address=f"{base.address}.{name}", low=-1000.0, high=1000.0)

    return layout_of(replace(SITE, connections=tuple(wider(c) for c in SITE.connections)))


@pytest.mark.parametrize(
    ("phases", "verdict", "said"),
    [
        ((60.0, 60.0, 60.0), Verdict.PASS, "60"),
        ((60.0, 60.0, -60.0), Verdict.NOT_SHOWN, "the phases add up to -120.0 kW more"),
        ((60.0, 60.0, None), Verdict.NOT_SHOWN, "are not read"),
    ],
)
def test_phases_are_borne_out_by_their_sum(phases: tuple[float | None, ...], verdict: Verdict, said: str):
    names = [f"grid1.p_l{n}_kw" for n in (1, 2, 3)]
    told = {n.replace(".", "__"): v for n, v in zip(names, phases, strict=True)}
    found = row(names[0], with_points("grid_meter", *names), **told)
    assert found.verdict is verdict, found
    assert said in found.text
    idle = row(names[0], with_points("grid_meter", *names), **told, grid1__p_kw=0.0)
    assert idle.verdict is Verdict.NOT_SHOWN


def test_cap_that_somebody_else_tells_is_a_persons():
    found = row("grid1.p_export_kw_max", with_points("grid_meter", "grid1.p_export_kw_max"),
                grid1__p_export_kw_max=0.0)  # fmt: skip
    assert found.verdict is Verdict.NOT_SHOWN
    assert "compare it with theirs" in found.text


# ---- what steps show beside the setpoint ---------------------------------------------------------


def held(point: str, text: str = "0: nothing") -> PointRow:
    return PointRow(point=point, verdict=Verdict.NOT_SHOWN, shown="nothing", text=text)


def probed(point: str, verdict: Verdict = Verdict.PASS, text: str = "the POI 1.00 times") -> PointRow:
    return PointRow(point=point, verdict=verdict, shown="effect", text=text)


def shown(witness: Witness, by: PointRow, *rows: PointRow) -> dict[str, tuple[Verdict, str]]:
    found = witness.rows(LAYOUT, by, {r.point: r for r in rows})
    return {r.point: (r.verdict, r.text) for r in found}


def test_rows_wait_for_a_step_that_may_show_them_and_for_no_other():
    moved = ["bess1.p_set_kw"]
    waits = {p for p in READ if shown_by(LAYOUT, held(p), moved)}
    assert waits == {"bess1.p_kw", "bess1.heartbeat", "grid1.p_kw"}
    contradicted = replace(held("bess1.p_kw"), shown="read")
    assert not shown_by(LAYOUT, contradicted, moved)
    assert not shown_by(LAYOUT, replace(held("bess1.p_kw"), verdict=Verdict.FAIL), moved)


def test_power_is_shown_by_steps_that_the_poi_saw_too():
    rows = [held("bess1.p_kw"), held("grid1.p_kw"), held("gen1.p_kw")]
    by = probed("bess1.p_set_kw")
    assert set(shown(Witness(), by, *rows)) == {"bess1.p_kw", "grid1.p_kw"}
    assert shown(Witness(), replace(by, text="power followed 1.00 times"), *rows) == {}
    assert shown(Witness(), replace(by, verdict=Verdict.FAIL), *rows) == {}


def beats(values: list[float], **more: Any) -> Witness:
    looks = [snapshot(float(s), bess1__heartbeat=v) for s, v in enumerate(values)]
    return Witness(looks=looks, **more)


@pytest.mark.parametrize(
    ("witness", "verdict"),
    [
        (beats([float(n) for n in range(20)]), Verdict.PASS),
        (beats([65530.0 + n if n < 6 else n - 6.0 for n in range(20)]), Verdict.PASS),  # it wraps
        (beats([10.0 * (n // 10) for n in range(30)]), Verdict.FAIL),  # a tenth
        (beats([0.0] * 20), Verdict.FAIL),
        (beats([float(n) for n in range(20)], not_taken={"bess1.heartbeat": "exception 2"}), Verdict.FAIL),
        (beats([0.0, 1.0]), None),
        (beats([]), None),
    ],
)
def test_heartbeat_is_shown_by_beats_that_are_read_back(witness: Witness, verdict: Verdict | None):
    found = shown(witness, probed("bess1.p_set_kw", Verdict.FAIL), held("bess1.heartbeat"))
    assert found.get("bess1.heartbeat", (None, ""))[0] is verdict, found


def available(pairs: list[tuple[float, float]]) -> Witness:
    return Witness(
        looks=[snapshot(float(s), pv1__p_kw=p, pv1__p_available_kw=a) for s, (p, a) in enumerate(pairs)]
    )


@pytest.mark.parametrize(
    ("pairs", "verdict", "said"),
    [
        ([(160.0, 160.0), (130.0, 161.0)], Verdict.PASS, "stood while a limit took 30.0 kW"),
        ([(160.0, 160.0), (130.0, 130.0)], Verdict.NOT_SHOWN, "the power itself?"),
        ([(160.0, 300.0), (130.0, 300.0)], Verdict.NOT_SHOWN, "scale?"),
        ([(160.0, 160.0), (155.0, 161.0)], None, ""),
        ([], None, ""),
    ],
)
def test_what_is_available_stands_while_a_limit_bites(
    pairs: list[tuple[float, float]], verdict: Verdict | None, said: str
):
    point = "pv1.p_available_kw"
    found = shown(available(pairs), probed("pv1.p_limit_kw"), held(point)).get(point, (None, ""))
    assert found[0] is verdict
    assert said in found[1]


# ---- the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kept", "written"),
    [("nothing", {"gen1.p_kw": "on load"}, 0), ("nothing", {}, 1), ("read", {"gen1.p_kw": "on load"}, 1)],
)
def test_what_was_shown_before_stands_while_nothing_speaks_against_it(
    how: str, kept: dict[str, str], written: int
):
    """A second run, gensets off: a row that passed on load is not taken back because nothing flows."""
    rows: list[PointRow] = []
    said: list[object] = []
    book = SimpleNamespace(held=lambda: kept, row=rows.append)
    run = SimpleNamespace(
        _explained=lambda r: r, _book=book, _task=SimpleNamespace(tell=said.append), failed=set()
    )
    _Run._found(cast(_Run, run), replace(held("gen1.p_kw"), shown=how))
    assert len(rows) == written
    assert run.failed == ({"gen1.p_kw"} if written else set())
    assert len(said) == 1
