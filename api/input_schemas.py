"""What the service tells of inputs from elsewhere."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel


class InputState(StrEnum):
    """How an input does, worst first."""

    OVERRUN = "overrun"  # mains lost in one of its outages are not back at its end
    LATE = "late"
    FAILED = "failed"  # the last look brought nothing, or what came cannot be kept
    REFUSED = "refused"  # the last thing that came
    FRESH = "fresh"


class InputOut(BaseModel):
    """One input from elsewhere. Texts are empty where nothing is to be said; `told_at`: when all this was."""

    input: str
    kind: str
    source: str
    used_for: str
    state: InputState
    told_at: datetime | None
    version: int | None
    issued_at: datetime | None
    age_s: float | None
    reaches: datetime | None
    late: str
    failed: str
    refused: str
    trouble: str


class InputsOut(BaseModel):
    """Every input of the site file, in its order; `overrun`: an announced outage whose mains are not back."""

    at: datetime
    overrun: str
    inputs: list[InputOut]


class VersionOut(BaseModel):
    """One version that values rest on."""

    input: str
    version: int
    issued_at: datetime
    arrived_at: datetime
    sha256: str


class PricesOut(BaseModel):
    """Prices of quarters of an hour from `start` on, as known now; each with the number of its version.

    No version: nobody told it, and it is that of the tariff.
    """

    start: datetime
    step_s: float
    currency: str
    import_per_kwh: list[float]
    export_per_kwh: list[float]
    import_version: list[int | None]
    export_version: list[int | None]
    versions: list[VersionOut]


class OutageOut(BaseModel):
    """The newest issue of one announced outage."""

    input: str
    id: str
    issued_at: datetime
    start: datetime
    end: datetime
    certainty: str
    cancelled: bool
    planned_with: bool
    reason: str
    version: int


class InputValuesOut(BaseModel):
    """What prices and outages inputs tell, as known at `at`; no prices where no input is to tell any."""

    at: datetime
    prices: PricesOut | None
    outages: list[OutageOut]
