"""Whatever happens in between, nobody's setpoint is held for longer than they asked last."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.authority.stage import restored
from ems.control import ControlMode
from ems.requests import Operate, Release, Select, SetSetpoint, SwitchMode
from tests.unit.dispatch.controlled import P_SET, USERS, loop
from tests.unit.dispatch.loop import Loop

ANN = "ann"
EXPIRY_S = 600.0
STEP_S = 5.0
ACTS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from([20.0, 90.0, 3000.0])),
    st.tuples(st.just("mode"), st.sampled_from(["manual", "auto", "test", "off"])),
    st.tuples(st.just("flick"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([10.0, 60.0, 400.0])),
    st.tuples(st.sampled_from(["release", "probe", "nothing"]), st.none()),
)


class Watched:
    """An edge, one person with every right, and until when they have asked for the battery's setpoint."""

    def __init__(self) -> None:
        users = {**USERS, ANN: USERS["ann"] | USERS["eve"]}
        self.one: Loop = loop(setpoint_expiry_s=EXPIRY_S)
        self.one.site = replace(self.one.site, control=replace(self.one.site.control, users=users))
        self.one.setup = replace(self.one.setup, site=self.one.site)
        self.asked_s = 0.0
        self.held = 0

    def act(self, what: str, how: object) -> None:
        one = self.one
        if what == "set" and one.ask(ANN, SetSetpoint(point=P_SET, value=-30.0, for_s=float(str(how)))).done:
            self.asked_s = one.t - 1.0 + float(str(how))
        elif what == "mode":
            mode = ControlMode(str(how))
            if one.ask(ANN, SwitchMode(device="bess1", mode=mode)).done and mode is ControlMode.MANUAL:
                self.asked_s = max(self.asked_s, one.t - 1.0 + EXPIRY_S)
        elif what == "probe":
            picked = one.ask(ANN, Select(point=P_SET, value=one.set.get(P_SET, 0.0)))
            if picked.done and one.ask(ANN, Operate(token=str(picked.token))).done:
                self.asked_s = one.t - 1.0 + (60.0 if self.mode is ControlMode.TEST else EXPIRY_S)
        elif what == "release" and one.ask(ANN, Release(point=P_SET)).done:
            self.asked_s = one.t - 1.0
        elif what == "flick":
            one.world.inputs["bess1.remote"] = 0.0
            one.run(2.0)
            one.world.inputs["bess1.remote"] = 1.0
            one.run(1.0)
        elif what == "restart":
            self.restart(same_boot=bool(how))
        elif what == "wait":
            one.run(float(str(how)), STEP_S)

    @property
    def mode(self) -> ControlMode:
        return self.one.edge.authority.modes["bess1"]

    def restart(self, *, same_boot: bool) -> None:
        standing = self.one.log[-1][1].standing
        assert standing is not None
        kept = standing if same_boot else replace(standing, mode_until_s={}, held_until_s={})
        self.one.edge = replace(
            self.one.edge, authority=restored(self.one.site.control, kept, self.one.t), written={}
        )
        self.one.run(1.0)

    def check(self, done: object) -> None:
        for (point, owner), lease in self.one.edge.authority.leases.items():
            if point == P_SET:
                self.held += 1
                assert lease.until_s <= self.asked_s + 1e-6, (owner, lease, self.asked_s, done)
                assert lease.until_s > self.one.t - STEP_S - 1e-6, "over, and still there"


@settings(max_examples=25, deadline=None)
@given(acts=st.lists(ACTS, min_size=4, max_size=14))
def test_lease_is_never_longer_than_its_owner_asked_last(acts):
    watched = Watched()
    watched.act("mode", "manual")
    for n, (what, how) in enumerate(acts):
        watched.act(what, how)
        watched.check(acts[: n + 1])
    assert watched.held or len(watched.one.log) > 1


def test_lease_watch_sees_one_that_is_too_long():
    """The oracle itself: it fails where a lease is longer."""
    watched = Watched()
    watched.act("mode", "manual")
    watched.act("set", 60.0)
    watched.check(())
    watched.asked_s -= 1.0
    try:
        watched.check(())
    except AssertionError:
        return
    raise RuntimeError("it saw nothing")
