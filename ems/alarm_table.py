"""The rationalisation table (ISA-18.2 clause 8): one row for each alarm, in `alarm_table.csv`."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from ems.alarms import AlarmClass, AlarmKind, AlarmRow, Priority, Severity

TAGS = ("site", "device", "setpoint", "grid", "bess", "genset", "pv", "feeder", "control")


@cache
def alarm_table() -> Mapping[str, AlarmRow]:
    """Every alarm by its id, parents before what they explain."""
    text = files("ems").joinpath("alarm_table.csv").read_text(encoding="utf-8")
    rows = {r["id"]: _row(r) for r in csv.DictReader(text.splitlines(), strict=True)}
    depth: dict[str, int] = {}

    def deep(code: str, below: tuple[str, ...] = ()) -> int:
        if code in below:
            raise ValueError(f"alarm {code} explains itself")
        if code not in depth:
            depth[code] = 1 + max((deep(p, (*below, code)) for p in rows[code].parents), default=0)
        return depth[code]

    return {code: rows[code] for code in sorted(rows, key=lambda c: (deep(c), list(rows).index(c)))}


def code_of(key: str) -> str | None:
    """The row an alarm's key (`code` or `code.asset`) belongs to."""
    fits = [c for c in alarm_table() if key == c or key.startswith(c + ".")]
    return max(fits, key=len, default=None)


def _row(r: Mapping[str, str]) -> AlarmRow:
    return AlarmRow(
        id=r["id"],
        tag=r["tag"],
        kind=AlarmKind(r["kind"]),
        setpoint=r["setpoint"],
        unit=r["unit"],
        deadband=float(r["deadband"]),
        on_delay_s=float(r["on_delay_s"]),
        off_delay_s=float(r["off_delay_s"]),
        alarm_class=AlarmClass(r["class"]),
        severity=Severity(r["severity"]),
        consequence=r["consequence"],
        respond_s=60.0 * float(r["respond_min"]),
        priority=Priority(r["priority"]),
        response=r["response"],
        parents=tuple(r["parents"].split()),
        latching=r["latching"] == "yes",
        test=r["test"],
        owner=r["owner"],
        revision=r["revision"],
    )
