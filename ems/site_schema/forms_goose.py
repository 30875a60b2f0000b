"""GOOSE in a site file: the interface, and the control blocks that are listened to."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import Form, Text


class GooseBlockForm(Form):
    """One GOOSE control block, as its messages must be; all of it stands in the SCD file."""

    control_block: Text = Field(description="gocbRef, such as IED1LD0/LLN0$GO$gcbTrip")
    app_id: Annotated[int, Field(ge=0, le=0xFFFF)] = Field(description="APPID, such as 0x0001")
    destination: Text = Field(description="multicast address, such as 01:0c:cd:01:00:01")
    conf_rev: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = Field(description="confRev; another is refused")
    members: list[Text] = Field(
        min_length=1, description="of its data set in order, such as IED1LD0/XCBR1.Pos.stVal [ST]"
    )
    go_id: Text | None = Field(default=None, description="goID; left out: any")
    data_set: Text | None = Field(default=None, description="datSet; left out: any")
    simulation: bool = Field(default=False, description="true: simulated messages are taken for real")
    without_q: bool = Field(default=False, description="true: the data set holds no quality")


class GooseForm(Form):
    """Where is listened, and to what."""

    interface: Text = Field(description="network interface, such as eth1")
    blocks: list[GooseBlockForm] = Field(min_length=1)
