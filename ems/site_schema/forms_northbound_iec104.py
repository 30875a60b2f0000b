"""Controlled stations of IEC 60870-5-104 in a site file: where they listen, what is where, who may tell."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Id, PointId, Text
from ems.site_schema.forms_iec104 import Wait, Window
from ems.site_schema.forms_northbound_parts import Port, TlsForm, WriteRightsForm
from ems.site_schema.quantity import Quantity

ObjectAddress = Annotated[int, Field(ge=1, le=0xFFFFFF)]


class Iec104TlsForm(TlsForm):
    """TLS with a certificate on both sides. Files are relative to the site file."""

    ca: Text = Field(default="pki/iec104/ca.pem", description="who signs those of the other side, PEM")
    certificate: Text = Field(default="pki/iec104/own.pem", description="ours, PEM")
    key: Text = Field(default="pki/iec104/own.key", description="its private key, PEM, mode 0600")


class Iec104RowForm(Form):
    """The information object of one name."""

    address: ObjectAddress
    type: Literal["float", "scaled", "normalized", "single_point", "double_point", "counter"] = "float"
    scale: Annotated[float, Quantity("")] = 1.0
    offset: Annotated[float, Quantity("")] = 0.0
    deadband: Annotated[float, Quantity("", ge=0)] = Field(
        default=0.0, description="a change of less is not told by itself; in the unit of the name"
    )


class Iec104CommandForm(Form):
    """The set-point command by which one limit is told."""

    address: ObjectAddress
    type: Literal["float", "scaled", "normalized"] = "float"
    scale: Annotated[float, Quantity("", gt=0)] = 1.0
    select: bool = Field(default=False, description="must be selected before it is executed")


class Iec104ServerForm(Form):
    """One controlled station."""

    host: Text = "127.0.0.1"
    port: Port | None = Field(default=None, description="19998 with tls, 2404 without")
    common_address: Annotated[int, Field(ge=1, le=0xFFFE)] = 1
    clients: list[Text] = Field(default=[], description="addresses and networks that may connect")
    tls: Iec104TlsForm | None = None
    connections_max: Annotated[int, Field(ge=1, le=32)] = 8
    per_client_max: Annotated[int, Field(ge=1, le=32)] = 4
    requests_per_s: Annotated[float, Quantity("", gt=0, le=1000)] = 50.0
    k: Window = Field(default=12, description="frames of ours without a confirmation")
    w: Window = Field(default=8, description="frames of a client after which we confirm")
    t1_s: Wait = Field(default=15.0, description="wait for a confirmation")
    t2_s: Wait = Field(default=10.0, description="until we confirm")
    t3_s: Wait = Field(default=20.0, description="until a quiet connection is tested")
    clock: Literal["utc", "local"] = "utc"
    time_tags: bool = Field(default=True, description="changes are told with their time")
    events_max: Annotated[int, Field(ge=100, le=100_000)] = 10_000
    writes: WriteRightsForm | None = None
    map: dict[PointId, Iec104RowForm] = Field(default={}, description="left out: the automatic list")
    commands: dict[Id, Iec104CommandForm] = Field(
        default={}, description="by limit of `writes`; left out: automatic ones"
    )
