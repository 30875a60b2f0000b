"""What servers of several protocols have in a site file: certificates, and who may tell which bounds."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import Form, Id, Text
from ems.site_schema.quantity import Quantity

Port = Annotated[int, Field(ge=1, le=65535)]


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
