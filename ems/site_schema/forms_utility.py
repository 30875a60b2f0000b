"""Servers of a utility in a site file: where they are, how they are known, what their words tell here."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import ENV_PATTERN, LFDI_PATTERN, Form, Id, Text
from ems.site_schema.quantity import Kw, Quantity, Ratio, SecondsPositive

Lfdi = Annotated[str, Field(pattern=LFDI_PATTERN)]


class UtilityTlsForm(Form):
    """Certificates of both sides. Files are relative to the site file."""

    protection: Literal["authority", "pinned", "system"] = Field(
        default="authority", description="of a VTN: by whom it is known"
    )
    ca: Text = Field(default="pki/utility/ca.pem", description="who signs the server's certificate, PEM")
    certificate: Text = Field(
        default="pki/utility/own.pem", description="ours, PEM; of a VTN that is pinned: its own"
    )
    key: Text = Field(default="pki/utility/own.key", description="its private key, PEM, mode 0600")
    revoked: Text | None = Field(default=None, description="list of revoked certificates of ca, PEM")
    server_name: Text | None = Field(default=None, description="host in its certificate, if another")
    server_lfdi: Lfdi | None = Field(default=None, description="of its certificate, which may name no host")
    ccm8: bool = Field(default=False, description="offer ECDHE-ECDSA-AES128-CCM8 too")


class TellingForm(Form):
    """What one word of a server tells."""

    limit: Id | None = Field(default=None, description="the limit that is told; or shares")
    shares: dict[Id, Ratio] = Field(
        default={}, description="limits, and which share of the value each is told"
    )
    otherwise_kw: Kw | None = Field(default=None, description="told while the server says nothing of it")


class VtnPricesForm(Form):
    """The program of a VTN whose prices are used, and the input that they go to."""

    program: Text = Field(description="its programName")
    input: Id = Field(description="an input of kind price with a folder, in our own form of CSV")


class UtilityServerForm(Form):
    """One server of a utility. Keys that only one protocol has are in `ONLY`."""

    protocol: Literal["ieee2030_5", "openadr3"]
    url: Text = Field(description="https://host:port/path of its DeviceCapability, or of the VTN")
    tls: UtilityTlsForm = UtilityTlsForm()
    tells: dict[Text, TellingForm] = {}
    age_s_max: Annotated[float, Quantity("s", ge=60, le=86400)] = Field(
        default=900.0, description="it is told on no longer than this after the server's last whole answer"
    )
    clock_s_max: Annotated[float, Quantity("s", ge=1, le=3600)] = 30.0
    timeout_s: SecondsPositive = 20.0
    pin: Annotated[int, Field(ge=0, le=999_999)] | None = Field(
        default=None, description="of our registration"
    )
    set_max_kw: Kw | None = Field(default=None, description="what opModMaxLimW is a percentage of")
    post_device: bool = Field(default=True, description="tell it ratings and state of the plant")
    post_meter: bool = Field(default=True, description="tell it the readings of the meter at the POI")
    token_url: Text | None = Field(default=None, description="where our secret is changed for a token")
    client_id: Text | None = Field(default=None, description="who we are there")
    client_secret_file: Text | None = Field(default=None, description="our secret, mode 0600")
    client_secret_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="or a variable that holds it"
    )
    scope: str = Field(default="", description="asked for with the token")
    every_s: Annotated[float, Quantity("s", ge=10, le=3600)] = Field(default=60.0, description="it is asked")
    ven_name: str = Field(default="", description="ours, as in the targets of an event")
    targets: list[Text] = Field(default=[], max_length=20, description="ours beside it")
    ask_targets: bool = Field(default=False, description="put each into a question of its own (3.1)")
    programs: list[Text] = Field(default=[], description="names of those that count; left out: all")
    prices: VtnPricesForm | None = Field(default=None, description="whose prices are used, and where")


ONLY = {  # keys that only one protocol has
    "ieee2030_5": {"pin", "set_max_kw", "post_device"},
    "openadr3": {
        "token_url", "client_id", "client_secret_file", "client_secret_env", "scope", "every_s", "ven_name",
        "targets", "ask_targets", "programs", "prices",
    },
}  # fmt: skip
ONLY_TLS = {"ieee2030_5": {"key", "revoked", "server_lfdi", "ccm8"}, "openadr3": {"protection"}}
