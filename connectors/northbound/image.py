"""What the plant looks like now, for servers: read from what the edge records, never from a device.

An image is renewed as a whole and never looks younger than it is. The edge's row says when it was told; once
that stands still for a few cycles, or nobody has looked for as long, every value of the image is stale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.sqlite_file import StoreError
from ems.control import ControlMode
from ems.control_site import LimitKind
from ems.northbound_names import EMS, LIMIT, OF_THE_EMS, cap_name
from ems.ports import HistoryReader
from ems.records import JsonValue, StatusRow
from ems.site import GridMode
from ems.telemetry import Quality, UtcState

FRESH_S_MIN = 5.0
FRESH_CYCLES = 3.0  # an edge that has told nothing for so many of its cycles is taken for away
LOST = "control.limit_lost."  # alarm of a limit that is not heard, before its id
NOTHING: Mapping[str, "Shown"] = {}
_CODES = {"grid_mode": [m.value for m in GridMode], "control": [m.value for m in ControlMode]}
_FIELDS = {"grid_mode": "mode", "control": "plant_control"}  # fields of the row, where they differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One value with what may be thought of it. `value`: the last one known, for GOOD ones that of now."""

    point: str
    value: float | None  # in the unit of its name
    quality: Quality
    at: datetime | None  # when it was measured or said, aware UTC; None: never

    @property
    def usable(self) -> float | None:
        """The value if it is good."""
        return self.value if self.quality is Quality.GOOD else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Everything shown at one moment.

    `beat` counts images in which the edge had told something new: it stands still when the edge does.
    """

    at: datetime | None  # when the edge told it; None: it never did
    beat: int
    looked_s: float  # monotonic, when it was read
    fresh_s: float  # how old it may become
    why: str  # why it is not fresh; "": it is
    epoch: int | None  # of the edge, for requests to it
    shown: Mapping[str, Shown]  # by name; names without an entry have never had a value
    clock_valid: bool = True  # whether the edge relies on its record time

    @property
    def fresh(self) -> bool:
        """Whether the edge lives and its values count."""
        return not self.why

    def get(self, name: str) -> Shown:
        """What is shown under a name."""
        found = self.shown.get(name)
        return Shown(point=name, value=None, quality=Quality.COMM_FAILED, at=None) if found is None else found


class Board:
    """The newest image. `look` reads files and may wait for a disk: call it beside the loop that serves.

    Parameters
    ----------
    reader : what the edge records.
    now : aware record time.
    monotonic_s : seconds that only grow [s].
    """

    def __init__(
        self, reader: HistoryReader, *, now: Callable[[], datetime], monotonic_s: Callable[[], float]
    ) -> None:
        self._reader, self._now, self._monotonic_s = reader, now, monotonic_s
        self._told_at: datetime | None = None
        self._changed_s = 0.0
        self._image = Image(
            at=None,
            beat=0,
            looked_s=monotonic_s(),
            fresh_s=FRESH_S_MIN,
            why="not looked yet",
            epoch=None,
            shown=NOTHING,
        )

    def look(self) -> Image:
        """Read what the edge has told; what cannot be read is stale."""
        before, now_s = self._image, self._monotonic_s()
        try:
            row = self._reader.statuses().get("edge")
            shown = before.shown if row is None else self._values(row)
        except StoreError as error:
            return self._keep(_stale(before, str(error)))
        if row is None:
            return self._keep(_stale(before, "no edge has run here"))
        fresh_s = max(FRESH_S_MIN, FRESH_CYCLES * _number(row.fields.get("cycle_s"), 1.0))
        first = self._told_at is None
        new = row.at != self._told_at
        if new:
            self._told_at, self._changed_s = row.at, now_s
        old_s = (self._now() - row.at).total_seconds() if first else now_s - self._changed_s
        if first and not -fresh_s <= old_s <= fresh_s:
            self._changed_s = now_s - fresh_s - 1.0  # of an edge that is gone: nothing moves on from it
            old_s = max(old_s, fresh_s + 1.0)
        epoch = row.fields.get("epoch")
        image = Image(
            at=row.at,
            beat=before.beat + (new and old_s <= fresh_s),
            looked_s=now_s,
            fresh_s=fresh_s,
            why="",
            epoch=epoch if isinstance(epoch, int) else None,
            shown=shown,
            clock_valid=row.fields.get("utc") != UtcState.INVALID.value,
        )
        why = "" if old_s <= fresh_s else f"the edge has told nothing for {old_s:.0f} s"
        return self._keep(image if not why else _stale(image, why))

    def now(self) -> Image:
        """The newest image; a stale one where nobody could look for too long. Never waits."""
        silent_s = self._monotonic_s() - self._image.looked_s
        if self._image.fresh and silent_s > self._image.fresh_s:
            self._image = _stale(self._image, f"nothing could be read for {silent_s:.0f} s")
        return self._image

    def _keep(self, image: Image) -> Image:
        self._image = image
        return image

    def _values(self, row: StatusRow) -> dict[str, Shown]:
        out = {
            name: Shown(point=name, value=r.value, quality=r.quality, at=r.source_time)
            for name, r in self._reader.latest().items()
        }
        alarms = row.fields.get("alarms")
        names = [str(a) for a in alarms] if isinstance(alarms, list) else []
        lost = {f"{LIMIT}{a.removeprefix(LOST)}" for a in names if a.startswith(LOST)}
        # An alarm may be shelved, or hidden behind another: which limit it is is not known then.
        hidden = _number(row.fields.get("limits_lost_count"), 0.0) > len(lost)
        for name, value in _told(row.fields):
            stale = name in lost or (hidden and name.startswith(LIMIT))
            quality = Quality.STALE if stale else Quality.GOOD
            out[name] = Shown(point=name, value=value, quality=quality, at=row.at)
        return out


def _stale(image: Image, why: str) -> Image:
    """The same, of which nothing counts any more."""
    shown = {
        name: replace(s, quality=Quality.STALE) if s.quality is Quality.GOOD else s
        for name, s in image.shown.items()
    }
    return replace(image, why=why, shown=shown)


def _told(fields: Mapping[str, JsonValue]) -> list[tuple[str, float]]:
    """(name, value) of whatever the edge's row says of limits, caps and itself."""
    out: list[tuple[str, float]] = []
    for name in OF_THE_EMS:
        short = name.removeprefix(EMS)
        value = fields.get(_FIELDS.get(short, short))
        codes = _CODES.get(short)
        if codes is not None:
            value = codes.index(value) if isinstance(value, str) and value in codes else None
        if isinstance(value, int | float):
            out.append((name, float(value)))
    told = fields.get("limits_told_kw")
    if isinstance(told, dict):
        out += [(LIMIT + x, float(kw)) for x, kw in told.items() if isinstance(kw, int | float)]
    authority = fields.get("authority")
    caps = authority.get("caps") if isinstance(authority, dict) else None
    strictest: dict[str, float] = {}
    for cap in caps if isinstance(caps, list) else []:
        if isinstance(cap, dict) and isinstance(kw := cap.get("cap_kw"), int | float):
            kind = str(cap.get("kind"))
            strictest[kind] = min(float(kw), strictest.get(kind, float(kw)))
    return out + [(cap_name(k), strictest[k.value]) for k in LimitKind if k.value in strictest]


def _number(value: JsonValue, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
