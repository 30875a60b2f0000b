"""Plans are explained beside planning: one process for one plan at a time, and only the newest waits."""

import asyncio
import contextlib
import pickle
import sys
from dataclasses import dataclass, field

import structlog

from cli.priorities import EXPLAINER_NICE
from connectors.json_codec import loads
from connectors.stores.plans import SqlitePlanStore
from ems.errors import EmsError
from ems.explanation import Explanation
from ems.plan import Plan, PlanLabel
from optimizer.explain.posed import Posed

log = structlog.get_logger()
MODULE = "cli.explainer_process"
LONGEST_S = 600.0  # wall time after which an explanation is given up


@dataclass(slots=True, kw_only=True)
class Explaining:
    """Has published plans explained and stores the result with them. Never raises, never waits.

    Parameters
    ----------
    hours : from the start of a plan [h].
    nice : of the process that explains, on top of our own (`man 2 nice`).
    """

    store: SqlitePlanStore
    hours: float
    nice: int = EXPLAINER_NICE
    done: int = 0
    _next: tuple[Posed, Plan] | None = None
    _task: asyncio.Task[None] | None = field(default=None)

    def ask(self, posed: Posed, plan: Plan) -> None:
        """Explain this plan as soon as the one in hand is done; a plan that still waits is forgotten."""
        self._next = (posed, plan)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Give up what is in hand."""
        self._next = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def settle(self) -> None:
        """Wait until nothing is in hand."""
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._next is not None:
            (posed, plan), self._next = self._next, None
            try:
                found = await self._explained(posed, plan)
                await asyncio.to_thread(self.store.explain, found)
            except (EmsError, OSError, TimeoutError) as error:
                log.warning("plan.explanation.failed", plan_id=plan.plan_id, reason=str(error))
            else:
                self.done += 1

    async def _explained(self, posed: Posed, plan: Plan) -> Explanation:
        if plan.label not in (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT):
            return _untold(plan, f"not solved but rescued ({plan.label}): {plan.solve.rescue}")
        if plan.scenarios is not None:
            return _untold(plan, "planned over scenarios, which is not explained")
        text = await _run(self.hours, self.nice, pickle.dumps((posed, plan)))
        return await asyncio.to_thread(loads, Explanation, text)


def _untold(plan: Plan, why: str) -> Explanation:
    """Nothing is said but why: a rescue, for one, was not chosen among alternatives."""
    return Explanation(
        plan_id=plan.plan_id, until=plan.issued_at, setpoints=(), commitments=(), worths=(), conflicts=(),
        notes=(why,), solves=0, took_s=0.0,
    )  # fmt: skip


async def _run(hours: float, nice: int, question: bytes) -> bytes:
    """The answer of one process. It ends with us: its pipes break."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, f"{hours:g}", str(nice),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_S):
            answer, complaint = await process.communicate(question)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        raise EmsError(f"ended with {process.returncode}: {lines[-1] if lines else 'no word'}")
    return answer
