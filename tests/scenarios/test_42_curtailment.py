"""42: a plan leaves sun unused, load and sun are not as foreseen: PV takes the difference."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dispatch.vocabulary import Source
from ems.commands import Cause
from ems.plan import Plan
from ems.prices import DayPrices
from ems.site import Site
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import MONDAY
from tests.scenarios.plants import two_pv
from tests.unit.dispatch.lagging import reversals
from tests.unit.dispatch.plans import plan_of

pytestmark = pytest.mark.scenario(42)
AT_S, BACK_S, END_S = 60.0, 120.0, 240.0
SUN_KW, LOAD_KW, FULL = 400.0, 100.0, 0.949
NOISE_KW = 20.0  # what the meters of a rig leave uncertain in one second


def exporting(small: Site, cap_kw: float = 400.0) -> Site:
    return replace(small, grid=replace(small.grid, p_export_kw_max=cap_kw))


def plan(site: Site, soc: float) -> Plan:
    """Of 400 kW of sun, 100 kW are used for a load of as much; nothing at the POI."""
    made = plan_of(site, bess_kw=[0.0] * 4, load_kw=LOAD_KW, pv_kw=LOAD_KW, soc=soc, start=MONDAY)
    share = 1.0 / len(site.pv)
    return replace(
        made,
        pv_p_kw={p.id: (share * LOAD_KW,) * 4 for p in site.pv},
        pv_available_kw={p.id: (share * SUN_KW,) * 4 for p in site.pv},
    )


def rig(
    site: Site, soc: float, load: Callable[[float], float], sun: Callable[[float], float], **options: object
) -> Rig:
    shares = {"critical": 0.3, "essential": 0.5, "deferrable": 0.2}

    def part(of: Callable[[float], float], share: float) -> Callable[[float], float]:
        return lambda t_s: share * of(t_s)

    out = Rig(
        site,
        load_kw={f: part(load, share) for f, share in shares.items()},
        pv_kw={p.id: part(sun, 1.0 / len(site.pv)) for p in site.pv},
        controller="plan",
        options=RigOptions(soc=soc, **options),  # type: ignore[arg-type]
    )
    out.publish(plan(site, soc))
    return out.run(END_S)


def pv_kw(row: Row) -> float:
    return sum(row.flows.pv_p_kw.values())


def mean(rig: Rig, value: Callable[[Row], float], from_s: float, until_s: float) -> float:
    values = [value(r) for r in rig.rows(from_s, until_s)]
    return sum(values) / len(values)


def poi_kw(row: Row) -> float:
    return row.flows.grid_p_kw


@pytest.mark.parametrize("soc", [FULL, 0.6], ids=["battery full", "battery"])
@pytest.mark.parametrize("pair", [False, True], ids=["one plant", "two plants"])
def test_curtailing_plan_exports_nothing_while_the_load_steps(small: Site, soc: float, pair: bool):
    """298 kW were exported beside a full battery, on the rung of the plan that had none of it."""

    def load(t_s: float) -> float:
        return LOAD_KW if t_s < AT_S else 2.5 * LOAD_KW if t_s < BACK_S else 0.7 * LOAD_KW

    site = two_pv(exporting(small)) if pair else exporting(small)
    out = rig(site, soc, load, lambda t_s: SUN_KW)
    assert out.held(lambda r: r.decisions.source is Source.PLAN)
    for from_s, until_s, load_kw in (
        (20.0, AT_S, LOAD_KW),
        (AT_S + 10.0, BACK_S, 2.5 * LOAD_KW),
        (BACK_S + 10.0, END_S, 0.7 * LOAD_KW),
    ):
        assert mean(out, poi_kw, from_s, until_s) == pytest.approx(0.0, abs=4.0)
        assert mean(out, pv_kw, from_s, until_s) == pytest.approx(load_kw, abs=12.0)
        assert out.held(lambda r: abs(poi_kw(r)) <= NOISE_KW, from_s, until_s)
        turns = [pv_kw(r) for r in out.rows(from_s, until_s)]
        assert reversals(turns, NOISE_KW) <= 1
    assert out.last.flows.bess_soc["bess1"] == pytest.approx(soc, abs=0.002)


@pytest.mark.parametrize("soc", [FULL, 0.6], ids=["battery full", "battery"])
def test_curtailing_plan_under_a_cloud_the_battery_bridges_it_and_nothing_is_exported_after(
    small: Site, soc: float
):
    def sun(t_s: float) -> float:
        away = min(1.0, max(0.0, (t_s - AT_S) / 20.0)) - min(1.0, max(0.0, (t_s - BACK_S) / 20.0))
        return SUN_KW * (1.0 - 0.9 * away)

    out = rig(exporting(small), soc, lambda t_s: LOAD_KW, sun)
    assert mean(out, poi_kw, AT_S + 25.0, BACK_S) == pytest.approx(0.0, abs=5.0)
    assert mean(out, pv_kw, AT_S + 25.0, BACK_S) == pytest.approx(0.1 * SUN_KW, abs=1.0)
    assert out.held(lambda r: poi_kw(r) >= -NOISE_KW, 10.0)
    assert mean(out, pv_kw, BACK_S + 30.0, END_S) >= LOAD_KW


@pytest.mark.parametrize("soc", [FULL, 0.6], ids=["battery full", "battery"])
def test_price_below_zero_without_a_plan_takes_the_export_away(small: Site, soc: float):
    """Rules by the clock: what is exported from the next quarter on costs money."""
    site = exporting(small)
    shares = {"critical": 0.3 * LOAD_KW, "essential": 0.5 * LOAD_KW, "deferrable": 0.2 * LOAD_KW}
    start = datetime(2026, 3, 2, 8, 58, tzinfo=UTC)
    out = Rig(
        site, load_kw=shares, pv_kw=SUN_KW, controller="rules_tou", options=RigOptions(soc=soc, start=start)
    )
    day = DayPrices(
        start=datetime(2026, 3, 1, 21, tzinfo=UTC),
        import_per_kwh=(0.16,) * 96,
        export_per_kwh=tuple(-0.05 if 48 <= i < 52 else 0.05 for i in range(96)),  # noon in Nairobi
    )
    out.runtime._prices = lambda now: day  # what the shell of the edge hands in
    out.run(END_S)
    before_kw, after_kw = mean(out, poi_kw, 60.0, 115.0), mean(out, poi_kw, 140.0, END_S)
    taken_kw = mean(out, lambda r: r.flows.bess_p_kw["bess1"], 140.0, END_S)
    if soc == FULL:
        assert before_kw < -250.0
        assert mean(out, pv_kw, 140.0, END_S) == pytest.approx(LOAD_KW - taken_kw, abs=8.0)
    else:
        assert taken_kw == pytest.approx(LOAD_KW - SUN_KW, abs=8.0)
    assert after_kw == pytest.approx(0.0, abs=5.0)
    assert out.held(lambda r: poi_kw(r) >= -NOISE_KW, 140.0)


def test_curtailing_plan_without_noise_writes_no_more_than_its_refreshes(small: Site):
    out = rig(exporting(small), FULL, lambda t_s: LOAD_KW, lambda t_s: SUN_KW, noise_ratio=0.0)
    wrote = [c for r in out.rows(60.0) for c in r.decisions.commands if c.point == "pv1.p_limit_kw"]
    assert {c.cause for c in wrote} == {Cause.PLAN}
    assert len(wrote) <= (END_S - 60.0) / 5.0 + 1.0
