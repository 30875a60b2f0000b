"""Servers in a site file: where they listen, who may come in, what they show and what may be told."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Id, PointId, Text
from ems.site_schema.forms_northbound_iec104 import Iec104ServerForm
from ems.site_schema.forms_northbound_parts import Port, TlsForm, WriteRightsForm
from ems.site_schema.forms_northbound_ua import UaServerForm
from ems.site_schema.quantity import Quantity, SecondsPositive

RegisterNumber = Annotated[int, Field(ge=0, le=65535)]


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
    iec104: dict[Id, Iec104ServerForm] = {}
