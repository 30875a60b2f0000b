"""What authority rules, at its edges: people among the wishes, who is there, what outlives."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.breaker import island_order, not_operated, when
from dispatch.authority.manual import AS_IT_STANDS, in_hand, with_people, with_people_after
from dispatch.authority.ruling import (
    Ruling,
    as_protected,
    as_ruled,
    carried_out,
    narrowed,
    standing_of,
    still_written,
)  # fmt: skip
from dispatch.authority.state import Chosen, Told
from dispatch.authority.told_limits import Cap
from dispatch.layout import layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.state import ObserverMemory, Written
from dispatch.vocabulary import Source, Target, Targets
from ems.commands import Bound, Cause, Proposal
from ems.control import ControlMode
from ems.control_site import LimitKind
from ems.reactive import ReactiveControl, ReactiveTakes
from ems.requests import PLANT, Standing
from ems.site import GridMode
from tests import builders
from tests.builders import T0
from tests.scenarios.plants import tripping
from tests.scenarios.poi import with_breaker
from tests.unit.dispatch.controlled import P_LIMIT, P_SET, RUN
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_desk_edges import AUTO, LAYOUT, limits
from tests.unit.dispatch.test_last_line import RULING, in_mode
from tests.unit.dispatch.test_modes_edges import BY_ANN, BY_BOB, held, lease

FEEDER = "essential.close_request"
KEPT = Written(value=44.0, at_s=0.0, known=True)


def target(value: float, cause: Cause = Cause.PLAN) -> Target:
    return Target(value=value, cause=cause, reason="r")


def modes(**changes: ControlMode) -> Ruling:
    return replace(RULING, modes={**RULING.modes, **changes})


def bound(low: float, high: float, point: str = P_SET) -> Bound:
    return Bound(point=point, low=low, high=high, layer="x", reason="r")


# ---- people among the wishes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "leased", "written", "grid", "value", "says"),
    [
        (ControlMode.MANUAL, True, True, GridMode.GRID_TIED, 5.0, "ann: why"),
        (ControlMode.TEST, True, True, GridMode.GRID_TIED, 5.0, "ann: why"),
        (ControlMode.MANUAL, False, True, GridMode.GRID_TIED, 0.0, "its safe value"),
        (ControlMode.MANUAL, False, True, GridMode.ISLANDED, 44.0, "it is kept"),  # safe: hold
        (ControlMode.MANUAL, False, False, GridMode.ISLANDED, None, ""),
        (ControlMode.TEST, False, True, GridMode.GRID_TIED, 33.0, AS_IT_STANDS),
        (ControlMode.OFF, False, True, GridMode.GRID_TIED, None, ""),
    ],
)
def test_in_hand_is_what_people_want_of_devices_that_are_not_in_auto(
    mode: ControlMode, leased: bool, written: bool, grid: GridMode, value: float | None, says: str
):
    ruling = replace(modes(bess1=mode), held={P_SET: lease()} if leased else {}, standing={P_SET: 33.0})
    got = in_hand(LAYOUT, ruling, grid, {P_SET: KEPT} if written else {})
    assert got.keys() == {P_SET}
    want = got[P_SET]
    if value is None:
        assert want is None
    else:
        assert want is not None
        assert (want.value, want.cause) == (value, Cause.OPERATOR)
        assert says in want.reason


def test_in_hand_nothing_of_what_stands_nobody_knows_where_in_test():
    assert in_hand(LAYOUT, modes(pv1=ControlMode.TEST), GridMode.GRID_TIED, {}) == {P_LIMIT: None}


WISHES = Targets(
    source=Source.PLAN,
    bess_p_kw={"bess1": target(80.0)},
    genset_run={"gen1": target(1.0)},
    genset_p_kw={"gen1": target(90.0)},
    pv_limit_kw={"pv1": target(300.0)},
    feeder_close={"essential": target(1.0)},
)
WANTED: dict[str, Target | None] = {
    P_SET: target(5.0, Cause.OPERATOR),
    RUN: target(0.0, Cause.OPERATOR),
    "gen1.p_set_kw": None,
    P_LIMIT: target(6.0, Cause.OPERATOR),
    FEEDER: target(0.0, Cause.OPERATOR),
}


def values(t: Targets) -> dict[str, dict[str, float]]:
    groups = ("bess_p_kw", "genset_run", "genset_p_kw", "pv_limit_kw", "feeder_close", "q_kvar")
    return {g: {a: x.value for a, x in getattr(t, g).items()} for g in groups}


def test_people_stand_in_place_of_the_wishes():
    assert with_people(LAYOUT, WISHES, {}) is WISHES
    assert values(with_people(LAYOUT, WISHES, WANTED)) == {
        "bess_p_kw": {"bess1": 5.0}, "genset_run": {"gen1": 0.0}, "genset_p_kw": {},
        "pv_limit_kw": {"pv1": 6.0}, "feeder_close": {"essential": 0.0}, "q_kvar": {},
    }  # fmt: skip
    one = with_people(LAYOUT, WISHES, {P_LIMIT: None, "pv1.p_set_kw": target(1.0)})
    assert values(one) == {**values(WISHES), "pv_limit_kw": {}}
    nobody = with_people(LAYOUT, Targets(source=Source.PLAN), {P_LIMIT: None, P_SET: target(5.0)})
    assert values(nobody)["bess_p_kw"] == {"bess1": 5.0}


@pytest.mark.parametrize("mode", [ControlMode.MANUAL, ControlMode.TEST])
@pytest.mark.parametrize("cause", [Cause.PROTECTION, Cause.RULES])
def test_people_after_the_protections_have_pv_and_breakers_that_protection_does_not_move(
    mode: ControlMode, cause: Cause
):
    moved = replace(WISHES, feeder_close={"essential": target(1.0, cause)})
    got = values(with_people_after(LAYOUT, in_mode(mode), moved, WANTED))
    probing = mode is ControlMode.TEST  # nothing but the probe counts
    forced = cause is Cause.PROTECTION and not probing
    assert got == {
        "bess_p_kw": {"bess1": 5.0 if probing else 80.0},
        "genset_run": {"gen1": 0.0 if probing else 1.0},
        "genset_p_kw": {} if probing else {"gen1": 90.0},
        "pv_limit_kw": {"pv1": 6.0},
        "feeder_close": {"essential": 1.0 if forced else 0.0},
        "q_kvar": {},
    }


def test_people_after_the_protections_open_a_breaker_nobody_spoke_of():
    silent = replace(WISHES, feeder_close={})
    got = values(with_people_after(LAYOUT, in_mode(ControlMode.MANUAL), silent, WANTED))
    assert got["feeder_close"] == {"essential": 0.0}


def standing(value: float) -> Target:
    return Target(value=value, cause=Cause.OPERATOR, reason=AS_IT_STANDS)


@pytest.mark.parametrize(
    ("group", "asset", "point", "stands", "protected", "written"),
    [
        ("bess_p_kw", "bess1", P_SET, 300.0, 20.0, 20.0),
        ("bess_p_kw", "bess1", P_SET, -300.0, -20.0, -20.0),
        ("bess_p_kw", "bess1", P_SET, 300.0, 0.0, 0.0),
        ("bess_p_kw", "bess1", P_SET, 300.0, 299.8, None),  # less by as much as noise
        ("bess_p_kw", "bess1", P_SET, 300.0, -20.0, None),  # never turned round
        ("bess_p_kw", "bess1", P_SET, 20.0, 300.0, None),  # nor more than stands
        ("bess_p_kw", "bess1", P_SET, 300.0, None, None),
        ("genset_p_kw", "gen1", "gen1.p_set_kw", 200.0, 90.0, 90.0),
        ("genset_run", "gen1", RUN, 1.0, 0.0, 0.0),
        ("genset_run", "gen1", RUN, 0.0, 1.0, None),  # nobody starts what is tested
        ("genset_run", "gen1", RUN, 1.0, 1.0, None),
        ("feeder_close", "essential", FEEDER, 1.0, 0.0, 0.0),
        ("feeder_close", "essential", FEEDER, 0.0, 1.0, None),
        ("pv_limit_kw", "pv1", P_LIMIT, 300.0, 120.0, 120.0),
        ("pv_limit_kw", "pv1", P_LIMIT, 100.0, 120.0, None),
        ("pv_limit_kw", "pv1", P_LIMIT, None, 120.0, 120.0),  # where it stands is not known
        ("bess_p_kw", "bess1", P_SET, None, 20.0, None),
    ],
)
def test_in_test_protection_reduces_what_stands_and_nothing_else_is_written(
    group: str, asset: str, point: str, stands: float | None, protected: float | None, written: float | None
):
    now = {} if protected is None else {asset: target(protected, Cause.PROTECTION)}
    people = {point: None if stands is None else standing(stands)}
    fields: dict[str, Any] = {group: now}
    targets = Targets(source=Source.RULES, **fields)
    got = getattr(with_people_after(LAYOUT, in_mode(ControlMode.TEST), targets, people), group)
    assert {a: (t.value, t.cause) for a, t in got.items()} == (
        {} if written is None else {asset: (written, Cause.PROTECTION)}
    )


@pytest.mark.parametrize("group", ["genset_run", "feeder_close", "pv_limit_kw"])
def test_in_test_rules_switch_and_limit_nothing(group: str):
    asset, point = {
        "genset_run": ("gen1", RUN), "feeder_close": ("essential", FEEDER), "pv_limit_kw": ("pv1", P_LIMIT),
    }[group]  # fmt: skip
    fields: dict[str, Any] = {group: {asset: target(0.0, Cause.RULES)}}
    targets = Targets(source=Source.RULES, **fields)
    people: dict[str, Target | None] = {point: standing(1.0)}
    assert getattr(with_people_after(LAYOUT, in_mode(ControlMode.TEST), targets, people), group) == {}


@pytest.mark.parametrize(("protected", "written"), [(10.0, 10.0), (60.0, 40.0)])
def test_in_test_protection_reduces_a_probe_too(protected: float, written: float):
    targets = Targets(source=Source.RULES, bess_p_kw={"bess1": target(protected, Cause.PROTECTION)})
    probe: dict[str, Target | None] = {P_SET: target(40.0, Cause.OPERATOR)}
    assert (
        with_people_after(LAYOUT, in_mode(ControlMode.TEST), targets, probe).bess_p_kw["bess1"].value
        == written
    )


def test_in_test_what_is_no_power_is_not_reduced():
    """A power factor of a device in test stays as it is."""
    asset, name = "pv1", "pf_set"
    takes = {asset: ReactiveControl(takes=ReactiveTakes.POWER_FACTOR)}
    names = {**LAYOUT.setpoint_of, (asset, name): f"{asset}.{name}"}
    layout = replace(LAYOUT, reactive=takes, setpoint_of=names)
    now = target(0.5, Cause.PROTECTION)
    targets = Targets(source=Source.RULES, power_factor={asset: now})
    people: dict[str, Target | None] = {f"{asset}.{name}": standing(0.9)}
    ruling = replace(RULING, modes={asset: ControlMode.TEST})
    assert with_people_after(layout, ruling, targets, people).power_factor == {}


@pytest.mark.parametrize(
    ("mode", "read", "there"),
    [(ControlMode.TEST, True, True), (ControlMode.TEST, False, False), (ControlMode.LOCAL, True, False)],
)
def test_as_protected_a_battery_in_test_is_there_for_the_protections_alone(
    mode: ControlMode, read: bool, there: bool
):
    was = seen().condition
    was = replace(was, bess={"bess1": replace(was.bess["bess1"], available=read)})
    ruling = replace(modes(bess1=mode), as_read=was)
    observed = as_ruled(replace(seen(), condition=was), ruling, {P_SET: standing(100.0)})
    assert not observed.condition.bess["bess1"].available
    got = as_protected(observed, ruling).condition.bess["bess1"]
    assert (got.available, got.p_charge_kw_max, got.p_discharge_kw_max) == (there, 0.0, 100.0)
    assert as_protected(observed, modes(bess1=mode)) is observed  # no reading to go by


# ---- what is ruled ---------------------------------------------------------------------------------------


def test_cap_that_holds_is_the_lowest_of_its_kind():
    caps = tuple(
        Cap(kind=k, cap_kw=kw, reason="r")
        for k, kw in ((LimitKind.IMPORT, 90.0), (LimitKind.IMPORT, 70.0), (LimitKind.PV, 5.0))
    )
    ruling = replace(RULING, caps=caps)
    assert ruling.cap_kw(LimitKind.IMPORT) == 70.0
    assert ruling.cap_kw(LimitKind.PV) == 5.0
    assert ruling.cap_kw(LimitKind.EXPORT) is None


@pytest.mark.parametrize("mode", ControlMode)
def test_asked_and_silent_by_mode(mode: ControlMode):
    ruling = modes(bess1=mode)
    assert ("bess1" in ruling.asked) is (mode in (ControlMode.AUTO, ControlMode.MANUAL))
    assert ruling.silent("bess1") is (mode is ControlMode.OFF)
    assert replace(ruling, stopping=True).asked == frozenset()
    assert replace(ruling, stopping=True).silent("bess1") is False  # what the stop demands is kept alive
    local = replace(ruling, local=frozenset({"bess1"}), stopping=True)
    assert local.silent("bess1")
    assert "bess1" not in replace(local, stopping=False).asked
    assert replace(ruling, plant=ControlMode.OFF).silent("a device of nobody")


@pytest.mark.parametrize(
    ("kind", "cap_kw", "import_kw", "export_kw"),
    [
        (LimitKind.IMPORT, 100.0, 100.0, 0.0), (LimitKind.IMPORT, 900.0, 350.0, 0.0),
        (LimitKind.EXPORT, 100.0, 350.0, 0.0), (LimitKind.PV, 1.0, 350.0, 0.0),
    ],
)  # fmt: skip
def test_narrowed_is_never_more_than_the_contract(
    kind: LimitKind, cap_kw: float, import_kw: float, export_kw: float
):
    got = narrowed(LAYOUT, replace(RULING, caps=(Cap(kind=kind, cap_kw=cap_kw, reason="r"),)))
    assert (got.site.grid.p_import_kw_max, got.site.grid.p_export_kw_max) == (import_kw, export_kw)
    assert (got is LAYOUT) is (import_kw == 350.0)
    wide = replace(LAYOUT, site=replace(LAYOUT.site, grid=replace(LAYOUT.site.grid, p_export_kw_max=200.0)))
    tight = narrowed(wide, replace(RULING, caps=(Cap(kind=LimitKind.EXPORT, cap_kw=50.0, reason="r"),)))
    assert (tight.site.grid.p_import_kw_max, tight.site.grid.p_export_kw_max) == (350.0, 50.0)


def seen(grid: GridMode = GridMode.GRID_TIED, forming: str = "grid1") -> Observed:
    shot = snapshot(
        T0, 0.0, bess1__p_charge_kw_max=300.0, bess1__p_discharge_kw_max=250.0, bess1__p_kw=20.0,
        pv1__p_available_kw=400.0, gen1__state=0.0, gen2__state=0.0,
    )  # fmt: skip
    _, observed = observe(LAYOUT, ObserverMemory(mode=GridMode.GRID_TIED), shot, {}, 1.0, {})
    return replace(observed, condition=replace(observed.condition, grid_mode=grid, forming=forming))


def battery(
    ruling: Ruling, people: dict[str, Target | None] | None = None, **how: Any
) -> tuple[bool, float, float]:
    b = as_ruled(seen(**how), ruling, people or {}).condition.bess["bess1"]
    return b.available, b.p_charge_kw_max, b.p_discharge_kw_max


def test_as_ruled_leaves_everything_where_nothing_is_limited():
    observed = seen()
    assert as_ruled(observed, RULING, {}) is observed
    assert battery(replace(RULING, weak={P_LIMIT: [bound(0.0, 5.0, P_LIMIT)]})) == (True, 300.0, 250.0)


@pytest.mark.parametrize(
    ("ruling", "people", "charge", "discharge"),
    [
        ({"strong": {P_SET: [bound(-50.0, 60.0)]}}, {}, 50.0, 60.0),
        ({"weak": {P_SET: [bound(-50.0, 60.0)]}}, {}, 50.0, 60.0),
        ({"weak": {P_SET: [bound(-50.0, 60.0), bound(-70.0, 40.0)]}}, {}, 50.0, 40.0),
        ({"weak": {P_SET: [bound(10.0, 60.0)]}}, {}, 0.0, 60.0),
        ({"weak": {P_SET: [bound(-60.0, -10.0)]}}, {}, 60.0, 0.0),
        ({"weak": {P_SET: [bound(-900.0, 900.0)]}}, {}, 300.0, 250.0),
        ({}, {P_SET: target(-40.0)}, 40.0, 0.0),  # in manual it gives what people want
        ({}, {P_SET: target(40.0)}, 0.0, 40.0),
        ({}, {P_SET: target(0.5)}, 0.0, 0.5),
        ({}, {P_SET: target(-0.5)}, 0.5, 0.0),
        ({}, {P_SET: None}, 300.0, 250.0),
        ({"step": {P_SET: 15.0}, "standing": {P_SET: 100.0}}, {}, 0.0, 115.0),
        ({"step": {P_SET: 15.0}, "standing": {P_SET: -100.0}}, {}, 115.0, 0.0),
        ({"step": {P_SET: 30.0}}, {}, 10.0, 50.0),  # from what is measured where nothing stands
        ({"weak": {P_SET: [bound(-0.5, 0.5)]}}, {}, 0.5, 0.5),
    ],
)
def test_as_ruled_a_battery_gives_no_more_than_it_may(
    ruling: dict[str, Any], people: dict[str, Target | None], charge: float, discharge: float
):
    got = battery(replace(RULING, **ruling), people)
    assert got == (True, charge, discharge)
    in_island = battery(replace(RULING, **ruling), people, grid=GridMode.ISLANDED)
    assert in_island == ((True, 300.0, 250.0) if "step" in ruling else got)  # an island waits for no transfer
    assert battery(replace(RULING, **ruling), people, forming="bess1") == (True, 300.0, 250.0)


@pytest.mark.parametrize("mode", ControlMode)
def test_as_ruled_who_is_away_is_not_there_to_be_dispatched(mode: ControlMode):
    away = mode in (ControlMode.LOCAL, ControlMode.OFF, ControlMode.TEST)
    ruling = replace(
        modes(bess1=mode, gen1=mode, pv1=mode), caps=(Cap(kind=LimitKind.PV, cap_kw=1.0, reason="r"),)
    )
    got = as_ruled(seen(), ruling, {})
    assert got.condition.bess["bess1"].available is not away
    assert got.condition.gensets["gen1"].available is not away
    assert got.condition.gensets["gen2"].available
    assert got.pv_available_kw == {"pv1": None if away else 400.0}
    assert as_ruled(seen(forming="gen1"), ruling, {}).condition.gensets["gen1"].available
    broken = seen()
    gensets = {g: replace(x, available=False) for g, x in broken.condition.gensets.items()}
    bess = {b: replace(x, available=False) for b, x in broken.condition.bess.items()}
    broken = replace(broken, condition=replace(broken.condition, gensets=gensets, bess=bess))
    assert not as_ruled(broken, ruling, {}).condition.gensets["gen2"].available
    assert not as_ruled(broken, ruling, {}).condition.bess["bess1"].available


@pytest.mark.parametrize(
    ("mode", "people", "available"),
    [
        (ControlMode.MANUAL, {RUN: target(0.0, Cause.OPERATOR)}, False),
        (ControlMode.MANUAL, {RUN: None}, False),  # nobody has said anything: it is not started either
        (ControlMode.MANUAL, {RUN: target(1.0, Cause.OPERATOR)}, True),
        (ControlMode.MANUAL, {"gen1.p_set_kw": target(0.0, Cause.OPERATOR)}, True),  # no request to be made
        (ControlMode.AUTO, {RUN: target(0.0, Cause.OPERATOR)}, True),
    ],
)
def test_as_ruled_a_set_that_people_keep_off_in_manual_is_not_the_edges_to_start(
    mode: ControlMode, people: dict[str, Target | None], available: bool
):
    c = as_ruled(seen(), modes(gen1=mode), people).condition
    assert c.gensets["gen1"].available is available
    assert c.gensets["gen2"].available


@pytest.mark.parametrize(
    ("ruling", "people", "available"),
    [
        ({"strong": {P_LIMIT: [bound(0.0, 90.0, P_LIMIT)]}}, {}, 90.0),
        ({"weak": {P_LIMIT: [bound(0.0, 90.0, P_LIMIT), bound(0.0, 80.0, P_LIMIT)]}}, {}, 80.0),
        ({"weak": {P_LIMIT: [bound(0.0, 900.0, P_LIMIT)]}}, {}, 400.0),
        ({}, {P_LIMIT: target(70.0)}, 70.0),
        ({}, {P_LIMIT: None}, 400.0),
        ({"weak": {P_LIMIT: [bound(0.0, 90.0, P_LIMIT)]}}, {P_LIMIT: target(95.0)}, 90.0),
    ],
)
def test_as_ruled_pv_could_give_no_more_than_it_may(
    ruling: dict[str, Any], people: dict[str, Target | None], available: float
):
    assert as_ruled(seen(), replace(RULING, **ruling), people).pv_available_kw == {"pv1": available}
    unread = replace(seen(), pv_available_kw={"pv1": None})
    assert as_ruled(unread, replace(RULING, **ruling), people).pv_available_kw == {"pv1": None}


def test_as_ruled_says_the_caps_at_the_poi():
    caps = tuple(
        Cap(kind=k, cap_kw=kw, reason="r") for k, kw in ((LimitKind.IMPORT, 9.0), (LimitKind.EXPORT, 8.0))
    )
    c = as_ruled(seen(), replace(RULING, caps=caps), {}).condition
    assert (c.import_cap_kw, c.export_cap_kw) == (9.0, 8.0)


def test_written_of_a_device_in_local_is_somebody_elses():
    written = {P_SET: KEPT, P_LIMIT: KEPT}
    assert still_written(written, RULING) is written
    assert still_written(written, replace(RULING, local=frozenset({"bess1"}))) == {P_LIMIT: KEPT}


@pytest.mark.parametrize(
    ("mode", "cause", "becomes"),
    [
        (ControlMode.AUTO, Cause.OPERATOR, Cause.RULES),  # in auto it is the edge that carries it out
        (ControlMode.AUTO, Cause.PROTECTION, Cause.PROTECTION),
        (ControlMode.AUTO, Cause.RULES, Cause.RULES),
        (ControlMode.MANUAL, Cause.OPERATOR, Cause.OPERATOR),
        (ControlMode.MANUAL, Cause.RULES, None),
        (ControlMode.OFF, Cause.RULES, None),
        (ControlMode.OFF, Cause.SAFE_TABLE, Cause.SAFE_TABLE),
    ],
)
def test_carried_out_as_far_as_the_modes_let_it(mode: ControlMode, cause: Cause, becomes: Cause | None):
    wish = Proposal(point=P_SET, value=1.0, cause=cause, reason="r", owner="edge")
    strange = replace(wish, point="nobody.p_set_kw")
    ruling = replace(modes(bess1=mode), plant=mode)
    for one in (wish, strange):
        got = carried_out([one], ruling, {})
        assert got == ([] if becomes is None else [replace(one, cause=becomes)])
    assert carried_out([wish], replace(ruling, stopping=True), {}) == []
    assert carried_out([wish], replace(ruling, local=frozenset({"bess1"})), {}) == []


BREAKER = layout_of(with_breaker(builders.site()))
OPEN, CLOSE = "grid1.open_request", "grid1.close_permit"


def at_breaker(mode: ControlMode, *, leased: bool = True, point: str = OPEN) -> Ruling:
    held = {point: lease(point=point)} if leased else {}
    return replace(RULING, modes={**RULING.modes, "grid1": mode}, held=held)


@pytest.mark.parametrize(
    ("mode", "cause", "value", "wanted", "leased", "becomes"),
    [
        (ControlMode.MANUAL, Cause.RULES, 1.0, 1.0, True, (Cause.OPERATOR, "ann", f"ann-{OPEN}")),
        (ControlMode.MANUAL, Cause.OPERATOR, 1.0, 1.0, True, (Cause.OPERATOR, "ann", f"ann-{OPEN}")),
        (ControlMode.MANUAL, Cause.RULES, 1.0, 1.0, False, (Cause.OPERATOR, "edge", None)),  # kept
        (ControlMode.MANUAL, Cause.PROTECTION, 0.0, 0.0, True, (Cause.PROTECTION, "edge", None)),
        (ControlMode.MANUAL, Cause.RULES, 1.0, 0.0, True, None),  # not what the person wants
        (ControlMode.MANUAL, Cause.RULES, 1.0, None, False, None),
        (ControlMode.AUTO, Cause.RULES, 1.0, 1.0, True, (Cause.RULES, "edge", None)),
        (ControlMode.TEST, Cause.RULES, 1.0, 1.0, True, None),
    ],
)
def test_carried_out_in_manual_what_the_person_wants_once_it_may_be(
    mode: ControlMode, cause: Cause, value: float, wanted: float | None, leased: bool, becomes: object
):
    asked = Proposal(point=OPEN, value=value, cause=cause, reason="ready", owner="edge")
    want = None if wanted is None else target(wanted, Cause.OPERATOR)
    got = carried_out([asked], at_breaker(mode, leased=leased), {OPEN: want})
    assert [(p.cause, p.owner, p.request_id) for p in got] == ([] if becomes is None else [becomes])


@pytest.mark.parametrize(
    ("names", "mode", "wanted", "leased", "owner"),
    [
        ((), ControlMode.MANUAL, 1.0, True, "ann"),
        ((), ControlMode.MANUAL, 1.0, False, "edge"),
        ((), ControlMode.MANUAL, 0.0, True, None),
        ((), ControlMode.MANUAL, None, False, None),
        ((), ControlMode.TEST, 1.0, True, None),
        (("open_permit",), ControlMode.MANUAL, 1.0, True, "ann"),
        (("close_permit",), ControlMode.MANUAL, 1.0, True, None),  # no say in the opening
    ],
)
def test_island_order_is_a_persons_while_it_stands(
    names: tuple[str, ...], mode: ControlMode, wanted: float | None, leased: bool, owner: str | None
):
    layout = layout_of(with_breaker(builders.site(), *names))
    point = f"grid1.{names[0]}" if names else OPEN
    want = None if wanted is None else target(wanted, Cause.OPERATOR)
    got = island_order(layout, at_breaker(mode, leased=leased, point=point), {point: want})
    assert [(p.point, p.value, p.cause, p.owner) for p in got] == (
        [] if owner is None else [(OPEN, 1.0, Cause.OPERATOR, owner)]
    )


@pytest.mark.parametrize(
    ("point", "value", "ordered", "code"),
    [
        (OPEN, 1.0, None, ""),
        (CLOSE, 1.0, None, ""),
        (CLOSE, 1.0, 0.0, ""),
        (CLOSE, 1.0, 1.0, "island_ordered"),
        (CLOSE, 0.0, 1.0, ""),
        ("grid1.open_permit", 1.0, None, "not_operated"),
        (RUN, 1.0, 1.0, ""),
    ],
)
def test_not_operated_at_the_poi_breaker_is_what_would_do_nothing(
    point: str, value: float, ordered: float | None, code: str
):
    leases = {} if ordered is None else held(lease(point=OPEN, value=ordered))
    assert not_operated(BREAKER, replace(AUTO, leases=leases), point, value)[0] == code
    alone = layout_of(with_breaker(builders.site(), "close_permit"))
    assert not_operated(alone, AUTO, CLOSE, 1.0) == ("", "")
    by_permit = layout_of(with_breaker(builders.site(), "open_permit"))
    assert not_operated(by_permit, AUTO, "grid1.open_permit", 1.0) == ("", "")


def test_when_says_what_an_operated_action_waits_for():
    assert "next to no power" in when(BREAKER, OPEN, 1.0)
    assert "dwell" in when(BREAKER, CLOSE, 1.0)
    assert [when(BREAKER, p, v) for p, v in ((OPEN, 0.0), (CLOSE, 0.0), (RUN, 1.0))] == ["", "", ""]


# ---- what outlives a restart -----------------------------------------------------------------------------


def chosen(mode: ControlMode, **changes: Any) -> Chosen:
    return Chosen(mode=mode, user="eve", **changes)


@pytest.mark.parametrize(
    ("was", "kept"),
    [
        (chosen(ControlMode.MANUAL), ControlMode.MANUAL),
        (chosen(ControlMode.TEST), ControlMode.MANUAL),  # nobody is there to end a probe
        (chosen(ControlMode.OFF), ControlMode.OFF),
        (chosen(ControlMode.AUTO), ControlMode.AUTO),
        (chosen(ControlMode.AUTO, until_s=9.0, before=BY_BOB), ControlMode.MANUAL),  # the stricter of the two
        (chosen(ControlMode.MANUAL, until_s=9.0, before=chosen(ControlMode.OFF)), ControlMode.OFF),
        (chosen(ControlMode.MANUAL, until_s=9.0), ControlMode.MANUAL),
        (chosen(ControlMode.TEST, until_s=9.0), ControlMode.MANUAL),
    ],
)
def test_standing_keeps_the_stricter_mode(was: Chosen, kept: ControlMode):
    got = standing_of(replace(AUTO, plant=was, devices={"bess1": was}), held_safe=False)
    assert got.plant is kept
    assert got.devices == ({} if kept is ControlMode.AUTO else {"bess1": kept})
    timed = {} if was.until_s is None or was.before is not None else {PLANT: 9.0, "bess1": 9.0}
    assert got.mode_until_s == timed
    assert got.chosen_by == {PLANT: "eve", "bess1": "eve"}


def test_standing_keeps_what_people_and_others_set():
    memory = replace(
        limits("import", 100.0), plant=BY_ANN, stopped=True, standing_lost=True,
        leases=held(lease(), lease(owner="bob", since_s=20.0, until_s=500.0)),
        told={"dso": Told(value_kw=7.0, valid_s=1.0)},
    )  # fmt: skip
    assert standing_of(memory, held_safe=True) == Standing(
        plant=ControlMode.MANUAL, limits=memory.limits, told_kw={"dso": 7.0}, held_safe=True, stopped=True,
        lost=True, chosen_by={PLANT: "ann"}, held_until_s={P_SET: 500.0},
    )  # fmt: skip


@pytest.mark.parametrize("mode", [ControlMode.MANUAL, ControlMode.TEST])
@pytest.mark.parametrize(
    ("protected", "people", "got"),
    [
        (target(1.0, Cause.PROTECTION), 0.0, 1.0),  # what protects is not held back by whoever has it in hand
        (target(0.0, Cause.RULES), 1.0, 1.0),  # and is not withdrawn for them
        (None, 1.0, 1.0),
        (None, 0.0, 0.0),
    ],
)
def test_breaker_of_pv_people_have_it_unless_protection_opens_it(
    mode: ControlMode, protected: Target | None, people: float, got: float
):
    layout = layout_of(tripping(builders.site(), "pv1"))
    targets = replace(WISHES, pv_trip={} if protected is None else {"pv1": protected})
    wanted = {"pv1.trip_request": target(people, Cause.OPERATOR)}
    after = with_people_after(layout, in_mode(mode), targets, wanted)
    assert after.pv_trip["pv1"].value == got
    assert with_people(layout, WISHES, wanted).pv_trip["pv1"].value == people
