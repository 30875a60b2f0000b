"""What comes from elsewhere: prices, weather, forecasts, announced outages, each version by time of issue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum

from ems.outage import OutageNotice
from ems.series import UniformSeries

SPOT = "spot_per_kwh"  # a market price: neither what import costs nor what export earns
IMPORT = "import_per_kwh"
EXPORT = "export_per_kwh"
GHI = "ghi_w_m2"
AIR = "temp_air_degc"
CLOUD = "cloud_ratio"
QUANTILES = ("p10", "p90")
SILENT_S = 60.0  # a status row that is older is that of a process which hangs or is gone


class InputKind(StrEnum):
    """What an input tells."""

    PRICE = "price"
    WEATHER = "weather"
    FORECAST = "forecast"  # of load and PV, made elsewhere
    OUTAGES = "outages"


USED_FOR = {
    InputKind.PRICE: "prices of plans, of rules by the clock, and of the bill",
    InputKind.WEATHER: "PV in plans, and the temperature of the air",
    InputKind.FORECAST: "load and PV in plans",
    InputKind.OUTAGES: "outages in plans",
}


class Certainty(StrEnum):
    """How sure an announced outage is, surest first."""

    PLANNED = "planned"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputColumn:
    """Where one series stands. value = found * scale + offset, in `unit`.

    `at` is a column of CSV, a key of each record, or a JSON pointer to a list.
    """

    series: str
    at: str
    unit: str
    scale: float = 1.0
    offset: float = 0.0
    at_end: bool = False  # a time is the end of its step, not its start


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageColumns:
    """Where the parts of an announcement stand; None: not told."""

    id: str
    start: str
    end: str
    issued_at: str | None = None
    status: str | None = None
    reason: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)  # what stands in `status` -> ours, or "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """How the files or answers of one source are read. Data of a YAML file, no code.

    `shape`: `records` (a list of records, or the rows of a CSV table) or `columns` (parallel lists of JSON).
    Without `columns`, those of a CSV table have the names of the series.
    """

    name: str
    kind: InputKind
    body: str  # csv | json
    shape: str = "records"
    rows: str = ""  # JSON pointer to the list of records
    time: str = "time"
    time_form: str = "iso"  # iso | s | ms since 1970 UTC, or a form of strptime
    zone: tzinfo | None = None  # of times that tell none; None: each must tell its own
    step_s: float | None = None  # None: the shortest distance of two rows
    issued: str | None = None  # column, key or pointer of the time of issue; None: when it arrived
    columns: tuple[InputColumn, ...] = ()
    expect: Mapping[str, str] = field(
        default_factory=dict
    )  # by column, key or pointer: what must stand there
    outage: OutageColumns | None = None
    delimiter: str = ","
    decimal: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTerms:
    """From a market price to that of the contract: price * factor_ratio + add_per_kwh."""

    factor_ratio: float = 1.0
    add_per_kwh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputParams:
    """One input of a site: where it comes from, how it is read, and what is believed of it. No secrets."""

    id: str
    kind: InputKind
    provider: Provider
    folder: str | None = None  # either a folder that files are dropped into,
    url: str | None = None  # or what is asked for
    every_s: float = 900.0
    timeout_s: float = 30.0
    bytes_max: int = 4_000_000
    protection: str = "verified"  # verified | plain
    ca: str | None = None  # PEM; None: whom the operating system believes
    token_file: str | None = None
    token_env: str | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    age_s_max: float | None = None  # older is late; None: never
    ahead_s_min: float | None = None  # it must reach so far ahead, or it is late; None: it need not
    price_min_per_kwh: float | None = None
    price_max_per_kwh: float | None = None
    import_terms: PriceTerms | None = None  # None: a market price says nothing of import
    export_terms: PriceTerms | None = None
    certainty_min: Certainty = Certainty.LIKELY  # less sure announcements are shown, and not planned with
    complete: bool = False  # each issue lists every outage there is: what it leaves out is withdrawn
    mains_back_s: float | None = None  # mains lost in an outage and good again for so long: it is over

    @property
    def place(self) -> str:
        """Where it comes from: a folder, or a URL without its query, which may hold a key."""
        return self.folder if self.folder is not None else (self.url or "").partition("?")[0]

    @property
    def aged_out(self) -> bool:
        """Whether values that are older than `age_s_max` count no more. A published price stays the price."""
        return self.kind in (InputKind.WEATHER, InputKind.FORECAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedOutage:
    """One announcement: mains away in [start, end). A later issue with the same id replaces it."""

    id: str
    issued_at: datetime
    start: datetime
    end: datetime
    certainty: Certainty = Certainty.PLANNED
    cancelled: bool = False
    reason: str = ""

    def notice(self, input_id: str) -> OutageNotice:
        """As planners take it; the name of the input keeps its ids apart from others."""
        return OutageNotice(
            id=f"{input_id}.{self.id}",
            issued_at=self.issued_at,
            start=self.start,
            end=self.end,
            cancelled=self.cancelled,
            source=input_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputVersion:
    """What one file or answer told. `id` is its number in the store, 0 before it is stored.

    `issued_told`: the source itself tells when it was issued; else that is when it arrived.
    `series` are in our units and signs, with NaN where nothing is told.
    """

    input: str
    issued_at: datetime
    issued_told: bool
    arrived_at: datetime
    source: str  # file or URL
    sha256: str  # of the bytes that came
    series: Mapping[str, UniformSeries] = field(default_factory=dict)
    outages: tuple[AnnouncedOutage, ...] = ()
    id: int = 0
    ahead_s: float = 0.0  # its source told a time of issue so much after it arrived; that is its issue then

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last time it tells anything of."""
        starts = [s.start for s in self.series.values()] + [o.start for o in self.outages]
        ends = [s.end for s in self.series.values()] + [o.end for o in self.outages]
        return (min(starts), max(ends)) if starts else (self.issued_at, self.issued_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLook:
    """What became of one look at a source."""

    input: str
    at: datetime
    outcome: str  # taken | older | same | refused | failed | nothing (looked again at last, nothing was new)
    detail: str = ""
    file: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUse:
    """A version that a forecast, and the plan made on it, rests on: enough to find and to prove it."""

    input: str
    version: int
    issued_at: datetime
    arrived_at: datetime
    sha256: str
    series: tuple[str, ...]


def version_age_s(version: InputVersion, seen_at: datetime | None, at: datetime) -> float:
    """Since it was issued [s]; where the source does not tell that, since it last told it (`seen_at`)."""
    told = version.issued_told or seen_at is None
    since = version.issued_at if told else max(seen_at or version.issued_at, version.issued_at)
    return max(0.0, (at - since).total_seconds())
