"""What point maps and device families look like: where the points of a kind of device live on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from ems.assets import OnSilence
from ems.points import AssetKind
from ems.site import Protocol
from ems.site_schema.forms_base import Form, Id, Text
from ems.site_schema.forms_modbus import ModbusForm
from ems.site_schema.quantity import PointQuantity, Quantity, SecondsPositive


class PointForm(Form):
    """Where one point lives: value = raw * scale * sign + offset, in `unit`."""

    address: int | str
    table: Literal["holding", "input", "coil", "discrete", "node"] | None = None
    type: str = Field(default="", description="left out with sunspec: the model says it")
    scale: Annotated[float, Quantity("", gt=0)] = 1.0
    offset: Annotated[float, Quantity("")] = 0.0
    sign: Literal[1, -1] = 1
    unit: str | None = Field(default=None, description="unit of the device; default: the point's own")
    range: list[PointQuantity] = Field(min_length=2, max_length=2, description="plausible [low, high]")
    rate_per_s_max: PointQuantity | None = Field(default=None, description="most it can move in a second")
    age_s_max: SecondsPositive
    writable: bool = False
    writes_per_day: Annotated[int, Field(ge=1)] | None = None
    bit: Annotated[int, Field(ge=0, le=63)] | None = Field(
        default=None, description="this bit of the raw count alone, 0 the least significant"
    )
    inverted: bool = Field(default=False, description="a contact that reads 0 while what it tells is so")
    open_wire_unsafe: bool = Field(
        default=False, description="somebody has looked at it: a cut wire reads as healthy, as remote"
    )
    codes: dict[str, float | str] = Field(
        default={}, description="raw count to value, or to the name of a state; other counts are bad"
    )
    byte_order: Literal["big", "little"] | None = None
    word_order: Literal["big", "little"] | None = None
    value: str | None = Field(default=None, description="mqtt, http_json: JSON pointer of it")
    quality: str | None = Field(default=None, description="beside `value`: JSON pointer of its quality")
    good: list[bool | int | str] = Field(default=[], description="what `quality` says of a good value")
    time: str | None = Field(default=None, description="JSON pointer of the time of the sample")
    time_form: Literal["iso", "s", "ms"] | None = Field(
        default=None, description="how `time` stands there: iso"
    )
    percent_of: Text | None = Field(default=None, description="sunspec: point that this is a percentage of")
    states: dict[str, float] = Field(default={}, description="sunspec: value by symbol, the first that holds")


class IdentityForm(Form):
    """Where a device tells one part of what it is, and what this map was written for."""

    address: int | str | None = Field(default=None, description="left out with sunspec: it is in model 1")
    table: Literal["holding", "input", "node"] | None = None
    type: Text = "string"
    length: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="registers of a modbus text"
    )
    value: Text | None = Field(default=None, description="http_json: JSON pointer of it in the answer")
    expect: Text | None = Field(default=None, description="the text it must tell")
    starts: Text | None = Field(default=None, description="what it must begin with")
    one_of: list[Text] = Field(default=[], description="texts of which it must tell one")
    low: Text | None = Field(default=None, alias="from", description="lowest firmware this map is right for")
    high: Text | None = Field(default=None, alias="to", description="highest firmware this map is right for")
    byte_order: Literal["big", "little"] | None = None
    word_order: Literal["big", "little"] | None = None


class MapForm(Form):
    """A point map: a file of its own, for one kind of device."""

    device: Text
    protocol: Protocol = Field(strict=False)
    byte_order: Literal["big", "little"] = "big"
    word_order: Literal["big", "little"] = "big"
    identity: dict[Literal["manufacturer", "model", "firmware", "serial"], IdentityForm] = {}
    modbus: ModbusForm | None = Field(
        default=None, description="what the device takes, of modbus and sunspec"
    )
    points: dict[str, PointForm] = Field(min_length=1)


class PointChangeForm(Form):
    """What is different on one device from its map or family; what is left out stays as it is there."""

    from_: Id | None = Field(default=None, alias="from", description="channel of the family that it is")
    address: int | str | None = None
    table: Literal["holding", "input", "coil", "discrete", "node"] | None = None
    type: Text | None = None
    scale: Annotated[float, Quantity("", gt=0)] | None = None
    offset: Annotated[float, Quantity("")] | None = None
    sign: Literal[1, -1] | None = None
    unit: str | None = None
    range: list[PointQuantity] | None = Field(default=None, min_length=2, max_length=2)
    rate_per_s_max: PointQuantity | None = None
    age_s_max: SecondsPositive | None = None
    writes_per_day: Annotated[int, Field(ge=1)] | None = None
    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    inverted: bool | None = None
    open_wire_unsafe: bool | None = None
    codes: dict[str, float | str] | None = None
    byte_order: Literal["big", "little"] | None = None
    word_order: Literal["big", "little"] | None = None
    percent_of: Text | None = None
    states: dict[str, float] | None = None


class FamilySourceForm(Form):
    """Where the registers of a family were read, so that anybody can look again."""

    document: Text = Field(description="title and version of the maker's document, or of who read it")
    where: Text = Field(description="where it can be found: an address, or a repository and a path")
    unverified: Text = Field(description="what nobody has held against the hardware yet")


class AskForm(Form):
    """A number that the site file must tell, as the registers count in parts of it."""

    unit: str
    about: Text


class OnSilenceForm(Form):
    """What the device itself does with a setpoint when nobody writes to it any more."""

    action: OnSilence | None = Field(
        default=None, strict=False, description="left out: it depends, or is unknown"
    )
    timeout_s: SecondsPositive | None = Field(
        default=None, description="fixed by the maker; left out: it can be set"
    )
    timeout_point: Id | None = Field(default=None, description="point that tells this time-out [s]")
    value_point: Id | None = Field(default=None, description="point that tells the value of its silence")
    about: Text


class LineForm(Form):
    """How the maker delivers it: what `ems scan` and a new site file begin with."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    unit_id: Annotated[int, Field(ge=0, le=255)] | None = None
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] | None = None
    parity: Literal["even", "odd", "none"] | None = None
    stop_bits: Literal[1, 2] | None = None


class FamilyPointForm(PointForm):
    """A point of a family: its scale and range may be parts of numbers that only the site knows."""

    times: Id | None = Field(default=None, description="the scale is multiplied by this number of `asks`")
    per: Id | None = Field(default=None, description="the scale is divided by this number of `asks`")
    range_times: Id | None = Field(default=None, description="the range is multiplied by this one")


class FamilyForm(MapForm):
    """A device family: a point map with what it was written from and what the device does by itself."""

    family: Id = Field(description="its name, that of its file")
    maker: Text
    assets: list[Annotated[AssetKind, Field(strict=False)]] = Field(
        default=[], description="kinds of asset that its points may belong to"
    )
    source: FamilySourceForm
    asks: dict[Id, AskForm] = {}
    line: LineForm = LineForm()
    watchdog_point: Id | None = Field(default=None, description="point that our heartbeat is written to")
    heartbeat_in: Id | None = Field(default=None, description="point that counts while the device lives")
    silence: dict[Id, OnSilenceForm] = Field(default={}, description="by setpoint")
    notes: list[Text] = []
    points: dict[str, FamilyPointForm] = {}  # type: ignore[assignment]
    channels: dict[Id, FamilyPointForm] = Field(
        default={}, description="terminals; the site file says which point is wired to which"
    )
