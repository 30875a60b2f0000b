"""`ems alarms`: the alarms of a running plant, and what a person does to them."""

import argparse
import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.historian.live import LiveHistory
from connectors.stores.alarm_desk import hand_in, new_id
from ems.alarm_table import alarm_table
from ems.alarms import HIDDEN, Act, AlarmBook, AlarmEntry, AlarmRequest
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.errors import BadValue, EmsError
from ems.records import EventRecord
from ems.units import parse_quantity

HELP = """Show the alarms of a running plant, or acknowledge, reset, shelve, unshelve, remove or return one.
Who you are is your login; whether you may is the permission of the folder alarm-desk under --dir."""
ANSWER_S = 5.0  # wall time to wait for the edge's answer
LOOK_S = 0.1
SHORT = {"ack": Act.ACKNOWLEDGE, "remove": Act.REMOVE, "return": Act.RETURN}
COLOUR = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    acts = [*(a.value for a in Act), *SHORT]
    add("act", nargs="?", metavar="ACT", choices=acts, help=f"what to do: {', '.join(acts)}")
    add("key", nargs="?", help="the alarm, as the list shows it")
    add("--why", default="", help="the reason; needed to shelve, and to remove from service (the permit)")
    add("--for", dest="length", default=None, metavar="TIME", help="how long to shelve, such as 30min or 2h")
    add("--engineer", action="store_true", help="hand in as an engineer")
    add("--hidden", action="store_true", help="show shelved, suppressed and removed ones too")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of the running plant (ems-data)")


def run(args: argparse.Namespace) -> int:
    """Show, or hand in and wait for the answer."""
    reader = LiveHistory(args.dir)
    console = Console()
    if args.act is None:
        show(console, reader.alarms(), hidden=args.hidden)
        return 0
    if args.key is None:
        raise EmsError(f"ems alarms {args.act}: which alarm? (KEY as the list shows it)")
    began = SystemClock().now() - timedelta(seconds=1.0)
    request = request_of(args)
    hand_in(args.dir / "alarm-desk", "engineer" if args.engineer else "operator", request)
    answer = asyncio.run(_answer(reader, request, began))
    if answer is None:
        print(f"handed in; no answer within {ANSWER_S:g} s: is the edge running?")
        return 1
    refused = answer.kind == "alarm.action.refused"
    now = answer.fields.get("why") if refused else answer.fields.get("now")
    print(f"{request.key}: {'refused: ' if refused else ''}{now}")
    return 1 if refused else 0


def request_of(args: argparse.Namespace) -> AlarmRequest:
    """What the arguments ask for.

    Raises
    ------
    EmsError : the time is none.
    """
    act = SHORT[args.act] if args.act in SHORT else Act(args.act)
    try:
        for_s = None if args.length is None else parse_quantity(args.length, "s")
    except BadValue as error:
        raise EmsError(f"--for: {error}") from None
    return AlarmRequest(id=new_id(), act=act, key=args.key, why=args.why, for_s=for_s)


def show(console: Console, book: AlarmBook | None, *, hidden: bool) -> None:
    """The list, most urgent first."""
    if book is None:
        console.print("no edge has recorded alarms here yet")
        return
    entries = [*book.standing(), *(e for e in book.entries if hidden and e.shown in HIDDEN)]
    table = Table(box=None, pad_edge=False)
    for name in ("priority", "since", "alarm", "state", "what it is, and what to do"):
        table.add_column(name, no_wrap=name in ("priority", "alarm"), overflow="fold")
    for e in entries:
        table.add_row(*map(Text, _cells(e)), style=COLOUR[e.priority.value])
    console.print(table if entries else f"no alarm stands ({book.at:%Y-%m-%d %H:%M:%S} UTC)")


def _cells(e: AlarmEntry) -> tuple[str, ...]:
    row = alarm_table().get(e.code)
    since = "" if e.since is None else f"{e.since:%H:%M:%S}"
    times = f" ({e.activations} times)" if e.activations > 1 else ""
    state = e.shown.value.replace("_", " ") + times
    response = "" if row is None else f". {row.response}"
    return e.priority.value, since, e.key, state, e.text + response


async def _answer(reader: LiveHistory, request: AlarmRequest, began: datetime) -> EventRecord | None:
    """The event that says what became of a request."""
    until_s = wall_s() + ANSWER_S
    while wall_s() < until_s:
        now = SystemClock().now() + timedelta(seconds=1.0)
        found = reader.events(began, now, "alarm.", 1000)
        mine = [e for e in found if e.fields.get("request") == request.id]
        if mine:
            return mine[0]
        await wall_sleep(LOOK_S)
    return None
