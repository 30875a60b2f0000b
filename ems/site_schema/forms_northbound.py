"""Servers in a site file: where they listen, who may come in, what they show and what may be told."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Id, PointId, Text
from ems.site_schema.forms_northbound_ua import UaServerForm
from ems.site_schema.quantity import Quantity, SecondsPositive

Port = Annotated[int, Field(ge=1, le=65535)]
RegisterNumber = Annotated[int, Field(ge=0, le=65535)]


class TlsForm(Form):
    """TLS with a certificate on both sides. Files are relative to the site file."""

    ca: Text = Field(default="pki/modbus/ca.pem", description="who signs those of the other side, PEM")
    certificate: Text = Field(default="pki/modbus/own.pem", description="ours, PEM")
    key: Text = Field(default="pki/modbus/own.key", description="its private key, PEM, mode 0600")
    revoked: Text | None = Field(default=None, description="list of revoked certificates of ca, PEM")
    server_name: Text | None = Field(default=None, description="host in the device's certificate, if another")


class WriteRightsForm(Form):
    """Which bounds may be written through a server, and by whom."""

    limits: list[Id] = Field(min_length=1)
    roles: list[Text] = Field(default=[], description="roles in client certificates")
    subjects: list[Text] = Field(default=[], description="common names of client certificates")
    plain_from: list[Text] = Field(default=[], description="addresses that may write without TLS")
    per_s: Annotated[float, Quantity("", gt=0, le=10)] = 1.0


class ServedRowForm(Form):
    """Where one value is shown."""

    table: Literal["holding", "input", "both"] = "both"
    address: RegisterNumber
    type: Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"] = "f32"
    word_order: Literal["big", "little"] = "big"
    scale: Annotated[float, Quantity("")] = 1.0
    offset: Annotated[float, Quantity("")] = 0.0
    not_available: int | None = None
    quality_at: RegisterNumber | None = None
    age_at: RegisterNumber | None = None


class ModbusServerForm(Form):
    """One Modbus server."""

    host: Text = "127.0.0.1"
    port: Port | None = Field(default=None, description="802 with tls, 502 without")
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    clients: list[Text] = Field(default=[], description="addresses and networks that may connect")
    tls: TlsForm | None = None
    connections_max: Annotated[int, Field(ge=1, le=200)] = 16
    per_client_max: Annotated[int, Field(ge=1, le=200)] = 4
    idle_s: SecondsPositive = 60.0
    requests_per_s: Annotated[float, Quantity("", gt=0, le=1000)] = 50.0
    writes: WriteRightsForm | None = None
    map: dict[PointId, ServedRowForm] = Field(default={}, description="left out: the automatic map")


class NorthboundForm(Form):
    """Servers that show the plant to others."""

    modbus: dict[Id, ModbusServerForm] = {}
    opc_ua: dict[Id, UaServerForm] = {}
