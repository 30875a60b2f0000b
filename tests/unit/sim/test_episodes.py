"""Episodes: drawn from the seed alone, on plants that hold together, with twins that find what mattered."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dispatch.cycle import tick
from dispatch.layout import layout_of
from ems.site import GridMode, Site
from ems.site_schema import load_site
from sim.episodes import EpisodeOptions, episode_of, run_episode
from sim.episodes.draw import aims_of, blackout
from sim.episodes.run import rig_of
from sim.episodes.sites import random_site
from sim.faults import CATALOGUE, Fault
from sim.faults.draw import targets_of
from sim.rig import Rig, RigOptions
from sim.rig_fork import differs, fork

SHORT = EpisodeOptions(length_s=450.0)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def base() -> Site:
    return load_site(ROOT / "sites" / "demo" / "site.yaml")


def test_random_site_every_point_setpoint_and_former_is_of_an_asset_it_has(base: Site):
    counts = set()
    for seed in range(60):
        site = random_site(base, np.random.default_rng(seed))
        kinds = site.asset_kinds()
        points = [m.point for c in site.connections for m in c.points]
        assert len(points) == len(set(points))
        assert {p.partition(".")[0] for p in (*points, *site.authority.setpoints)} <= set(kinds)
        assert set(site.forming.islanded) == {b.id for b in site.bess} | {g.id for g in site.gensets}
        assert set(site.hierarchy.subsystem_of) >= set(kinds) - {"bus"}
        assert len({(c.host, c.port) for c in site.connections}) == len(site.connections)
        assert set(layout_of(site).setpoint_of.values()) == set(site.authority.setpoints)
        for a in site.authority.setpoints.values():
            for value in (a.safety.grid_tied, a.safety.islanded, a.safety.black, a.safety.behaviour.value):
                assert value is None or a.low <= value <= a.high
        counts.add((len(site.bess), len(site.gensets), len(site.pv)))
    assert {b for b, _, _ in counts} == {0, 1, 2}
    assert {g for _, g, _ in counts} == {0, 1, 2, 3}
    assert {p for _, _, p in counts} == {0, 1}


def test_episode_aims_at_what_it_is_told_to_as_often_as_it_stands_there(base: Site):
    aims = ("write_lost|black", "plan_nan|grid_tied", "write_lost|black")
    episode = episode_of(base, 3, EpisodeOptions(length_s=2700.0, aims=aims))
    assert [f"{name}|{mode}" for name, mode in episode.aims] == list(aims)
    assert episode.mains == ((0.0, 900.0), (1800.0, 2700.0))
    assert episode.controller == "mpc"


def test_episode_has_two_overlapping_faults_in_each_slot_beside_the_blackout(base: Site):
    for seed in range(20):
        episode = episode_of(base, seed)
        prelude = {f for k in range(8) for f in blackout(episode.site, 900.0 * k, 900.0 * (k + 1))}
        drawn = [f for f in episode.faults if f not in prelude]
        alone = [f for f in drawn if not any(_overlap(f, g) for g in episode.faults if g is not f)]
        assert len(drawn) >= 8
        assert not alone


def _overlap(a: Fault, b: Fault) -> bool:
    return a.from_s < b.until_s and b.from_s < a.until_s


def test_episodes_walk_through_every_fault_in_every_mode_it_means_something_in(base: Site):
    wanted = {(e.name, m) for e, m in aims_of(list(CATALOGUE.values()))}
    seen = {aim for seed in range(20) for aim in episode_of(base, seed).aims}
    assert seen == wanted


def test_episode_same_seed_in_another_process_has_the_same_log(base: Site):
    """Byte-equal across processes: nothing hangs on hash seeds, addresses or the order of dictionaries."""
    code = (
        "from ems.site_schema import load_site\n"
        "from sim.episodes import EpisodeOptions, episode_of, run_episode\n"
        "e = episode_of(load_site('sites/demo/site.yaml'), 5, EpisodeOptions(length_s=450.0))\n"
        "print(run_episode(e, twins=False).digest)\n"
    )
    here = run_episode(episode_of(base, 5, SHORT), twins=False)
    again = run_episode(episode_of(base, 5, SHORT), twins=True)
    assert here is not None
    assert again is not None
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert here.digest == again.digest == there.stdout.strip()


def test_fork_twin_with_the_same_faults_goes_the_same_way(base: Site):
    episode = episode_of(base, 5, SHORT)
    rig = rig_of(episode).run(300.0, judge=False)
    twin = fork(rig, Fault(kind="mains_lost", from_s=1e9))
    for _ in range(200):
        rig.step()
        twin.step()
        assert not differs(rig.last, twin.last), rig.t_s


def test_fork_without_a_fault_shows_what_it_changed(base: Site):
    fault = Fault(kind="bess_trips", target="bess1", from_s=30.0)
    rig = Rig(base, faults=[fault], options=RigOptions(keep=10)).run(30.0)
    twin = fork(rig, fault)
    for _ in range(3):
        rig.step()
        twin.step()
    assert differs(rig.last, twin.last)
    assert twin.last.flows.bess_state["bess1"] != rig.last.flows.bess_state["bess1"]


def test_fork_thinks_for_itself_only_from_where_it_sees_something_else(
    base: Site, monkeypatch: pytest.MonkeyPatch
):
    fault = Fault(kind="device_silent", target="pv1", from_s=30.0, until_s=90.0)
    later = Fault(kind="bess_trips", target="bess1", from_s=25.0)
    rig = Rig(base, faults=[fault, later], options=RigOptions(keep=10)).run(20.0)
    twin = fork(rig, fault)
    asked: list[float] = []

    def counted(setup, state, given):
        asked.append(given.snapshot.monotonic_s)
        return tick(setup, state, given)

    monkeypatch.setattr("dispatch.supervision.mind.tick", counted)
    while rig.t_s < 35.0:
        rig.step()
        twin.step()
    assert asked == [*range(20, 31), *(t for t in range(31, 35) for _ in range(2))]
    assert rig.last.snapshot.value("pv1.p_kw") is None
    assert twin.last.snapshot.value("pv1.p_kw") is not None


def test_run_episode_counts_what_was_injected_and_what_mattered(base: Site):
    result = run_episode(episode_of(base, 3, SHORT))
    assert result is not None
    assert result.ticks == 450
    assert sum(result.injected.values()) == len(episode_of(base, 3, SHORT).faults)
    assert result.compared == result.injected
    assert set(result.mattered) <= set(result.injected)
    some, *others = result.injected
    less = run_episode(episode_of(base, 3, SHORT), settled=[some])
    assert less is not None
    assert less.injected == result.injected
    assert less.compared == {key: result.compared[key] for key in others}
    assert less.mattered == {key: n for key, n in result.mattered.items() if key != some}
    assert result.evaluations["I12"] == 450


def test_run_episode_stops_when_asked(base: Site):
    assert run_episode(episode_of(base, 3, SHORT), stop=lambda: True) is None


def test_blackout_leaves_no_source(base: Site):
    faults = blackout(base, 60.0, 600.0)
    rig = Rig(base, mains=[(60.0, 600.0)], faults=faults, options=RigOptions(keep=5)).run(400.0, judge=False)
    assert rig.last.flows.forming is None
    assert rig.last.decisions.mode is GridMode.BLACK


def test_targets_of_every_entry_are_on_the_site(base: Site):
    points = {m.point for c in base.connections for m in c.points} | set(base.authority.setpoints)
    for entry in CATALOGUE.values():
        for target in targets_of(entry, base):
            assert target == "" or target in base.asset_kinds() or target in points, (entry.name, target)
