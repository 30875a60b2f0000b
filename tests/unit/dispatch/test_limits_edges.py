"""Limits that people set and others tell, each by itself: contacts, subjects, caps, and who falls silent."""

import math
from dataclasses import replace

import pytest

from dispatch.authority.modes import closed
from dispatch.authority.people_limits import bounds_of, in_force, is_tighter, people_now, subject_of
from dispatch.authority.state import InputSeen, Loosened, Told
from dispatch.authority.told_limits import Cap, caps_now, hear
from dispatch.layout import layout_of
from ems.control_site import Contact, ControlParams, LimitKind, UtilityLimit
from ems.requests import StandingLimit
from tests.builders import site
from tests.unit.dispatch.test_authority_gate import LAYOUT, NOW
from tests.unit.dispatch.test_condition import snapshot

BESS, PV, GEN = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request"


# ---- contacts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "age_s", "mapped", "first_s", "position"),
    [
        (1.0, 3.0, True, 0.0, True),
        (0.5, 3.0, True, 0.0, True),
        (0.4, 3.0, True, 0.0, False),
        (1.0, 3.1, True, 0.0, False),  # not read for so long: open
        (1.0, 3.1, False, 0.0, False),
        (None, 0.0, False, 0.0, True),  # the site has none
        (None, 0.0, True, 97.0, None),  # just started: not known yet
        (None, 0.0, True, 96.9, False),
    ],
)
def test_contact_is_closed_while_it_is_read_so(
    value: float | None, age_s: float, mapped: bool, first_s: float, position: bool | None
):
    control = replace(LAYOUT.control, mapped=frozenset({"bus.k1"} if mapped else ()))
    seen = {} if value is None else {"bus.k1": InputSeen(value=value, good_s=100.0 - age_s, changed_s=0.0)}
    assert closed(control, seen, "bus.k1", first_s, 100.0) is position


# ---- limits of people ------------------------------------------------------------------------------------


def limited(name: str, value: float) -> dict[str, StandingLimit]:
    return {name: StandingLimit(subject=name, value=value, user="ann", reason="why")}


def test_subject_is_a_kind_of_cap_or_one_side_of_a_continuous_setpoint():
    cap = subject_of(LAYOUT, "import")
    assert cap is not None
    assert (cap.kind, cap.point, cap.is_low, cap.low, cap.high) == (LimitKind.IMPORT, None, False, 0.0, 350.0)
    low, high = subject_of(LAYOUT, f"{BESS}.low"), subject_of(LAYOUT, f"{BESS}.high")
    assert low is not None
    assert high is not None
    assert (low.kind, low.point, low.is_low, low.low, low.high) == (None, BESS, True, -500.0, 0.0)
    assert (high.is_low, high.low, high.high) == (False, 0.0, 500.0)
    for name in (f"{GEN}.high", f"{BESS}.side", "nobody.p_set_kw.low", BESS, "imports"):
        assert subject_of(LAYOUT, name) is None


@pytest.mark.parametrize(("low", "high", "rest"), [(10.0, 90.0, 10.0), (-90.0, -10.0, -10.0)])
def test_subject_of_a_setpoint_that_is_never_zero_leaves_what_is_nearest_to_it(
    low: float, high: float, rest: float
):
    a = replace(LAYOUT.setpoints[BESS], low=low, high=high)
    layout = replace(LAYOUT, setpoints={**LAYOUT.setpoints, BESS: a})
    below, above = subject_of(layout, f"{BESS}.low"), subject_of(layout, f"{BESS}.high")
    assert below is not None
    assert above is not None
    assert (below.low, below.high, above.low, above.high) == (low, rest, rest, high)


@pytest.mark.parametrize(
    ("side", "now", "new", "tighter"),
    [
        ("high", None, 5.0, True), ("high", None, None, True), ("high", 5.0, None, False),
        ("high", 5.0, 5.0, True), ("high", 5.0, 4.0, True), ("high", 5.0, 6.0, False),
        ("low", 5.0, 5.0, True), ("low", 5.0, 4.0, False), ("low", 5.0, 6.0, True),
    ],
)  # fmt: skip
def test_tighter_allows_nothing_more(side: str, now: float | None, new: float | None, tighter: bool):
    subject = subject_of(LAYOUT, f"{BESS}.{side}")
    assert subject is not None
    assert is_tighter(subject, now, new) is tighter


