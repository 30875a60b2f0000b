"""Short runs of the production edge, each laid out so that one planted bug shows.

python -m tests.planted.probes NAME      # prints the oracles that did not hold, as JSON
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from dispatch.supervision.invariants_now import InvariantsNow
from dispatch.vocabulary import Context, ControlMemory, Source, Target, Targets
from ems.commands import Cause
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.errors import InvariantBroken
from ems.requests import SetSetpoint, SwitchMode
from ems.site import Site
from ems.site_schema import load_site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests import builders

HEAVY = {"critical": 150.0, "essential": 300.0, "deferrable": 200.0}


@cache
def demo() -> Site:
    return load_site(Path("sites/demo/site.yaml"))


def infinity_arrives() -> Rig:
    """On a plant without point maps, and without the ranges that stand behind the finite check."""
    fault = Fault(kind="reading_inf", target="bess1.soc", from_s=10.0)
    return Rig(builders.site(), faults=[fault]).run(20.0, judge=False)


def nothing_new_arrives() -> Rig:
    return Rig(demo(), faults=[Fault(kind="reading_stale", target="bess1", from_s=10.0)]).run(
        60.0, judge=False
    )


def two_wishes() -> Rig:
    """One ends after ten seconds, the other one lives on beside it."""
    users = {"anna": frozenset((Role.OPERATOR,))}
    rig = Rig(replace(demo(), control=ControlParams(users=users)), pv_kw=100.0)
    for device in ("bess1", "pv1"):
        ask = SwitchMode(device=device, mode=ControlMode.MANUAL)
        rig.at(2.0, partial(Rig.ask, user="anna", ask=ask))
    rig.at(5.0, lambda r: r.ask("anna", SetSetpoint(point="bess1.p_set_kw", value=-50.0, for_s=10.0)))
    rig.at(5.0, lambda r: r.ask("anna", SetSetpoint(point="pv1.p_limit_kw", value=90.0, for_s=60.0)))
    return rig.run(40.0, judge=False)


def limit_falls() -> Rig:
    fault = Fault(kind="bess_derated", target="bess1", from_s=20.0, value=0.2)
    rig = Rig(demo(), load_kw=HEAVY, faults=[fault])
    return rig.at(2.0, lambda r: r.propose("bess1.p_set_kw", 400.0, for_s=60.0)).run(40.0, judge=False)


def limit_falls_a_little() -> Rig:
    fault = Fault(kind="bess_derated", target="bess1", from_s=20.0, value=0.999)
    rig = Rig(demo(), load_kw=HEAVY, faults=[fault])
    return rig.at(2.0, lambda r: r.propose("bess1.p_set_kw", 550.0, for_s=60.0)).run(28.0, judge=False)


def held_safe() -> Rig:
    rig = Rig(demo())
    rig.runtime.state = replace(rig.runtime.state, held_safe=True)
    return rig.run(10.0, judge=False)


def quiet() -> Rig:
    return Rig(demo(), pv_kw=100.0).run(20.0, judge=False)


def pv_limit_raised() -> Rig:
    """Without a battery a light load bounds the PV; then it rises, and the limit may follow at its ramp."""
    load = {f: (lambda t, kw=kw: kw if t >= 20.0 else 0.2 * kw) for f, kw in HEAVY.items()}
    away = Fault(kind="bess_trips", target="bess1")
    return Rig(demo(), load_kw=load, pv_kw=600.0, faults=[away]).run(40.0, judge=False)


def mains_lost_under_a_plan() -> Rig:
    return Rig(demo(), mains=[(90.0, 400.0)], controller="mpc").run(120.0, judge=False)


@dataclass(frozen=True, slots=True)
class Restless:
    """A controller that wants its genset on and off every minute."""

    name: str = "rules"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        run = float(context.monotonic_s % 120.0 < 60.0)
        wish = Target(value=run, cause=Cause.RULES, reason="restless")
        return Targets(source=Source.RULES, genset_run={"gen1": wish}), context.memory


def restless_controller() -> Rig:
    """Half an hour of minimum up time, and then some."""
    return Rig(demo(), load_kw=HEAVY, controller=Restless()).run(2400.0, judge=False)


def island_at_its_limit() -> Rig:
    load = {"critical": 150.0, "essential": 240.0, "deferrable": 150.0}
    return Rig(demo(), load_kw=load, options=RigOptions(islanded_by="bess1")).run(30.0, judge=False)


def nobody_answers_yet() -> Rig:
    """What tells the grid mode is silent at the start."""
    silent = [Fault(kind="device_silent", target=a, until_s=10.0) for a in ("grid1", "bus")]
    rig = Rig(demo(), faults=silent)
    rig.tell("bess1.state", None)
    return rig.at(10.0, lambda r: r.tell_truth("bess1.state")).run(20.0, judge=False)


def back_from_black() -> Rig:
    """The battery trips with the mains; sets bring the bus back, and then the feeders."""
    load = {"critical": 100.0, "essential": 150.0, "deferrable": 80.0}
    trips = Fault(kind="bess_trips", target="bess1", from_s=60.0, until_s=120.0)
    return Rig(demo(), load_kw=load, mains=[(60.0, 2000.0)], faults=[trips]).run(900.0, judge=False)


PROBES: Mapping[str, Callable[[], Rig]] = {
    p.__name__: p
    for p in (
        infinity_arrives, nothing_new_arrives, two_wishes, limit_falls, limit_falls_a_little, held_safe,
        quiet, pv_limit_raised, mains_lost_under_a_plan, restless_controller, island_at_its_limit,
        nobody_answers_yet, back_from_black,
    )
}  # fmt: skip


def found(name: str) -> list[str]:
    """Oracles that did not hold in a probe."""
    return sorted({v.oracle for v in PROBES[name]().violations})


def told(name: str) -> str:
    """What the edge's own invariants say in a probe; empty where they say nothing."""
    rig = PROBES[name]()
    rang = [a.text for row in rig.log for a in row.decisions.alarms if a.code == "edge.invariant"]
    return str(rig.broken) if isinstance(rig.broken, InvariantBroken) else " ".join(rang[:1])


def blind_edge() -> None:
    """Without the edge's own invariants: they would stop what the oracles are to see."""
    InvariantsNow.admitted = lambda self, snapshot: snapshot  # type: ignore[method-assign]
    InvariantsNow.decided = lambda self, c: None  # type: ignore[method-assign]
    InvariantsNow.writing = lambda self, command, device: None  # type: ignore[method-assign]
    InvariantsNow.sent = lambda self: None  # type: ignore[method-assign]


if __name__ == "__main__":
    own = told(sys.argv[1])
    blind_edge()
    print(json.dumps({"oracles": found(sys.argv[1]), "own": own}))
