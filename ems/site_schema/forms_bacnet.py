"""BACnet in a site file: who is spoken to, and at which priority it is commanded."""

from typing import Annotated, Literal

from pydantic import Field

from ems.bacnet import INSTANCE_MAX, NETWORK_MAX
from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import Quantity


class BacnetForm(Form):
    """A BACnet device, and how it is spoken to."""

    device: Annotated[int, Field(ge=0, le=INSTANCE_MAX)] = Field(description="instance of its device object")
    bind: str = Field(default="", description="our own address, HOST or HOST:PORT; left out: any")
    priority: Annotated[int, Field(ge=1, le=16)] = Field(
        default=10, description="of what is commanded, 1 the strongest; 1, 2 and 6 are reserved"
    )
    priority_is: Literal["manual_life_safety", "automatic_life_safety", "minimum_on_off"] | None = Field(
        default=None, description="a reserved priority (1, 2, 6) is meant"
    )
    network: Annotated[int, Field(ge=1, le=NETWORK_MAX)] | None = Field(
        default=None, description="of a device behind a router"
    )
    mac: str = Field(default="", description="its address on that network, in hexadecimal")
    pause_s: Annotated[float, Quantity("s", ge=0, le=10)] = Field(
        default=0.0, description="between an answer and the next request"
    )
