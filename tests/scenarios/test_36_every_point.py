"""36: every mapped point of the demonstration site, wrong in every usual way: no row passes that should not.

A row that passes lets the plant be written to. Whatever is wrong, some row fails, or is not shown and waits
for a person. What cannot be seen is in one list, with why.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import pytest

from connectors.map_doubts import signedness
from dispatch.commissioning.rows import Verdict
from ems.site import Connection, PointMap, Site
from ems.site_schema import load_site
from sim.rig import RigOptions
from tests.scenarios.commissioning import changed, commission, with_engineer
from tests.scenarios.conftest import DEMO

pytestmark = pytest.mark.scenario(36)
FLIPPED = {"big": "little", "little": "big"}
SIGNED = {"u16": "s16", "s16": "u16", "u32": "s32", "s32": "u32"}
SCALES = {"ten times": 10.0, "a tenth": 0.1, "W for kW": 1000.0, "kW for W": 0.001}
RIGHT = with_engineer(load_site(DEMO))
POINTS = [m.point for c in RIGHT.connections for m in c.points]

# Everything flows: gensets on load, PV without a limit, three feeders of unlike load.
HELD = {
    "bess1.p_set_kw": 0.0, "pv1.p_limit_kw": 700.0, "gen1.p_set_kw": 160.0, "gen2.p_set_kw": 80.0,
    "gen1.run_request": 1.0, "gen2.run_request": 1.0,
}  # fmt: skip
ON_LOAD = RigOptions(soc=0.5, gensets_on_kw={"gen1": 160.0, "gen2": 80.0})
LOAD = {"critical": 140.0, "essential": 290.0, "deferrable": 100.0}
PROBES = {f"{a}.p_set_kw" for a in ("bess1", "gen1", "gen2")} | {"pv1.p_limit_kw"}

# With the right map and everything flowing: what waits for a person, because nothing bears it out.
PERSONS = {
    "bess1.q_kvar", "grid1.q_kvar", "gen1.run_h", "gen2.run_h",  # nothing else tells them
    "bess1.p_charge_kw_max", "bess1.p_discharge_kw_max",  # which of two equal limits is which
    "bus.alive", "critical.closed", "essential.closed", "deferrable.closed",  # several contacts that read 1
    "gen1.run_request", "gen2.run_request", "essential.close_request", "deferrable.close_request",  # discrete
}  # fmt: skip
# What passes although it is wrong, by why that harms nothing.
UNSEEN = {
    # no raw count of half the type or more lies in its range: it would read bad, not wrong
    *((p, "signedness") for p in ("bess1.soc", "bess1.state", "gen1.state", "gen2.state", "pv1.state")),
    *((p, "signedness") for p in ("pv1.p_available_kw", "pv1.p_limit_kw", "bess1.heartbeat")),
    # to the device any number that changes is a beat
    *(("bess1.heartbeat", how) for how in ("byte order", "a tenth", "kW for W")),
    # which feeder is which shows when one of them is opened
    *((f"{a}.p_kw", f"exchanged with {b}.p_kw") for a, b in
      (("critical", "deferrable"), ("deferrable", "critical"),
       ("essential", "deferrable"), ("deferrable", "essential"))),
}  # fmt: skip


def mistakes(connection: Connection, m: PointMap) -> Iterator[tuple[str, Site]]:
    """The usual ways to write one row of a map wrong, each with the site that has it."""

    def wrong(**changes: object) -> Site:
        return changed(RIGHT, m.point, **changes)

    if connection.protocol.is_modbus:
        yield "byte order", wrong(byte_order=FLIPPED[m.byte_order])
        if m.data_type.endswith("32"):
            word = FLIPPED[m.word_order]
            yield "word order", wrong(word_order=word)
            yield "both orders", wrong(byte_order=FLIPPED[m.byte_order], word_order=word)
        if m.data_type in SIGNED:
            yield "signedness", wrong(data_type=SIGNED[m.data_type])
        at = int(m.address)
        yield from ((f"address {n}", wrong(address=str(n))) for n in (at - 1, at + 1) if n >= 0)
    for other in connection.points:
        if other.point != m.point and other.data_type == m.data_type:
            yield f"address of {other.point}", wrong(address=other.address)
            both = changed(wrong(address=other.address), other.point, address=m.address)
            yield f"exchanged with {other.point}", both
    yield "sign", wrong(sign=-m.sign)
    yield from ((name, wrong(scale=m.scale * factor)) for name, factor in SCALES.items())


def passed(used: Site, agreed: Sequence[str], *, flowing: bool = True) -> set[str]:
    """Points that pass by themselves with this map; `ems commission` looks at the types too."""
    if flowing:
        c = commission(RIGHT, used, agreed, start=HELD, load_kw=LOAD, pv_kw=150.0, options=ON_LOAD)
    else:
        c = commission(RIGHT, used, agreed)
    maps = {m.point: x for x in used.connections for m in x.points}
    return {p for p, r in c.rows.items() if r.verdict is Verdict.PASS and not signedness(maps[p], p)}


@cache
def right(*agreed: str) -> frozenset[str]:
    return frozenset(passed(RIGHT, agreed))


def test_right_map_with_everything_flowing_a_person_is_asked_about_this_alone():
    assert set(POINTS) - right(*sorted(PROBES)) == PERSONS


@pytest.mark.parametrize("point", POINTS)
def test_point_that_is_mapped_wrong_does_not_pass_unseen(point: str):
    """By its reading alone where that is proof enough, else with the steps of its unit, or of the battery."""
    connection, m = next((c, m) for c in RIGHT.connections for m in c.points if m.point == point)
    own = [p for p in sorted(PROBES) if p.partition(".")[0] == point.partition(".")[0]]
    agreed = own if own else ["bess1.p_set_kw"]
    unseen = set()
    for name, used in mistakes(connection, m):
        if point in right():
            seen = not right() <= passed(used, ()) or not right(*agreed) <= passed(used, agreed)
        elif point in right(*agreed):
            seen = not right(*agreed) <= passed(used, agreed)
        else:  # a person is asked about it with the right map too
            seen = point not in passed(used, ())
        if not seen:
            unseen.add((point, name))
    assert unseen == {x for x in UNSEEN if x[0] == point}


AT_REST: Mapping[str, Sequence[str]] = {
    "gen1.p_kw": ["byte order", "word order", "both orders", "sign", *SCALES],
    "gen2.p_kw": ["sign", "ten times"],
    "gen1.state": ["byte order", "ten times", "a tenth"],
    "gen1.fuel_l": ["byte order", "word order", "both orders", "ten times", "a tenth", "kW for W", "sign"],
    "bess1.p_charge_kw_max": ["address 106", "exchanged with bess1.p_discharge_kw_max", "a tenth"],
    "bess1.q_kvar": ["byte order", "word order", "both orders", "sign", *SCALES],
}


@pytest.mark.parametrize("point", AT_REST)
def test_at_rest_what_reads_nothing_or_cannot_be_told_apart_does_not_pass(point: str):
    connection, m = next((c, m) for c in RIGHT.connections for m in c.points if m.point == point)
    wrong = dict(mistakes(connection, m))
    assert [n for n in AT_REST[point] if point in passed(wrong[n], [], flowing=False)] == []
