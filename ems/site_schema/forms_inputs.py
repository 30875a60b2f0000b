"""Inputs from elsewhere in a site file, and the files that say how a provider's answers are read."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import ENV_PATTERN, Form, Id, Text
from ems.site_schema.quantity import Quantity, SecondsPositive

Kind = Literal["price", "weather", "forecast", "outages"]
Price = Annotated[float, Quantity("CUR/kWh")]


class PriceTermsForm(Form):
    """From a market price to that of the contract."""

    factor: Annotated[float, Quantity("", ge=0, le=10)] = 1.0
    add_per_kwh: Price = 0.0


class InputForm(Form):
    """One input: prices, weather, forecasts or announced outages. Files are relative to the site file."""

    kind: Kind
    provider: Id | None = Field(default=None, description="how it is read; left out: our own form of CSV")
    folder: Text | None = Field(default=None, description="files are dropped here; or `url`")
    url: Text | None = Field(default=None, description="is asked for every so often; or `folder`")
    every_s: Annotated[float, Quantity("s", ge=1)] | None = Field(
        default=None, description="10 s for a folder, 15 min for a url"
    )
    timeout_s: SecondsPositive = Field(default=30.0, description="of a whole answer")
    bytes_max: Annotated[int, Field(ge=1000, le=100_000_000)] = 4_000_000
    protection: Literal["verified", "plain"] | None = Field(
        default=None, description="plain: no TLS; said by itself only for this machine"
    )
    ca: Text | None = Field(default=None, description="who signed the server's certificate, PEM")
    token_file: Text | None = Field(default=None, description="file with the token, mode 0600")
    token_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="or the variable of the environment that holds it"
    )
    auth_header: Text = "Authorization"
    auth_scheme: str = "Bearer"
    age_s_max: SecondsPositive | None = Field(default=None, description="older is late")
    ahead_s_min: SecondsPositive | None = Field(default=None, description="reaching less far ahead is late")
    price_min_per_kwh: Price | None = None
    price_max_per_kwh: Price | None = None
    import_: PriceTermsForm | None = Field(default=None, alias="import", description="from a market price")
    export: PriceTermsForm | None = Field(default=None, description="the same")
    certainty_min: Literal["planned", "likely", "possible"] | None = None
    complete: bool = Field(default=False, description="each issue lists every outage there is")
    mains_back_s: SecondsPositive | None = Field(
        default=None, description="mains lost in an announced outage, and good for so long: it is over"
    )


class ProviderTimeForm(Form):
    """Where the time of a row stands, and how."""

    at: Text = "time"
    form: Text = Field(default="iso", description="iso, s or ms since 1970 UTC, or a form of strptime")
    zone: Text | None = Field(default=None, description="IANA name, of times that tell none")
    step_s: Annotated[float, Quantity("s", ge=60, le=3600)] | None = Field(
        default=None, description="left out: the shortest distance of two rows"
    )


class ProviderColumnForm(Form):
    """Where one series stands."""

    at: Text = Field(description="column of CSV, key of a record, or JSON pointer to a list")
    unit: Text | None = Field(default=None, description="of what is found; left out: the series' own")
    scale: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False, description="added after unit and scale")
    times: Literal["start", "end"] = Field(default="start", description="of its step")


class ProviderOutageForm(Form):
    """Where the parts of an announced outage stand in a row."""

    id: Text
    from_: Text = Field(alias="from")
    until: Text
    issued_at: Text | None = None
    status: Text | None = None
    reason: Text | None = None
    words: dict[Text, Literal["planned", "likely", "possible", "cancelled"]] = Field(
        default={}, description="what stands in `status`, and what it means here"
    )


class ProviderForm(Form):
    """How the files or answers of one source are read."""

    provider: Id
    source: Text = Field(description="where this was looked up")
    kind: Kind
    body: Literal["csv", "json"]
    shape: Literal["records", "columns"] = "records"
    rows: str = Field(default="", description="JSON pointer to the list of records")
    time: ProviderTimeForm = ProviderTimeForm()
    issued: Text | None = Field(default=None, description="where the time of issue stands; or: on arrival")
    columns: dict[Text, ProviderColumnForm] = Field(default={}, description="by series")
    expect: dict[Text, Text] = Field(default={}, description="what must stand where, such as a unit")
    outage: ProviderOutageForm | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
