"""J1939 in a site file: the CAN bus, and who is listened to on it."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Text
from ems.site_schema.quantity import SecondsPositive


class CanForm(Form):
    """A CAN bus, and who is listened to on it."""

    interface: Text | None = Field(default=None, description="of SocketCAN, such as can0")
    serial: Text | None = Field(default=None, description="or a serial adapter (slcan), such as /dev/ttyACM0")
    bitrate: Literal[10000, 20000, 50000, 100000, 125000, 250000, 500000, 800000, 1000000] | None = Field(
        default=None, description="of the serial adapter, 250000; that of an interface is set by the system"
    )
    source: Annotated[int, Field(ge=0, le=253)] = Field(default=0, description="address of the sender")
    name: Annotated[int, Field(ge=0, lt=2**64)] | None = Field(
        default=None, description="its NAME, as it claims its address; left out: any"
    )
    periods: dict[str, SecondsPositive] = Field(
        default={}, description="how often a PGN is sent, where that is not usual"
    )
