"""OPC UA servers in a site file: who may come in, how it is protected, and what may be told."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import ENV_PATTERN, Form, Id, Text
from ems.site_schema.quantity import Quantity

Policy = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "None"]


class UaUserForm(Form):
    """Somebody the server knows."""

    role: Text | None = Field(default=None, description="what `writes.roles` may name")
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    certificate: Text | None = Field(default=None, description="or the user's certificate, DER or PEM")


class UaWritesForm(Form):
    """Which bounds may be written, and by whom."""

    limits: list[Id] = Field(min_length=1)
    roles: list[Text] = Field(default=[], description="roles of users")
    users: list[Text] = Field(default=[], description="names of users")
    per_s: Annotated[float, Quantity("", gt=0, le=10)] = 1.0


class UaServerForm(Form):
    """One OPC UA server. Files are relative to the site file."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 4840
    endpoint: Annotated[str, Field(pattern=r"^/?[\w./-]*$")] = "/ems"
    clients: list[Text] = Field(default=[], description="addresses and networks that may connect")
    policies: list[Policy] = Field(
        default=["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"], min_length=1
    )
    mode: Literal["SignAndEncrypt", "Sign"] = "SignAndEncrypt"
    certificate: Text = Field(default="pki/opcua/own.der", description="ours, DER or PEM")
    key: Text = Field(default="pki/opcua/own.key", description="its private key, PEM, mode 0600")
    trusted: Text = Field(default="pki/opcua/trusted", description="folder of client programs' certificates")
    users: dict[Text, UaUserForm] = {}
    anonymous: bool = Field(default=False, description="a program that is trusted may read without a user")
    connections_max: Annotated[int, Field(ge=1, le=100)] = 16
    per_client_max: Annotated[int, Field(ge=1, le=100)] = 4
    requests_per_s: Annotated[float, Quantity("", gt=0, le=1000)] = 50.0
    sessions_max: Annotated[int, Field(ge=1, le=100)] = 8
    subscriptions_max: Annotated[int, Field(ge=1, le=50)] = 5
    items_max: Annotated[int, Field(ge=1, le=20000)] = 2000
    writes: UaWritesForm | None = None
