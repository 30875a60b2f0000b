"""20: wrong sign or scale in a point map: commissioning finds every one, and nothing is released."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from connectors.stores.permit import require_commissioned
from dispatch.commissioning.rows import Verdict
from dispatch.commissioning.session import Session
from ems.errors import ConfigError
from ems.site import Site
from sim.rig import Rig, RigOptions
from tests.scenarios.commissioning import (
    Commissioned,
    changed,
    commission,
    scaled,
    whole_record,
    with_engineer,
)

pytestmark = pytest.mark.scenario(20)
BESS, PV, P = "bess1.p_set_kw", "pv1.p_limit_kw", "bess1.p_kw"
GEN, GEN_P = "gen1.p_set_kw", "gen1.p_kw"
STEP_KW = 27.5  # 5 % of the battery
NUDGE_KW = 10.0 * 2.75  # the first nudge, done ten times too much


@pytest.fixture
def right(demo: Site) -> Site:
    return with_engineer(demo)


def verdicts(c: Commissioned) -> set[Verdict]:
    return {r.verdict for r in c.rows.values()}


def test_right_map_battery_passes_both_ways_and_stands_as_before(right: Site):
    c = commission(right, right, [BESS])
    assert c.rows[BESS].verdict is Verdict.PASS, c.rows[BESS]
    assert Verdict.FAIL not in verdicts(c)
    assert c.rows[P].verdict is Verdict.PASS
    assert c.rig.world.setpoints.values[BESS] == 0.0
    assert c.widest_kw <= 1.5 * STEP_KW
    assert not c.rig.violations, c.rig.report()


def test_power_that_reads_nothing_is_not_shown_and_says_what_that_does_not_show(right: Site):
    c = commission(right, right, [BESS], pv_kw=150.0)
    said = {p: "nothing flows" in c.rows[p].text for p in ("gen1.p_kw", "pv1.p_kw", P)}
    assert said == {"gen1.p_kw": True, "pv1.p_kw": False, P: False}
    assert c.rows["gen1.p_kw"].verdict is Verdict.NOT_SHOWN
    assert c.rows["pv1.p_kw"].verdict is Verdict.PASS
    assert f"moved with {BESS}" in c.rows[P].text


def test_right_map_pv_limit_is_brought_down_until_it_bites_and_back(right: Site):
    c = commission(right, right, [PV], start={PV: 300.0, BESS: 0.0}, pv_kw=150.0)
    assert c.rows[PV].verdict is Verdict.PASS, c.rows[PV]
    assert c.widest_kw <= 1.5 * 35.0
    assert not c.rig.violations, c.rig.report()


WRONG: Mapping[str, tuple[Callable[[Site], Site], str, float]] = {
    "sign of the setpoint": (lambda s: changed(s, BESS, sign=1), "sign of the setpoint", STEP_KW),
    "sign of the reading": (lambda s: changed(s, P, sign=1), "sign of the power reading", STEP_KW),
    "both signs": (
        lambda s: changed(changed(s, P, sign=1), BESS, sign=1), "sign of the setpoint and of its", STEP_KW,
    ),
    "a tenth of the scale": (lambda s: scaled(s, BESS, 0.1), "ten times too much is done", NUDGE_KW),
    "ten times the scale": (lambda s: scaled(s, BESS, 10.0), "a tenth is done", STEP_KW),
    "both scales": (
        lambda s: scaled(scaled(s, BESS, 10.0), P, 10.0), "scale of setpoint and power reading", STEP_KW,
    ),
    "reading ten times": (lambda s: scaled(s, P, 10.0), "scale of the power reading: ten times", STEP_KW),
    "reading a tenth": (lambda s: scaled(s, P, 0.1), "scale of the power reading: a tenth", STEP_KW),
    "W for kW": (lambda s: scaled(s, BESS, 1000.0), "scale, word order", STEP_KW),
    "kW for W": (lambda s: scaled(s, BESS, 0.001), "illegal data value", STEP_KW),
    "reading W for kW": (lambda s: scaled(s, P, 0.001), "W for kW", STEP_KW),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_map_is_found_named_and_ended_at_once(right: Site, mistake: str):
    """Whatever is wrong: the row fails and says what, and the plant moved by little before it was known."""
    spoil, named, most_kw = WRONG[mistake]
    c = commission(right, spoil(right), [BESS])
    row = c.rows[BESS]
    assert row.verdict is Verdict.FAIL, row
    assert named in row.text, row.text
    assert c.widest_kw <= 1.5 * most_kw, row.text
    assert math.isclose(c.rig.world.setpoints.values[BESS], 0.0, abs_tol=0.05)
    assert withheld(spoil(right), c, accepted=True) == [BESS]


def withheld(site: Site, c: Commissioned, *, accepted: bool = False) -> list[str]:
    """The points that AUTO is refused for by the record of a commissioning; all others have passed.

    `accepted`: a person has taken over what was not shown.
    """
    rows = {p: r for p, r in c.rows.items() if not (accepted and r.verdict is Verdict.NOT_SHOWN)}
    try:
        require_commissioned(Path("commissioning.json"), whole_record(site, rows), site)
    except ConfigError as refused:
        return [p.key for p in refused.problems]
    return []


def test_auto_is_permitted_by_a_record_of_what_passed(right: Site):
    assert withheld(right, commission(right, right, [BESS]), accepted=True) == []


def of_genset(right: Site, spoil: Callable[[Site], Site]) -> Commissioned:
    """The genset's setpoint, probed beside the grid on a set that somebody has started."""
    load = {"critical": 110.0, "essential": 160.0, "deferrable": 100.0}
    options = RigOptions(soc=0.5, gensets_on_kw={"gen1": 180.0})
    start = {GEN: 180.0, "gen1.run_request": 1.0, BESS: 0.0}
    return commission(right, spoil(right), [GEN], start=start, load_kw=load, pv_kw=20.0, options=options)


