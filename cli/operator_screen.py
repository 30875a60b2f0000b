"""What `ems operator` prints: an answer with the next step, and who commands what."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.operator_desk import Outcome, edge_row
from cli.operator_reserve import reserve_lines
from connectors.inputs.state import words_s
from connectors.inputs.store import QuietStatuses
from connectors.inputs.watch import OVERALL, PREFIX
from ems.ports import HistoryReader
from ems.records import JsonValue, StatusRow

DONE, REFUSED, WAITS, SILENT = 0, 1, 3, 4
NOT_DONE_YET = ("pending", "selected")
Fields = Mapping[str, JsonValue]


def show_answer(outcome: Outcome, directory: Path, *, shadow: bool = False) -> int:
    """Print what became of a request, and give the exit code; in shadow, that no device hears of it."""
    if outcome.fields is None:
        taken = "taken back: nothing was changed" if outcome.withdrawn else "it was taken: look at the status"
        print(f"no answer; {taken}. Does the edge of {directory} run? ({_typed('status', directory)})")
        return SILENT
    if not outcome.done:
        text = outcome.text("text") or outcome.text("why")
        print(f"refused ({outcome.text('code') or 'unreadable'}): {text}")
        return REFUSED
    code, token = outcome.text("code"), outcome.text("token")
    if code == "pending":
        print(f"not yet: {outcome.text('subject')} waits 10 min for a second person, an operator or engineer")
        print(f"who is not {outcome.text('user')}. They type:  {_typed(f'confirm {token}', directory)}")
        return WAITS
    if code == "selected":
        print(
            f"selected: {outcome.text('point')} = {outcome.text('new')}. Within 10 s, in this session, type:"
        )
        print(_typed(f"operate {token}", directory))
        return DONE
    print(f"done: {outcome.text('text')}{'; in shadow: no device is written to' if shadow else ''}")
    return DONE


def _typed(act: str, directory: Path) -> str:
    where = "" if directory == Path("ems-data") else f" --dir {directory}"
    return f"ems operator {act}{where}"


def show_status(reader: HistoryReader, directory: Path) -> int:
    """Print who commands what; 1 where the edge has told nothing of it."""
    row, console = edge_row(reader, directory), Console()
    shown = row.fields.get("authority")
    if not isinstance(shown, Mapping):
        console.print(f"{directory}: its edge tells nothing of authority; it is of another version")
        return REFUSED
    for line in _head(row, shown):
        console.print(Text(line))
    console.print(_devices(_map(shown.get("devices"))))
    for line in (
        *reserve_lines(row.fields),
        *_rest(shown, directory),
        *input_lines(QuietStatuses(directory)()),
    ):
        console.print(Text(line))
    return DONE


def input_lines(rows: Mapping[str, StatusRow]) -> Iterator[str]:
    """A line for each input from elsewhere, as its process last told it."""
    for name, row in sorted(rows.items()):
        if not name.startswith(PREFIX):
            continue
        f, age_s = row.fields, row.fields.get("age_s")
        old = f", {words_s(age_s)} old" if isinstance(age_s, int | float) else ""
        version = f"version {f.get('version')}, issued {_minute(f.get('issued_at'))} UTC{old}"
        said = "nothing came yet" if f.get("version") is None else version
        texts = {word: str(f.get(word) or "") for word in ("late", "trouble", "failed", "refused")}
        wrong = "".join(f"; {word.upper()}: {t.splitlines()[0]}" for word, t in texts.items() if t)
        yield f"input {name.removeprefix(PREFIX)}: {f.get('kind')}, {said}{wrong}"
    overall = rows.get(OVERALL)
    if overall is not None and overall.fields.get("overrun"):
        yield f"OUTAGE OVERRUNS: {overall.fields['overrun']}, the mains are not back"


def _head(row: StatusRow, shown: Fields) -> Iterator[str]:
    f, plant = row.fields, _map(shown.get("plant"))
    writes = "writes nothing (shadow)" if f.get("shadow") else "writes"
    yield f"{row.at:%Y-%m-%d %H:%M:%S} UTC, {f.get('mode')}, decided by {f.get('source')}, {writes}"
    yield f"plant: {f.get('plant_control')} ({plant.get('mode')}, {_times(plant.get('why'))})"
    yield f"emergency stop: {shown.get('emergency_stop')}"
    if f.get("held_safe"):
        yield "HELD SAFE: nothing is decided until a person has looked (ems operator resume --why ...)"
    if shown.get("lost"):
        yield "MODES AND LIMITS OF BEFORE THE RESTART ARE LOST: off until a person chooses a mode"
    for subject, held in _map(shown.get("orphans")).items():
        yield f"SET BY PEOPLE, NOT IN THE SITE FILE: {subject} ({held})"
    if f.get("standing_unwritten"):
        yield "WHAT HOLDS NOW CANNOT BE WRITTEN: a restart would not find it (is the disk full?)"
    if f.get("requests_refused") is not None:
        yield f"NO REQUEST IS TAKEN: {f.get('requests_refused')}"


def _devices(devices: Fields) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("device", "mode", "setpoint", "held by", "until", "from", "to", "why"):
        table.add_column(name, no_wrap=name in ("device", "mode", "setpoint"), overflow="fold")
    for device, one in devices.items():
        fields = _map(one)
        first = (device, str(fields.get("mode")))
        table.add_row(*map(Text, (*first, "", "", "", "", "", _times(fields.get("why")))))
        for point, setpoint in _map(fields.get("setpoints")).items():
            for cells in _setpoint(point, _map(setpoint)):
                table.add_row("", "", *map(Text, cells))
    return table


def _setpoint(point: str, fields: Fields) -> Iterator[tuple[str, ...]]:
    """A line for the setpoint and its lease, and one for each limit with where it comes from."""
    lease, name = _map(fields.get("lease")), point.partition(".")[2]
    held = f"{lease.get('owner')}: {_number(lease.get('value'))}" if lease else "-"
    why = str(lease.get("reason") or "") if lease else ""
    blocked = fields.get("blocked")
    yield name, held, _time(lease.get("until")), "", "", f"BLOCKED by {blocked}" if blocked else why
    limits = fields.get("limits")
    for limit in limits if isinstance(limits, list) else ():
        x = _map(limit)
        yield (
            "", "", "", _number(x.get("low")), _number(x.get("high")), f"{x.get('layer')}: {x.get('reason')}",
        )  # fmt: skip


def _rest(shown: Fields, directory: Path) -> Iterator[str]:
    caps = shown.get("caps")
    for cap in caps if isinstance(caps, list) else ():
        x = _map(cap)
        yield f"cap on {x.get('kind')}: {_number(x.get('cap_kw'))} kW, {x.get('layer')}: {x.get('reason')}"
    for name, one in _map(shown.get("interlocks")).items():
        x = _map(one)
        yield f"interlock {name}: {x.get('state')} ({x.get('cause')})"
    for subject, one in _map(shown.get("loosened")).items():
        x = _map(one)
        by = (
            f"{x.get('user')} and {x.get('second')}"
            if x.get("second")
            else f"{x.get('user')} broke the glass"
        )
        value = "does not count" if x.get("value") is None else _number(x.get("value"))
        yield f"loosened until {_time(x.get('until'))}: {subject} {value}, {by}: {x.get('reason')}"
    for token, one in _map(shown.get("proposals")).items():
        x = _map(one)
        value = "none" if x.get("value") is None else _number(x.get("value"))
        what = f"{x.get('subject')} to {value}" if x.get("what") == "limit" else f"bypass {x.get('subject')}"
        yield (
            f"waits until {_time(x.get('until'))} for a second person: {what}, proposed by {x.get('user')} "
            f"({x.get('reason')}):  {_typed(f'confirm {token}', directory)}"
        )


def _map(value: object) -> Fields:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | int) else "-"


def _time(value: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)):%H:%M:%S}"
    except ValueError:
        return ""


def _minute(value: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)):%Y-%m-%d %H:%M}"
    except ValueError:
        return "?"


def _times(value: object) -> str:
    return str(value)
