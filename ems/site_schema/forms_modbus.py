"""What a Modbus device takes, in its map and in a site file."""

from typing import Annotated, Literal

from pydantic import Field

from ems.modbus import REGISTERS_LEAST, REGISTERS_MAX
from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import Quantity


class ModbusForm(Form):
    """What is left out is as the map says, and else as the protocol allows."""

    registers_max: Annotated[int, Field(ge=REGISTERS_LEAST, le=REGISTERS_MAX)] | None = Field(
        default=None, description="registers of one read request: 125"
    )
    holes_max: Annotated[int, Field(ge=0, le=REGISTERS_MAX)] | None = Field(
        default=None, description="unmapped registers read along to save a request: 8"
    )
    pause_s: Annotated[float, Quantity("s", ge=0, le=1)] | None = Field(
        default=None, description="from an answer to the next request: 0"
    )
    write_with: Literal[6, 16] | None = Field(
        default=None, description="function that a single register is written with: 6"
    )
