"""`ems release`: let go of a running plant for work on its controllers, and take it back."""

import argparse
import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from connectors.historian.sqlite import SqliteHistoryReader
from connectors.stores.alarm_desk import hand_in, new_id
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.errors import EmsError
from ems.records import EventRecord
from ems.release import ReleaseRequest

HELP = """Let go of a running plant: no writes, no heartbeat, every device by itself, until it is taken back.
The edge refuses unless the simulated plant lives on what its devices do in silence. For engineers
(the folder alarm-desk/engineers under --dir); outlives a restart of the edge."""
ANSWER_S = 5.0  # wall time to wait for the edge's answer
LOOK_S = 0.1
FAMILY = "edge.release."
REFUSED = f"{FAMILY}refused"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("--why", default="", help="the reason; needed to let go")
    add("--take-back", action="store_true", help="decide and write again")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the running plant (ems-data)")


def run(args: argparse.Namespace) -> int:
    """Hand in and wait for the answer."""
    if not args.take_back and not args.why.strip():
        raise EmsError("ems release: --why is needed to let go of a plant")
    reader = SqliteHistoryReader(args.dir / "history.sqlite")
    request = ReleaseRequest(id=new_id(), let_go=not args.take_back, why=args.why)
    began = SystemClock().now() - timedelta(seconds=1.0)
    hand_in(args.dir / "alarm-desk", "engineer", request)
    answer = asyncio.run(_answer(reader, request, began))
    if answer is None:
        print(f"handed in; nothing changed within {ANSWER_S:g} s")
        return 1
    against = answer.fields.get("against")
    print(answer.kind.removeprefix(FAMILY) + (f": {against}" if against else ""))
    return 1 if answer.kind == REFUSED else 0


async def _answer(
    reader: SqliteHistoryReader, request: ReleaseRequest, began: datetime
) -> EventRecord | None:
    """The event that says what became of a request."""
    kinds = (f"{FAMILY}begun", REFUSED) if request.let_go else (f"{FAMILY}ended",)
    until_s = wall_s() + ANSWER_S
    while wall_s() < until_s:
        found = reader.events(began, SystemClock().now() + timedelta(seconds=1.0), FAMILY, 10)
        answer = next((e for e in found if e.kind in kinds), None)
        if answer is not None:
            return answer
        await wall_sleep(LOOK_S)
    return None
