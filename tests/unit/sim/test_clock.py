"""Lock-step time: order, determinism, participants that die, come back or stall."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from sim.clock import ClockStoppedError, LockstepClock, TimeKeeper
from tests.builders import T0

PHASES = {"plant": 0, "edge": 1, "planner": 2}


async def walker(port: int, name: str, step_s: float, seen: list[tuple[str, float]]) -> None:
    clock = await LockstepClock.connect(port, name, PHASES[name])
    try:
        while True:
            await clock.sleep_until(clock.monotonic_s() + step_s)
            seen.append((name, clock.monotonic_s()))
    except ClockStoppedError:
        pass
    finally:
        await clock.close()


async def test_keeper_three_walkers_wakes_them_by_time_then_phase():
    seen: list[tuple[str, float]] = []
    keeper = TimeKeeper(T0, end_s=60.0, expected=("planner", "plant", "edge"))
    port = await keeper.open()
    tasks = [
        asyncio.create_task(walker(port, name, step, seen))
        for name, step in (("planner", 30.0), ("edge", 10.0), ("plant", 5.0))
    ]
    stats = await keeper.run()
    await asyncio.gather(*tasks)

    steps = {"plant": 5, "edge": 10, "planner": 30}
    wanted = sorted((t, PHASES[n], n) for n, step in steps.items() for t in range(step, 61, step))
    assert [(n, t) for t, _, n in wanted] == seen
    assert stats.now_s == 60.0
    assert stats.dropped == ()


async def test_keeper_follower_is_moved_first_whoever_asked_for_the_time():
    order: list[tuple[str, float]] = []
    keeper = TimeKeeper(T0, end_s=20.0, expected=("plant", "edge"))
    port = await keeper.open()

    async def plant() -> None:
        clock = await LockstepClock.connect(port, "plant", 0, follow=True)
        with contextlib.suppress(ClockStoppedError):
            while True:
                order.append(("plant", await clock.follow(clock.monotonic_s() + 100.0)))
        await clock.close()

    tasks = [asyncio.create_task(plant()), asyncio.create_task(walker(port, "edge", 10.0, order))]
    await keeper.run()
    await asyncio.gather(*tasks)
    assert order == [("plant", 10.0), ("edge", 10.0), ("plant", 20.0), ("edge", 20.0)]


async def test_keeper_participant_dies_time_goes_on_without_it():
    seen: list[tuple[str, float]] = []
    keeper = TimeKeeper(T0, end_s=50.0, expected=("edge", "planner"))
    port = await keeper.open()

    async def mortal() -> None:
        clock = await LockstepClock.connect(port, "planner", 2)
        await clock.sleep_until(20.0)
        await clock.close()

    tasks = [asyncio.create_task(mortal()), asyncio.create_task(walker(port, "edge", 10.0, seen))]
    stats = await keeper.run()
    await asyncio.gather(*tasks)
    assert stats.dropped == ("planner",)
    assert [t for _, t in seen] == [10.0, 20.0, 30.0, 40.0, 50.0]


async def test_keeper_expected_participant_is_admitted_at_exactly_its_time():
    """Story: the planner of a demo is killed and started again. However long the machine takes to restart it,
    it rejoins at the stated plant time, so that the run can be repeated.
    """
    joined: list[float] = []
    seen: list[tuple[str, float]] = []
    keeper = TimeKeeper(T0, end_s=100.0, expected=("edge",))
    port = await keeper.open()

    async def late() -> None:
        await asyncio.sleep(0.1)  # time has long reached 60 s and waits there
        clock = await LockstepClock.connect(port, "planner", 2)
        joined.append(clock.monotonic_s())
        with pytest.raises(ClockStoppedError):
            await clock.sleep_until(1000.0)
        await clock.close()

    keeper.expect("planner", 60.0)
    tasks = [asyncio.create_task(late()), asyncio.create_task(walker(port, "edge", 10.0, seen))]
    await keeper.run()
    await asyncio.gather(*tasks)
    assert joined == [60.0]
    assert len(seen) == 10


async def test_keeper_early_participant_waits_for_its_admission():
    joined: list[float] = []
    keeper = TimeKeeper(T0, end_s=100.0, expected=("edge",))
    keeper.expect("planner", 70.0)
    port = await keeper.open()

    async def early() -> None:
        clock = await LockstepClock.connect(port, "planner", 2)
        joined.append(clock.monotonic_s())
        await clock.close()

    task = asyncio.create_task(early())
    await asyncio.sleep(0.02)
    seen: list[tuple[str, float]] = []
    edge = asyncio.create_task(walker(port, "edge", 10.0, seen))
    await keeper.run()
    await asyncio.gather(task, edge)
    assert joined == [70.0]


async def test_keeper_slow_participant_time_waits_for_it():
    at: list[float] = []
    keeper = TimeKeeper(T0, end_s=40.0, expected=("planner", "edge"))
    port = await keeper.open()

    async def slow_planner() -> None:
        """A solve of 50 ms wall time with an allowance of 20 s: published at 20 s, whatever the machine."""
        clock = await LockstepClock.connect(port, "planner", 2)
        solve = asyncio.create_task(asyncio.sleep(0.05))
        await clock.sleep_until(20.0)
        await solve
        at.append(clock.monotonic_s())
        with pytest.raises(ClockStoppedError):
            await clock.sleep_until(1000.0)
        await clock.close()

    seen: list[tuple[str, float]] = []
    tasks = [asyncio.create_task(slow_planner()), asyncio.create_task(walker(port, "edge", 10.0, seen))]
    await keeper.run()
    await asyncio.gather(*tasks)
    assert at == [20.0]
    assert [t for _, t in seen] == [10.0, 20.0, 30.0, 40.0]


async def test_keeper_stalled_participant_is_dropped_and_counted():
    keeper = TimeKeeper(T0, end_s=30.0, expected=("edge", "planner"), stall_s_max=0.05)
    port = await keeper.open()

    async def frozen() -> None:
        clock = await LockstepClock.connect(port, "planner", 2)
        await clock.sleep_until(10.0)
        await asyncio.sleep(0.5)  # as after SIGSTOP
        await clock.close()

    seen: list[tuple[str, float]] = []
    tasks = [asyncio.create_task(frozen()), asyncio.create_task(walker(port, "edge", 10.0, seen))]
    stats = await keeper.run()
    await asyncio.gather(*tasks)
    assert stats.stalled == ("planner",)
    assert len(seen) == 3


async def test_keeper_paused_time_stands_still():
    seen: list[tuple[str, float]] = []
    times: list[float] = []
    keeper = TimeKeeper(T0, end_s=100.0, expected=("edge",), progress=times.append)
    port = await keeper.open()
    keeper.pause()
    edge = asyncio.create_task(walker(port, "edge", 10.0, seen))
    run = asyncio.create_task(keeper.run())
    await asyncio.sleep(0.05)
    assert seen == []
    keeper.resume()
    await run
    await edge
    assert len(seen) == 10
    assert times[-1] == 100.0


async def test_keeper_stop_wakes_everybody_with_the_reason():
    keeper = TimeKeeper(T0, expected=("edge",))
    port = await keeper.open()
    run = asyncio.create_task(keeper.run())
    clock = await LockstepClock.connect(port, "edge", 1)
    keeper.expect("somebody", 0.0)  # time cannot move
    waiting = asyncio.create_task(clock.sleep_until(10.0))
    await asyncio.sleep(0.02)
    keeper.stop("enough")
    with pytest.raises(ClockStoppedError, match="enough"):
        await waiting
    assert clock.stopped
    with pytest.raises(ClockStoppedError):
        await clock.sleep_until(20.0)
    await run
    await clock.close()


async def test_clock_keeper_dies_waiters_are_told():
    keeper = TimeKeeper(T0, expected=("edge", "nobody"))
    port = await keeper.open()
    run = asyncio.create_task(keeper.run())
    clock = await LockstepClock.connect(port, "edge", 1)
    waiting = asyncio.create_task(clock.sleep_until(10.0))
    await asyncio.sleep(0.02)
    run.cancel()
    with pytest.raises(ClockStoppedError):
        await waiting
    await clock.close()


async def test_clock_two_tasks_of_one_process_both_wake_on_time():
    woken: list[tuple[str, float]] = []
    keeper = TimeKeeper(T0, end_s=50.0, expected=("edge",))
    port = await keeper.open()
    clock_task = asyncio.create_task(LockstepClock.connect(port, "edge", 1))
    run = asyncio.create_task(keeper.run())
    clock = await clock_task

    async def ticker(name: str, step_s: float) -> None:
        while True:
            await clock.sleep_until(clock.monotonic_s() + step_s)
            woken.append((name, clock.monotonic_s()))

    group = asyncio.gather(ticker("fast", 10.0), ticker("slow", 25.0), return_exceptions=True)
    results = await group
    await run
    assert all(isinstance(r, ClockStoppedError) for r in results)
    assert [t for n, t in woken if n == "fast"] == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert [t for n, t in woken if n == "slow"] == [25.0, 50.0]
    await clock.close()


async def test_clock_before_wait_runs_before_the_keeper_hears_of_it():
    flushed: list[float] = []
    keeper = TimeKeeper(T0, end_s=20.0, expected=("edge",))
    port = await keeper.open()
    run = asyncio.create_task(keeper.run())
    clock = await LockstepClock.connect(port, "edge", 1)

    async def flush() -> None:
        flushed.append(clock.monotonic_s())

    clock.before_wait = flush
    await clock.sleep_until(10.0)
    await clock.sleep_until(20.0)
    assert flushed == [0.0, 10.0]
    assert clock.now() == T0 + timedelta(seconds=20.0)
    await clock.close()
    await run


async def test_clock_time_in_the_past_does_not_wait():
    keeper = TimeKeeper(T0, end_s=20.0, expected=("edge",))
    port = await keeper.open()
    run = asyncio.create_task(keeper.run())
    clock = await LockstepClock.connect(port, "edge", 1)
    await clock.sleep_until(10.0)
    await clock.sleep_until(10.0)
    await clock.sleep_until(5.0)
    assert clock.monotonic_s() == 10.0
    await clock.close()
    keeper.stop()
    await run


async def test_connect_nobody_listens_raises():
    keeper = TimeKeeper(T0)
    port = await keeper.open()
    keeper.stop()
    await keeper.run()
    with pytest.raises(ConnectionError):
        await LockstepClock.connect(port, "edge", 1)
