"""Properties over sequences of cycles: whatever is wished, read, lost and tightened, what reaches the wire.

A sequence is drawn from its beginning, or opens with what is known to bring something about and goes on from
there. The drawn ones are always the same.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ems.commands import Cause, WriteOutcome
from ems.requests import Release, SetSetpoint, SwitchMode
from tests.unit.dispatch.hostile import (
    BESS,
    CAP,
    CHARGE,
    DISCHARGE,
    FEEDER,
    GEN,
    GRIDS,
    OTHERS,
    OWN,
    PV,
    RAMP,
    REMOTE,
    STATE,
    STOP,
    run,
)  # fmt: skip

odd = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, "12", None])
kw = st.one_of(st.sampled_from([0.0, 60.0, 120.0, -90.0, 400.0]), st.floats(-600.0, 600.0))
changes = st.one_of(
    st.tuples(st.sampled_from([CHARGE, DISCHARGE]), st.sampled_from([300.0, 80.0, 30.0, 5.0, 0.0, -20.0])),
    st.tuples(st.sampled_from([CHARGE, DISCHARGE, CAP]), odd),
    st.tuples(st.just(CAP), st.sampled_from([500.0, 40.0, 10.0, 0.0])),
    st.tuples(st.sampled_from([STOP, REMOTE, OWN]), st.sampled_from([1.0, 1.0, 0.0, None])),
    st.tuples(st.sampled_from(["bess1.soc", STATE, "pv1.p_kw", "grid1.p_kw"]), odd),
    st.tuples(st.just("bess1.soc"), st.sampled_from([0.6, 0.11, 0.94])),
    st.tuples(st.just("grid1.p_kw"), st.floats(-300.0, 600.0)),
    st.tuples(st.just("grid"), st.sampled_from(sorted(GRIDS))),
    st.tuples(st.just("calm"), st.none()),
    st.tuples(st.just("frozen"), st.sampled_from(["bess1", "grid1", "pv1", "bus"])),
    st.tuples(st.just("silent"), st.sampled_from(["bess1", "pv1", "gen1", "essential"])),
    st.tuples(st.sampled_from(["gen1.state", "essential.closed"]), st.none()),
)
asks = st.one_of(
    st.builds(
        SwitchMode, device=st.sampled_from(["bess1", "pv1"]), mode=st.sampled_from(["auto", "manual", "off"])
    ),
    st.builds(SetSetpoint, point=st.sampled_from([BESS, PV]), value=kw, for_s=st.sampled_from([2.0, 5.0])),
    st.builds(Release, point=st.just(BESS)),
)
proposed = st.one_of(  # by a program beside the controller
    st.tuples(st.just(FEEDER), st.sampled_from([0.0, 1.0])), st.tuples(st.sampled_from([BESS, PV]), kw)
)
steps = st.fixed_dictionaries(
    {
        "wish": st.fixed_dictionaries(
            {},
            optional={
                BESS: kw,
                PV: st.one_of(kw, odd),
                GEN: st.sampled_from([0.0, 1.0, math.nan]),
                OTHERS: kw,
                FEEDER: st.sampled_from([0.0, 1.0]),
            },
        ),
        "dt_s": st.sampled_from([1.0, 1.0, 4.0]),
    },
    optional={
        "odd": odd,
        "changes": st.lists(changes, max_size=2),
        "late": st.tuples(st.integers(0, 3), changes),
        "foreign": st.tuples(st.sampled_from([BESS, PV]), kw),
        "outcome": st.tuples(
            st.sampled_from([*[WriteOutcome.CONFIRMED] * 3, *WriteOutcome]), st.booleans()
        ),
        "ask": asks,
        "proposed": proposed,
        "end": st.sampled_from([*["nothing"] * 6, "safe_stop", "restart"]),
    },
)  # fmt: skip
CALM_STEP: dict[str, Any] = {"wish": {BESS: 60.0, PV: 300.0}, "dt_s": 1.0}
MORE: dict[str, Any] = {"wish": {BESS: 90.0, PV: 400.0}, "dt_s": 1.0}
KNOWN: Mapping[str, tuple[list[dict[str, Any]], str]] = {
    "stop": ([CALM_STEP, {**CALM_STEP, "changes": [(STOP, 0.0)]}], Cause.EMERGENCY_STOP),
    "safe": ([CALM_STEP, {**CALM_STEP, "end": "safe_stop"}, MORE, MORE], Cause.SAFE_TABLE),
    "others": ([CALM_STEP, {**CALM_STEP, "wish": {BESS: 60.0, OTHERS: 50.0}}], Cause.RULES),
    "local": ([CALM_STEP, {**MORE, "changes": [(REMOTE, 0.0)]}, MORE, MORE], Cause.RULES),
    "other master": ([*[CALM_STEP] * 8, {**MORE, "foreign": (BESS, -150.0)}, MORE, MORE], "contended"),
    "spent": ([CALM_STEP, MORE] * 12, "budget_spent"),
    "limit": ([*[CALM_STEP] * 6, {**CALM_STEP, "changes": [(DISCHARGE, 5.0)]}], "protects"),
    "late": ([*[CALM_STEP] * 6, {**MORE, "late": (0, (DISCHARGE, 5.0))}], "late"),
    "no number": ([CALM_STEP, {**CALM_STEP, "odd": "12"}], "not_finite"),
    "unknown": (
        [CALM_STEP, {**CALM_STEP, "changes": [("grid", "unread")]}, {**CALM_STEP, "proposed": (FEEDER, 0.0)}],
        "mode_wrong",
    ),
    "unread": (
        [
            CALM_STEP,
            {**CALM_STEP, "changes": [("essential.closed", None)]},
            {**CALM_STEP, "wish": {FEEDER: 0.0}},
        ],
        "stale_input",
    ),
    "silent": (
        [
            CALM_STEP,
            {**CALM_STEP, "changes": [("silent", "essential")]},
            {**CALM_STEP, "wish": {FEEDER: 0.0}},
        ],
        "device_offline",
    ),
    "person": (
        [
            CALM_STEP,
            {**CALM_STEP, "ask": SwitchMode(device="bess1", mode="manual")},  # type: ignore[arg-type]
            {**CALM_STEP, "ask": SetSetpoint(point=BESS, value=20.0, for_s=5.0)},
            *[CALM_STEP] * 8,
        ],
        Cause.OPERATOR,
    ),
}

SEQUENCES = st.lists(steps, min_size=6, max_size=16)
QUICK = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@QUICK
@given(SEQUENCES)
def test_sequence_whatever_happens_only_what_is_right_reaches_the_wire(given_steps):
    run(given_steps)


@pytest.mark.parametrize("name", KNOWN)
def test_sequence_goes_on_from_what_is_known_and_only_what_is_right_reaches_the_wire(name: str):
    """Each cause and refusal has an opening that brings it about; from there it goes on as it is drawn."""
    opening, reached = KNOWN[name]

    @settings(QUICK, max_examples=4)
    @given(SEQUENCES)
    def go_on(given_steps: Sequence[Mapping[str, Any]]) -> None:
        assert run([*opening, *given_steps]).seen[reached] > 0

    go_on()


def test_sequence_ramp_starts_at_the_last_write_where_the_read_back_is_older():
    """A PV limit went from 0 to 35 kW in one write, at a ramp of 28.

    The read-back stood still at 0, from before the write of 7 that was confirmed. Then another master put 0
    there, which nobody could see. What the edge knows is the 7, and its ramp starts there.
    """

    def wanted(kw: float, **rest: Any) -> dict[str, Any]:
        return {**CALM_STEP, "ask": SetSetpoint(point=PV, value=kw, for_s=5.0), **rest}

    world = run(
        [
            {**CALM_STEP, "ask": SwitchMode(device="pv1", mode="manual")},  # type: ignore[arg-type]
            wanted(0.0, outcome=(WriteOutcome.UNKNOWN, True)),
            wanted(0.0),
            wanted(7.0, changes=[("frozen", "pv1")]),
            wanted(7.0),
            wanted(7.0, dt_s=4.0),
            wanted(600.0, dt_s=4.0, foreign=(PV, 0.0)),
        ]
    )
    assert world.holds[PV] == 7.0 + 4.0 * RAMP[PV]
    assert world.told[PV][0] == 0.0


@settings(QUICK, max_examples=10)
@given(SEQUENCES)
def test_sequence_in_shadow_writes_nothing_and_records_no_intent(given_steps):
    run(given_steps, shadow=True)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(KNOWN)), st.lists(steps, min_size=3, max_size=40))
def test_soak_long_sequences_only_what_is_right_reaches_the_wire(name, given_steps):
    run([*KNOWN[name][0], *given_steps])
