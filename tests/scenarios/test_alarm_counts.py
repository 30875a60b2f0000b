"""How many alarms an operator hears: of a black-out, a flicker, a flapping device. Causes ring alone."""

import pytest

from ems.alarm_rates import alarm_rates
from sim.faults import Fault
from sim.rig import Rig, RigOptions

LOAD_KW = {"critical": 120.0, "essential": 200.0, "deferrable": 120.0}
TEN_MIN_S = 600.0
AT_S = 60.0
UNJUDGED = RigOptions(
    judge=False
)  # the plant is dead, or its instruments are: the oracles are of other tests


def rang(rig: Rig) -> list[str]:
    """Keys in the order in which they rang."""
    return [str(e.fields["key"]) for e in rig.journal.events if e.fields.get("annunciated") is True]


def suppressed(rig: Rig) -> set[object]:
    return {f["key"] for f in rig.events("alarm.suppressed")}


def test_black_out_at_most_ten_alarms_in_ten_minutes_and_each_root_is_one_of_them(demo):
    """Mains lost, battery trips, no set starts: four roots ring, what follows from the dead bus does not."""
    faults = [
        Fault(kind="bess_trips", target="bess1", from_s=AT_S),
        *(Fault(kind="genset_start_fails", target=g.id) for g in demo.gensets),
    ]
    rig = Rig(demo, load_kw=LOAD_KW, mains=[(AT_S, 2000.0)], faults=faults, options=UNJUDGED)
    rig.run(AT_S + TEN_MIN_S)
    heard = rang(rig)
    assert len(heard) <= 10
    assert {"bus.dead", "bess.unavailable.bess1"} <= set(heard)
    assert {"feeder.shed.essential", "feeder.shed.deferrable"} <= suppressed(rig)
    assert not {k for k in heard if k.startswith("feeder.")}
    rates = alarm_rates(rig.journal.events, rig.clock.now().replace(hour=0), rig.clock.now())
    assert rates.peak_10_min == len(heard)
    assert rates.floods == ()


def test_black_out_without_any_communication_at_most_ten_alarms_in_ten_minutes(demo):
    silent = [Fault(kind="device_silent", target=a, from_s=AT_S + 2.0) for a in demo.asset_kinds()]
    rig = Rig(demo, load_kw=LOAD_KW, mains=[(AT_S, 2000.0)], faults=silent, options=UNJUDGED)
    rig.run(AT_S + TEN_MIN_S)
    heard = rang(rig)
    assert len(heard) <= 10
    assert "comms.lost" in heard
    assert not {k for k in heard if k.startswith(("device.silent", "grid.device.silent", "genset.", "bess."))}


@pytest.mark.scenario(3)
def test_flicker_a_hundred_times_is_at_most_one_alarm(demo):
    mains = [(AT_S + 20.0 * i, AT_S + 20.0 * i + 1.0) for i in range(100)]
    rig = Rig(demo, load_kw=LOAD_KW, mains=mains, options=RigOptions(judge=False, keep=10))
    rig.run(AT_S + 2020.0)
    assert len(rang(rig)) <= 1


@pytest.mark.scenario(31)
@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("gen1", "device.silent.gen1_controller"),
        ("pv1", "device.silent.pv_controller"),
        ("grid1", "grid.device.silent.grid_meter"),
    ],
)
def test_device_flapping_a_hundred_times_is_one_alarm_that_counts(demo, target, key):
    flaps = Fault(kind="device_flapping", target=target, from_s=AT_S, until_s=AT_S + 600.0)
    rig = Rig(demo, load_kw=LOAD_KW, pv_kw=100.0, faults=[flaps], options=RigOptions(judge=False, keep=10))
    rig.run(AT_S + 630.0)
    assert rang(rig) == [key]
    (entry,) = [e for e in rig.last.decisions.alarm_book.entries if e.key == key]
    assert entry.activations == 100


@pytest.mark.scenario(28)
@pytest.mark.parametrize("kind", ["device_silent", "reading_bad"], ids=["gateway alone answers", "busy"])
@pytest.mark.parametrize(
    ("target", "keys"),
    [
        ("gen1", {"device.silent.gen1_controller"}),
        ("pv1", {"device.silent.pv_controller"}),
        ("grid1", {"grid.device.silent.grid_meter"}),
        ("bess1", {"device.silent.pcs", "reserve.short"}),  # what the plant lacks by it is another matter
    ],
)
def test_device_behind_a_gateway_or_busy_is_one_alarm(demo, kind, target, keys):
    fault = Fault(kind=kind, target=target, from_s=AT_S, until_s=AT_S + 60.0)
    rig = Rig(demo, load_kw=LOAD_KW, pv_kw=100.0, faults=[fault], options=RigOptions(judge=False, keep=10))
    rig.run(AT_S + 90.0)
    assert sorted(rang(rig)) == sorted(keys)
