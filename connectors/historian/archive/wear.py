"""What the processes of a plant write to the disk, as the kernel counts it, by day (`man 5 proc_pid_io`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ems.records import JsonValue

PROC = Path("/proc")
DAY_S = 86_400.0
YEARS = 5.0
GAP_S_MAX = 600.0  # between two looks; a longer time is not covered


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that a process has handed to the disk since it was started."""

    started: int  # which process of this number it is: clock ticks since the machine came up
    size_bytes: int


def family(parent: int, proc: Path = PROC) -> Iterator[int]:
    """The numbers of a process and of its children."""
    yield parent
    for entry in proc.iterdir():
        if entry.name.isdigit():
            found = _stat(proc, int(entry.name))
            if found is not None and found[0] == parent:
                yield int(entry.name)


def written(pid: int, proc: Path = PROC) -> Written | None:
    """What a process has written; None where the kernel does not say, or it is gone."""
    found = _stat(proc, pid)
    try:
        text = (proc / str(pid) / "io").read_text()
    except OSError:
        return None
    fields = {k: int(v) for k, _, v in (line.partition(": ") for line in text.splitlines())}
    if found is None or "write_bytes" not in fields:
        return None
    return Written(found[1], fields["write_bytes"] - fields.get("cancelled_write_bytes", 0))


def _stat(proc: Path, pid: int) -> tuple[int, int] | None:
    """Parent and start of a process; None where it is gone."""
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(fields[1]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


@dataclass(slots=True)
class WearAccount:
    """Bytes by UTC day, as far as somebody looked. `days` are those that are over."""

    date: str = ""
    day_bytes: int = 0
    covered_s: float = 0.0
    days: list[Mapping[str, JsonValue]] = field(default_factory=list)
    seen: dict[int, Written] = field(default_factory=dict)
    _looked: datetime | None = None

    def look(self, now: datetime, found: Mapping[int, Written]) -> None:
        """Count what was written since the last look."""
        if self.date and f"{now:%Y-%m-%d}" != self.date:
            self.days.append(self.account())
            self.day_bytes, self.covered_s = 0, 0.0
        self.date = f"{now:%Y-%m-%d}"
        gap_s = 0.0 if self._looked is None else (now - self._looked).total_seconds()
        if 0.0 < gap_s <= GAP_S_MAX:
            self.covered_s += gap_s
            for pid, new in found.items():
                old = self.seen.get(pid)
                before = old.size_bytes if old is not None and old.started == new.started else 0
                self.day_bytes += max(0, new.size_bytes - before)
        self._looked, self.seen = now, dict(found)

    def account(self) -> dict[str, JsonValue]:
        """The day so far."""
        return {"date": self.date, "written_bytes": self.day_bytes, "covered_s": round(self.covered_s)}


def per_day_bytes(accounts: list[Mapping[str, JsonValue]]) -> float | None:
    """Bytes a day over all these accounts; None where nobody looked for long enough to say."""
    covered_s = sum(float(a["covered_s"]) for a in accounts if isinstance(a["covered_s"], int | float))
    if covered_s < GAP_S_MAX:
        return None
    total = sum(a["written_bytes"] for a in accounts if isinstance(a["written_bytes"], int))
    return total / covered_s * DAY_S


def in_five_years_tb(bytes_per_day: float) -> float:
    """What that comes to [TB]."""
    return bytes_per_day * 365.25 * YEARS / 1e12
