"""How a process ends: SIGTERM or SIGINT cancels its main task, and what it owns is left whole."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine

from cli import logs
from ems.errors import EmsError
from sim.clock import ClockStoppedError


def run_until_stopped(main: Coroutine[object, object, None]) -> None:
    """Run to the end, to a signal or to the end of plant time; an EmsError ends the process with status 2."""
    logs.configure()
    try:
        asyncio.run(_cancel_on_signal(main))
    except ClockStoppedError:
        return
    except EmsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


async def _cancel_on_signal(main: Coroutine[object, object, None]) -> None:
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
