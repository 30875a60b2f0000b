"""How an input does at a time: what is in force, how old it is, whether it is late."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.inputs.store import InputReader
from ems.inputs import InputKind, InputLook, InputParams, InputVersion, version_age_s

LOOKS = 20
FAILING_LOOKS, FAILING_S_MIN = 3, 900.0  # a source that fails for longer than either is late


@dataclass(frozen=True, slots=True, kw_only=True)
class InputState:
    """One input as known at a time. `late` says why it is; empty: it is not."""

    params: InputParams
    version: InputVersion | None
    age_s: float | None  # since it was issued; where nobody tells that, since the source last told it
    reaches: datetime | None  # how far ahead it tells
    late: str
    failing_since: datetime | None  # every look failed since then; None: the last did not
    looks: tuple[InputLook, ...]  # newest first
    ahead: str = ""  # what came last is stamped later than now, as our clock was ahead

    @property
    def refused(self) -> InputLook | None:
        """The last thing that came, where it was refused."""
        came = next((x for x in self.looks if x.outcome not in ("failed", "nothing")), None)
        return came if came is not None and came.outcome == "refused" else None

    @property
    def failed(self) -> InputLook | None:
        """The last look, where it brought nothing."""
        return self.looks[0] if self.looks and self.looks[0].outcome == "failed" else None


def input_state(
    reader: InputReader, params: InputParams, at: datetime, now: datetime | None = None
) -> InputState:
    """How an input does at `at`; `now`: what is stamped later is told. Raises StoreError."""
    version = reader.newest(params.id, at)
    seen = reader.seen_at(params.id, at)
    age_s = None if version is None else version_age_s(version, seen, at)
    reaches = reader.reaches(params.id, at)
    since = reader.failing_since(params.id, at)
    ahead = None if now is None else reader.ahead(params.id, now)
    return InputState(
        params=params,
        version=version,
        age_s=age_s,
        reaches=reaches,
        late=lateness(params, age_s, reaches, at) or _failing(params, since, at),
        failing_since=since,
        looks=tuple(reader.looks(params.id, at, LOOKS)),
        ahead="" if ahead is None else _ahead(*ahead),
    )


def _ahead(number: int, arrived: datetime) -> str:
    return (
        f"version {number} is stamped {arrived:%Y-%m-%d %H:%M} UTC, later than now: our clock was ahead. "
        "It counts from then on, and as older than what comes before; drop it again, or wait for the next"
    )


def lateness(params: InputParams, age_s: float | None, reaches: datetime | None, at: datetime) -> str:
    """Why an input is late; empty where it is not. Outages may be silent for as long as none is announced."""
    if age_s is None:
        return "" if params.kind is InputKind.OUTAGES and params.age_s_max is None else "nothing came yet"
    if params.age_s_max is not None and age_s > params.age_s_max:
        return f"{words_s(age_s)} old; allowed: {words_s(params.age_s_max)}"
    if params.ahead_s_min is not None:
        ahead_s = -1.0 if reaches is None else (reaches - at).total_seconds()
        if ahead_s < params.ahead_s_min:
            told = "nothing of what comes" if ahead_s <= 0.0 else f"{words_s(ahead_s)} ahead"
            return f"it tells {told}; allowed: {words_s(params.ahead_s_min)} or more"
    return ""


def _failing(params: InputParams, since: datetime | None, at: datetime) -> str:
    """That nobody knows what is announced there now is told, however old what was announced may be."""
    failing_s = 0.0 if since is None else (at - since).total_seconds()
    if failing_s <= max(FAILING_LOOKS * params.every_s, FAILING_S_MIN):
        return ""
    return f"every look has failed for {words_s(failing_s)}"


def words_s(seconds: float) -> str:
    """A time as people say it."""
    whole = timedelta(seconds=round(seconds))
    if whole < timedelta(minutes=2):
        return f"{whole.seconds} s"
    if whole < timedelta(hours=2):
        return f"{whole.seconds // 60} min"
    hours = whole.total_seconds() / 3600.0
    return f"{hours:.1f} h" if hours < 48.0 else f"{hours / 24.0:.1f} d"