def test_right_map_running_genset_passes_and_stands_as_before(right: Site):
    c = of_genset(right, lambda s: s)
    assert c.rows[GEN].verdict is Verdict.PASS, c.rows[GEN]
    assert c.rig.world.setpoints.values[GEN] == 180.0
    assert c.widest_kw <= 1.5 * 25.0
    assert not c.rig.violations, c.rig.report()
    assert withheld(right, c, accepted=True) == []


WRONG_GENSET: Mapping[str, tuple[Callable[[Site], Site], str, set[str]]] = {
    "sign of the setpoint": (lambda s: changed(s, GEN, sign=-1), "not read back", {GEN}),
    "ten times the scale": (lambda s: scaled(s, GEN, 10.0), "not read back", {GEN}),
    "a tenth of the scale": (lambda s: scaled(s, GEN, 0.1), "ten times too much is done", {GEN}),
    "sign of the reading": (lambda s: changed(s, GEN_P, sign=-1), "out_of_range", {GEN, GEN_P}),
    "both signs": (
        lambda s: changed(changed(s, GEN_P, sign=-1), GEN, sign=-1), "out_of_range", {GEN, GEN_P},
    ),
    "reading ten times": (lambda s: scaled(s, GEN_P, 10.0), "out_of_range", {GEN, GEN_P}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG_GENSET)
def test_wrong_map_of_a_running_genset_is_found_and_auto_withheld(right: Site, mistake: str):
    spoil, named, points = WRONG_GENSET[mistake]
    c = of_genset(right, spoil)
    assert c.rows[GEN].verdict is not Verdict.PASS, c.rows[GEN]
    assert named in c.rows[GEN].text
    assert points <= set(withheld(spoil(right), c))
    assert math.isclose(c.rig.world.setpoints.values[GEN], 180.0, abs_tol=0.05)
    assert c.widest_kw <= 1.5 * 25.0


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_wrong_scale_of_a_pv_limit_is_found(right: Site, factor: float):
    c = commission(right, scaled(right, PV, factor), [PV], start={PV: 110.0, BESS: 0.0})
    assert c.rows[PV].verdict is not Verdict.PASS, c.rows[PV]
    assert PV in withheld(scaled(right, PV, factor), c)


# ---- conditions that no consent takes away -----------------------------------------------------


def test_discrete_setpoints_are_never_probed(right: Site):
    points = [p for p in right.authority.setpoints if p.endswith("_request")]
    c = commission(right, right, points)
    assert {c.rows[p].verdict for p in points} == {Verdict.NOT_SHOWN}
    assert not [x for r in c.rig.log for x in r.commands]


def test_genset_that_does_not_run_is_not_started_for_it(right: Site):
    c = commission(right, right, ["gen1.p_set_kw"])
    assert "not on load" in c.rows["gen1.p_set_kw"].text
    assert not any(r.flows.genset_p_kw["gen1"] for r in c.rig.log)


@pytest.mark.parametrize("soc", [0.25, 0.75])
def test_charge_outside_the_band_nothing_is_moved(right: Site, soc: float):
    c = commission(right, right, [BESS], options=RigOptions(soc=soc))
    assert c.rows[BESS].verdict is Verdict.NOT_SHOWN
    assert "the charge of bess1" in c.rows[BESS].text
    assert c.rig.world.setpoints.values[BESS] == 0.0


def test_island_nothing_is_moved(right: Site):
    c = commission(right, right, [BESS], options=RigOptions(soc=0.5, islanded_by="bess1"))
    assert "not on the grid" in c.rows[BESS].text
    assert {x.point for r in c.rig.log for x in r.commands} <= {"bess1.heartbeat"}


def test_devices_nobody_agreed_to_are_not_written_no_heartbeat_either(right: Site):
    c = commission(right, right, [PV], start={PV: 110.0, BESS: 0.0})
    assert {x.point.partition(".")[0] for r in c.rig.log for x in r.commands} == {"pv1"}


def test_stopped_in_the_middle_of_a_step_it_goes_back(right: Site):
    def stop(rig: Rig, session: Session) -> None:
        if abs(rig.last.flows.bess_p_kw["bess1"]) > 20.0:
            session.stop("stopped by the engineer")

    c = commission(right, right, [BESS, PV], during=stop)
    assert c.rig.world.setpoints.values[BESS] == 0.0
    assert "stopped by the engineer" in c.rows[BESS].text
    assert c.rows[BESS].verdict is not Verdict.PASS
    assert PV not in c.rows
