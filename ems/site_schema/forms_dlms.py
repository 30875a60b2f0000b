"""DLMS in a site file: which meter is spoken to, as whom, and how it is known."""

from typing import Annotated, Literal

from pydantic import Field

from ems.dlms import ADDRESS_MAX
from ems.site_schema.forms_base import ENV_PATTERN, TITLE_PATTERN, Form, Text

Address = Annotated[int, Field(ge=1, le=ADDRESS_MAX)]


class DlmsForm(Form):
    """A meter, and who we are to it. Files are relative to the site file."""

    client: Address = Field(default=16, description="ours, as the meter knows it; 16 is the public client")
    server: Address = Field(default=1, description="logical device; 1 manages the meter")
    authentication: Literal["none", "low", "gmac"] = Field(
        default="none", description="low: a password; gmac: two keys, and everything is encrypted (suite 0)"
    )
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="of low: variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    system_title: Annotated[str, Field(pattern=TITLE_PATTERN)] | None = Field(
        default=None, description="of gmac: ours, 16 hexadecimal digits"
    )
    encryption_key_file: Text | None = Field(
        default=None, description="of gmac: 32 hexadecimal digits, mode 0600"
    )
    authentication_key_file: Text | None = Field(default=None, description="the same of the other key")
    counter_file: Text | None = Field(
        default=None, description="of gmac: holds the next invocation counter, and is written by us"
    )
    clock: str = Field(default="0-0:1.0.0*255", description="whose skew is told; empty: it is not asked")
    time_zone: Text | None = Field(default=None, description="of times that come without their deviation")
