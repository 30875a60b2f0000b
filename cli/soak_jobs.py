"""Episodes one after the other or in processes side by side, with progress, Ctrl-C and resuming."""

import gc
import json
import platform
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ems.errors import DataError
from ems.site import GridMode, Site
from ems.site_schema import load_site
from sim.episodes import EpisodeOptions, EpisodeResult, episode_of, run_episode
from sim.faults import CATALOGUE

Settled = Callable[[], frozenset[str]]

EVERY_PAIR = frozenset(f"{name}|{mode}" for name in CATALOGUE for mode in GridMode)
LOOK_S = 0.5
FILE = "episodes.jsonl"
PYTHON = ".".join(platform.python_version_tuple()[:2])
GARBAGE = (50_000, 20, 100)  # a tick makes many objects and hardly a cycle of them: a quarter of the time


class _Stop:
    asked = False


def run_all(  # noqa: PLR0913  everything that a run is made of
    site_file: Path,
    seeds: Iterable[int],
    options: EpisodeOptions,
    console: Console,
    *,
    workers: int,
    out: Path | None,
    resume: bool,
    times: int = 0,
    counted: Sequence[EpisodeResult] = (),
) -> tuple[list[EpisodeResult], bool]:
    """(results in the order of the seeds, whether all of them ran).

    Parameters
    ----------
    times : a fault that mattered so often in a grid mode has no twin there any more; 0: it always has one.
    counted : of another soak: how often a fault mattered there counts too.
    """
    wanted = list(seeds)
    known = {} if out is None else _stored(out, options, resume)
    done: dict[int, EpisodeResult] = {s: known[s] for s in wanted if s in known}
    settled = partial(_settled, counted, done, times)
    for result in _shown(site_file, wanted, done, options, console, settled, workers):
        if out is not None:
            _store(out, options, result)
    return [done[s] for s in wanted if s in done], len(done) == len(wanted)