def test_limit_in_force_is_the_loosening_while_there_is_one():
    loose = Loosened(value=None, user="eve", second="dan", reason="r", until_s=9.0)
    limits = limited("import", 100.0)
    assert in_force(limits, {}, "import") == 100.0
    assert in_force(limits, {"import": loose}, "import") is None
    assert in_force(limits, {"import": replace(loose, value=120.0)}, "import") == 120.0
    assert in_force(limits, {}, "export") is None


def test_limits_of_people_are_caps_and_bounds():
    limits = {
        **limited("pv", 60.0), **limited(f"{BESS}.low", -30.0), **limited(f"{BESS}.high", 40.0),
        **limited("nobody.p_set_kw.low", 1.0),
    }  # fmt: skip
    caps, bounds = people_now(LAYOUT, limits, {})
    assert caps == [Cap(kind=LimitKind.PV, cap_kw=60.0, reason="limit of ann: why", layer="people")]
    assert [(b.point, b.low, b.high, b.layer) for b in bounds[BESS]] == [
        (BESS, -30.0, 500.0, "people"), (BESS, -500.0, 40.0, "people"),
    ]  # fmt: skip
    loose = {n: Loosened(value=None, user="e", second=None, reason="r", until_s=9.0) for n in limits}
    assert people_now(LAYOUT, limits, loose) == ([], {})


def test_caps_are_shared_among_setpoints_on_the_side_they_limit():
    made = [
        Cap(kind=LimitKind.BESS_CHARGE, cap_kw=50.0, reason="r"),
        Cap(kind=LimitKind.BESS_DISCHARGE, cap_kw=60.0, reason="r", layer="people"),
        Cap(kind=LimitKind.PV, cap_kw=70.0, reason="r"),
        Cap(kind=LimitKind.IMPORT, cap_kw=80.0, reason="r"),
    ]
    got = bounds_of(LAYOUT.control, LAYOUT, made)
    assert {p: [(b.low, b.high, b.layer) for b in x] for p, x in got.items()} == {
        BESS: [(-50.0, 500.0, "utility"), (-500.0, 60.0, "people")],
        PV: [(0.0, 70.0, "utility")],
    }


# ---- limits that others tell -----------------------------------------------------------------------------

POINTED = UtilityLimit(
    id="dso", kind=LimitKind.PV, watchdog_s=10.0, on_loss_kw=60.0, point="grid1.p_pv_kw_max"
)
STEPS = UtilityLimit(
    id="rcr", kind=LimitKind.PV, watchdog_s=10.0, on_loss_kw=None,
    contacts=(Contact(point="bus.k1", cap_kw=30.0), Contact(point="bus.k2", cap_kw=20.0)),
)  # fmt: skip


def control_of(*limits: UtilityLimit):
    return layout_of(replace(site(), control=ControlParams(limits=limits))).control


@pytest.mark.parametrize(
    ("value", "told"), [(90.0, 90.0), (0.0, 0.0), (-0.1, 5.0), (math.inf, 5.0), (math.nan, 5.0), (None, 5.0)]
)
def test_heard_from_a_point_is_a_number_from_zero_on(value: float | None, told: float):
    before = {
        "dso": Told(value_kw=5.0, valid_s=1.0),
        "grid1.p_import_kw_max": Told(value_kw=5.0, valid_s=1.0),
    }
    shot = snapshot(NOW, 50.0, grid1__p_pv_kw_max=value, grid1__p_import_kw_max=value)
    after = hear(control_of(POINTED), before, {}, shot)
    valid_s = 50.0 if told == value else 1.0
    assert after["dso"] == Told(value_kw=told, valid_s=valid_s)
    assert after["grid1.p_import_kw_max"] == Told(value_kw=told, valid_s=valid_s)


@pytest.mark.parametrize(
    ("beat", "changed_s", "heard"),
    [(7.0, 40.0, True), (7.0, 39.9, False), (None, 50.0, False), (7.0, None, False)],
)
def test_heard_from_a_point_only_while_its_heartbeat_changes(
    beat: float | None, changed_s: float | None, heard: bool
):
    limit = replace(POINTED, heartbeat="grid1.beat")
    seen = {} if changed_s is None else {"grid1.beat": InputSeen(value=7.0, good_s=50.0, changed_s=changed_s)}
    shot = snapshot(NOW, 50.0, grid1__p_pv_kw_max=9.0, grid1__beat=beat)
    assert ("dso" in hear(control_of(limit), {}, seen, shot)) is heard


