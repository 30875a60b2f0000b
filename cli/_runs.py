"""Runs of a study, one after the other or in processes side by side, with progress, Ctrl-C and resuming."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ems.errors import DataError
from sim.harness import SimulateOptions, StoppedError, simulate
from sim.result import RunResult, load_result, save_result
from sim.scenario import Scenario

LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One controller on one scenario; `folder` is where its result goes, if anywhere."""

    scenario: Scenario
    controller: str
    options: SimulateOptions
    folder: Path | None = None
    resume: bool = False

    @property
    def name(self) -> str:
        """For the progress bar."""
        return f"{self.controller}, seed {self.scenario.seed}"


@dataclass(slots=True)
class Stop:
    """Set by Ctrl-C; runs in this process look at it."""

    asked: bool = False


def run_jobs(jobs: Sequence[Job], console: Console, *, workers: int) -> list[RunResult] | None:
    """Results in the order of the jobs, or None when Ctrl-C ended them (checkpoints are written)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, _interrupts() as stop:
        bars = [progress.add_task(job.name, total=job.scenario.duration_s) for job in jobs]
        done = {i: r for i, job in enumerate(jobs) if (r := finished(job)) is not None}
        for i in done:
            progress.update(bars[i], completed=jobs[i].scenario.duration_s)
        todo = [i for i in range(len(jobs)) if i not in done]
        try:
            if workers <= 1 or len(todo) <= 1:
                for i in todo:
                    done[i] = run_job(jobs[i], _bar(progress, bars[i]), stop)
            else:
                done |= _side_by_side(jobs, todo, progress, bars, stop, workers)
        except StoppedError:
            return None
    return [done[i] for i in range(len(jobs))]


def finished(job: Job) -> RunResult | None:
    """The result of a job that an earlier start has finished, where resuming was asked for."""
    if not job.resume or job.folder is None or not (job.folder / "result.json").is_file():
        return None
    result = load_result(job.folder)
    s = job.scenario
    if (result.site, result.start, result.end, result.seed) != (s.site.name, s.start, s.end, s.seed):
        raise DataError(
            f"{job.folder} holds a run of {result.site} from {result.start} with seed {result.seed}; "
            "name another folder or leave --resume out"
        )
    return result


class _Told:
    """Progress of a run in this process."""

    def __init__(self, progress: Progress, bar: int) -> None:
        self._progress, self._bar = progress, bar

    def __call__(self, t_s: float) -> None:
        self._progress.update(self._bar, completed=t_s)  # type: ignore[arg-type]


def _bar(progress: Progress, bar: int) -> _Told:
    return _Told(progress, bar)


def run_job(job: Job, told: "_Told | _Shared", stop: "Stop | Event") -> RunResult:
    """Run one job in this process and store its result.

    Raises
    ------
    StoppedError : it was asked to stop; its checkpoint is written.
    """

    def stopping() -> bool:
        return stop.asked if isinstance(stop, Stop) else stop.is_set()

    options = job.options
    if job.folder is not None:
        options = replace(options, checkpoint=job.folder / "checkpoint", resume=job.resume)
    result = simulate(job.scenario, job.controller, options=options, progress=told, stop=stopping)
    if job.folder is not None:
        save_result(job.folder, result)
        (job.folder / "checkpoint").unlink(missing_ok=True)
    return result


@contextlib.contextmanager
def _interrupts() -> Iterator[Stop]:
    """The first Ctrl-C lets runs stop between two cycles; the second one is Python's own."""
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


# ---- in processes of their own ------------------------------------------------------------------

_progress_of_all: "SynchronizedArray[float] | None" = None
_stop_of_all: Event | None = None


class _Shared:
    """Progress of a run in a worker process."""

    def __init__(self, times_s: "SynchronizedArray[float]", index: int) -> None:
        self._times_s, self._index = times_s, index

    def __call__(self, t_s: float) -> None:
        self._times_s[self._index] = t_s


def _begin(times_s: "SynchronizedArray[float]", stop: Event) -> None:
    global _progress_of_all, _stop_of_all
    _progress_of_all, _stop_of_all = times_s, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(index: int, job: Job) -> RunResult:
    assert _progress_of_all is not None
    assert _stop_of_all is not None
    return run_job(job, _Shared(_progress_of_all, index), _stop_of_all)


def _side_by_side(
    jobs: Sequence[Job],
    todo: Sequence[int],
    progress: Progress,
    bars: Sequence[int],
    stop: Stop,
    workers: int,
) -> dict[int, RunResult]:
    context = get_context("spawn")
    times_s: SynchronizedArray[float] = context.Array("d", len(jobs))
    halt = context.Event()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(times_s, halt)
    ) as pool:
        futures: dict[Future[RunResult], int] = {pool.submit(_work, i, jobs[i]): i for i in todo}
        left = set(futures)
        while left:
            _, left = wait(left, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            for i in todo:
                progress.update(bars[i], completed=times_s[i])  # type: ignore[arg-type]
            if stop.asked and not halt.is_set():
                halt.set()
                for future in left:
                    future.cancel()
                raise_stopped(futures)
        return {i: future.result() for future, i in futures.items()}


def raise_stopped(futures: "dict[Future[RunResult], int]") -> None:
    """Wait until the running ones have written their checkpoints, then say that they were stopped."""
    wait([f for f in futures if not f.cancelled()])
    raise StoppedError("stopped")