def again(
    site_file: Path, options: EpisodeOptions, console: Console, *, workers: int, out: Path, count: int
) -> tuple[list[EpisodeResult], list[EpisodeResult], bool]:
    """(stored episodes, the same run anew without twins, whether all of them ran).

    Parameters
    ----------
    count : how many of the stored ones, spread evenly over their seeds.

    Raises
    ------
    DataError : the folder holds none, or episodes of other options.
    """
    known = _stored(out, options, resume=True)
    if not known:
        raise _nothing(out)
    seeds = sorted(known)
    few = min(count, len(seeds))
    wanted = [seeds[k * len(seeds) // few] for k in range(few)]
    done: dict[int, EpisodeResult] = {}
    for _ in _shown(site_file, wanted, done, options, console, lambda: EVERY_PAIR, workers):
        pass
    found = [s for s in wanted if s in done]
    return [known[s] for s in found], [done[s] for s in found], len(found) == len(wanted)


def _shown(
    site_file: Path,
    wanted: list[int],
    done: dict[int, EpisodeResult],
    options: EpisodeOptions,
    console: Console,
    settled: Settled,
    workers: int,
) -> Iterator[EpisodeResult]:
    """Run what is not done yet, with progress; each result is in `done` when it comes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, _interrupts() as stop:
        bar = progress.add_task("episodes", total=len(wanted), completed=len(done))
        todo = [s for s in wanted if s not in done]
        results = _alone(site_file, todo, options, stop, settled) if workers <= 1 else _side_by_side(
            site_file, todo, options, stop, settled, workers
        )  # fmt: skip
        for result in results:
            done[result.seed] = result
            found = sum(len(r.violations) for r in done.values())
            progress.update(bar, advance=1, description=f"episodes, {found} violations")
            yield result


def _settled(counted: Sequence[EpisodeResult], done: dict[int, EpisodeResult], times: int) -> frozenset[str]:
    mattered = Counter[str]()
    for result in (*counted, *done.values()):
        mattered.update(result.mattered)
    return frozenset(key for key, count in mattered.items() if 0 < times <= count)


def _alone(
    site_file: Path, todo: list[int], options: EpisodeOptions, stop: _Stop, settled: Settled
) -> Iterator[EpisodeResult]:
    base = load_site(site_file)
    gc.set_threshold(*GARBAGE)
    for seed in todo:
        result = run_episode(episode_of(base, seed, options), settled=settled(), stop=lambda: stop.asked)
        gc.collect()
        if result is None:
            return
        yield result


# ---- in processes of their own ------------------------------------------------------------------

_base: Site | None = None
_halt: Event | None = None


def _begin(site_file: Path, halt: Event) -> None:
    global _base, _halt
    _base, _halt = load_site(site_file), halt
    gc.set_threshold(*GARBAGE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(seed: int, options: EpisodeOptions, settled: frozenset[str]) -> EpisodeResult | None:
    assert _base is not None
    assert _halt is not None
    result = run_episode(episode_of(_base, seed, options), settled=settled, stop=_halt.is_set)
    gc.collect()
    return result


def _side_by_side(
    site_file: Path, todo: list[int], options: EpisodeOptions, stop: _Stop, settled: Settled, workers: int
) -> Iterator[EpisodeResult]:
    context = get_context("spawn")
    halt = context.Event()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(site_file, halt)
    ) as pool:
        seeds = iter(todo)
        left: set[Future[EpisodeResult | None]] = set()
        while True:
            wanted = 0 if stop.asked else workers - len(left)
            left |= {pool.submit(_work, s, options, settled()) for s in islice(seeds, wanted)}
            if not left:
                return
            over, left = wait(left, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            for future in over:
                result = future.result()
                if result is not None:
                    yield result
            if stop.asked and not halt.is_set():
                halt.set()


@contextmanager
def _interrupts() -> Iterator[_Stop]:
    """The first Ctrl-C ends the episodes that run; the second one is Python's own."""
    stop, before = _Stop(), signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


# ---- what is kept -------------------------------------------------------------------------------


def _store(out: Path, options: EpisodeOptions, result: EpisodeResult) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / FILE).open("a") as file:
        row = {"python": PYTHON, "options": asdict(options), "result": asdict(result)}
        file.write(json.dumps(row) + "\n")


def stored(out: Path) -> list[EpisodeResult]:
    """Finished episodes of a folder, whatever their options.

    Raises
    ------
    DataError : the folder holds none.
    """
    rows = _rows(out / FILE)
    if not rows:
        raise _nothing(out)
    return [_result(row) for row in rows]


def _stored(out: Path, options: EpisodeOptions, resume: bool) -> dict[int, EpisodeResult]:
    """Finished episodes by seed.

    Raises
    ------
    DataError : the folder holds episodes of other options or another Python, or some while resuming was not
        asked for.
    """
    path = out / FILE
    rows = _rows(path)
    if rows and not resume:
        raise DataError(f"{path} holds episodes; name another folder, or go on with --resume")
    results: dict[int, EpisodeResult] = {}
    for row in rows:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row["options"].items()}
        found = EpisodeOptions(**given)
        if found != options:
            raise DataError(f"{path} holds episodes of {asdict(found)}, asked for {asdict(options)}")
        if (python := row.get("python", "unknown")) != PYTHON:
            raise DataError(
                f"{path} holds episodes of Python {python}; allowed: those of {PYTHON}, which runs now: "
                "another may add floats up more exactly, and the hashes of its logs differ"
            )
        result = _result(row)
        results[result.seed] = result
    return results


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _result(row: dict[str, Any]) -> EpisodeResult:
    found = EpisodeResult(**row["result"])
    found.violations = [(float(t_s), oracle, what) for t_s, oracle, what in found.violations]
    return found


def _nothing(out: Path) -> DataError:
    return DataError(f"{out / FILE}: found no episodes; allowed: the folder of a soak that ran")