@pytest.mark.parametrize(
    ("k1", "k2", "age_s", "told"),
    [
        (1.0, 0.0, 0.0, 30.0),
        (0.5, 0.0, 3.0, 30.0),
        (0.4, 1.0, 0.0, 20.0),
        (1.0, 1.0, 0.0, 20.0),  # several closed: the strictest
        (0.0, 0.0, 0.0, None),
        (1.0, 1.0, 3.1, None),
        (1.0, None, 0.0, None),
    ],
)
def test_heard_from_contacts_the_strictest_that_is_closed(
    k1: float, k2: float | None, age_s: float, told: float | None
):
    values = {"bus.k1": k1, "bus.k2": k2}
    seen = {
        p: InputSeen(value=v, good_s=50.0 - age_s, changed_s=0.0) for p, v in values.items() if v is not None
    }
    after = hear(control_of(STEPS), {}, seen, snapshot(NOW, 50.0))
    assert after.get("rcr") == (None if told is None else Told(value_kw=told, valid_s=50.0))


@pytest.mark.parametrize(
    ("known", "silent_s", "on_loss_kw", "lost", "cap_kw"),
    [
        (90.0, 10.0, 60.0, False, 90.0),
        (90.0, 10.1, 60.0, True, 60.0),
        (40.0, 10.1, 60.0, True, 40.0),  # its last word where that is tighter
        (40.0, 10.1, None, True, 40.0),
        (None, 10.0, 60.0, False, 60.0),  # never heard: the value on loss from the start
        (None, 10.1, 60.0, True, 60.0),
        (None, 10.1, None, True, None),
    ],
)
def test_caps_of_who_falls_silent(
    known: float | None, silent_s: float, on_loss_kw: float | None, lost: bool, cap_kw: float | None
):
    control = control_of(replace(POINTED, on_loss_kw=on_loss_kw))
    told = {} if known is None else {"dso": Told(value_kw=known, valid_s=100.0)}
    caps, losses = caps_now(control, told, 100.0, 100.0 + silent_s)
    assert losses == {"dso": lost}
    assert [(c.kind, c.cap_kw) for c in caps] == ([] if cap_kw is None else [(LimitKind.PV, cap_kw)])


IMPORT, EXPORT = "grid1.p_import_kw_max", "grid1.p_export_kw_max"


@pytest.mark.parametrize(
    ("silent_s", "lost", "import_kw", "export_kw"), [(60.0, False, 70.0, 50.0), (60.1, True, 70.0, 0.0)]
)
def test_caps_without_an_entry_are_watched_too(
    silent_s: float, lost: bool, import_kw: float, export_kw: float
):
    told = {IMPORT: Told(value_kw=70.0, valid_s=5.0), EXPORT: Told(value_kw=50.0, valid_s=5.0)}
    caps, losses = caps_now(control_of(), told, 0.0, 5.0 + silent_s)
    assert [(c.kind, c.cap_kw, c.layer) for c in caps] == [
        (LimitKind.IMPORT, import_kw, "utility"),
        (LimitKind.EXPORT, export_kw, "utility"),
    ]
    assert losses == {IMPORT: lost, EXPORT: lost}


def test_caps_without_an_entry_never_heard_count_only_where_a_connection_maps_them():
    bare = control_of()
    assert caps_now(bare, {}, 0.0, 1e6) == ([], {})
    mapped = replace(bare, mapped=frozenset({IMPORT, EXPORT}))
    caps, lost = caps_now(mapped, {}, 0.0, 60.0)
    assert [(c.kind, c.cap_kw) for c in caps] == [(LimitKind.EXPORT, 0.0)], "import: what the contract says"
    assert lost == {IMPORT: False, EXPORT: False}
    assert caps_now(mapped, {}, 0.0, 60.1)[1] == {IMPORT: True, EXPORT: True}
    assert mapped.known(EXPORT), "its alarm is about something at this site"
