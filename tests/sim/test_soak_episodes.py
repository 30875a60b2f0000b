"""Seeded episodes of random faults: a fixed sample in every run, a thousand and thirty days in a soak."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from cli.soak_jobs import run_all
from cli.soak_table import print_table, short_of
from ems.site_schema import load_site
from sim.episodes import EpisodeOptions, EpisodeResult, episode_of, run_episode

SITE = Path(__file__).resolve().parents[2] / "sites" / "demo" / "site.yaml"
SAMPLE = (0, 4, 7, 11, 14, 19)
EPISODES, DAYS = 1000, 30
BATCH, BATCHES_MAX = 50, 12  # of episodes aimed at what mattered too seldom in the others
DAY = EpisodeOptions(length_s=86400.0)
TIMES_MIN = 30
RSS_RATIO_MAX = 1.01  # growth in a day


def soak(
    seeds: Sequence[int], options: EpisodeOptions, counted: Sequence[EpisodeResult] = ()
) -> list[EpisodeResult]:
    console = Console(width=140)
    done, whole = run_all(
        SITE, seeds, options, console, workers=os.cpu_count() or 1, out=None, resume=False, times=TIMES_MIN,
        counted=counted,
    )  # fmt: skip
    print_table(console, done, options, replay="ems soak demo --replay")
    assert whole
    return done


@pytest.mark.parametrize("seed", SAMPLE)
def test_episode_of_the_sample_holds_every_oracle(seed: int):
    result = run_episode(episode_of(load_site(SITE), seed, EpisodeOptions(length_s=900.0)))
    assert result is not None
    assert result.violations == [], f"ems soak demo --length 15min --replay {seed}"


@pytest.mark.soak
@pytest.mark.scenario(68, left="it runs in `make soak` alone")
def test_thousand_episodes_hold_every_oracle_and_try_every_fault():
    done = soak(range(EPISODES), EpisodeOptions())
    for k in range(BATCHES_MAX):
        if not (short := short_of(done, TIMES_MIN)):
            break
        aims, first = EpisodeOptions(aims=tuple(short)), EPISODES + k * BATCH
        done += soak(range(first, first + BATCH), aims, done)
    assert [(r.seed, r.violations[0]) for r in done if r.violations] == []
    assert short_of(done, TIMES_MIN) == {}


@pytest.mark.soak
@pytest.mark.scenario(68, left="it runs in `make soak` alone")
def test_thirty_days_hold_every_oracle_and_grow_by_nothing():
    """In one process, so that what leaks is seen: memory after each day, and open files."""
    base = load_site(SITE)
    rss, files = [], []
    for seed in range(DAYS):
        result = run_episode(episode_of(base, seed, DAY), twins=False)
        assert result is not None
        assert result.violations == [], f"ems soak demo --days --replay {seed}"
        rss.append(int(Path("/proc/self/statm").read_text().split()[1]))
        files.append(len(list(Path("/proc/self/fd").iterdir())))
    settled = len(rss) // 3  # allocator and caches have found their size
    assert rss[-1] <= rss[settled] * RSS_RATIO_MAX ** (len(rss) - settled)
    assert files[-1] <= files[settled]
