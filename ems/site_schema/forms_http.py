"""Devices that tell JSON over HTTP in a site file: how one is reached, and who we are there."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import (
    ENV_PATTERN,
    HEADER_PATTERN,
    MEDIA_PATTERN,
    SCHEME_PATTERN,
    Form,
    Text,
)


class HttpForm(Form):
    """How a device is reached over HTTP. Files are relative to the site file."""

    protection: Literal["authority", "pinned", "system", "plain"] = Field(
        default="authority",
        description="authority: TLS, its certificate signed by `ca`; pinned: TLS, it is `certificate`; "
        "system: TLS, authorities of the operating system; plain: no TLS",
    )
    ca: Text = Field(default="pki/http/ca.pem", description="who signed the certificate of the device, PEM")
    certificate: Text = Field(default="pki/http/device.pem", description="of the device, where it is pinned")
    server_name: Text | None = Field(default=None, description="host in its certificate, if not `host`")
    user: Text | None = None
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    token_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds a token"
    )
    token_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    auth_header: Annotated[str, Field(pattern=HEADER_PATTERN)] = Field(
        default="Authorization", description="header of the token"
    )
    auth_scheme: Annotated[str, Field(pattern=SCHEME_PATTERN)] = Field(
        default="Bearer", description="in front of the token"
    )
    content_type: Annotated[str, Field(pattern=MEDIA_PATTERN)] = Field(
        default="application/json", description="what the device calls its answers"
    )
    answer_bytes_max: Annotated[int, Field(ge=64, le=1048576)] = 65536
