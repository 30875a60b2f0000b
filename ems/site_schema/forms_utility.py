"""Servers of a utility in a site file: where they are, how they are known, what their words tell here."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import LFDI_PATTERN, Form, Id, Text
from ems.site_schema.quantity import Kw, Quantity, Ratio, SecondsPositive

Lfdi = Annotated[str, Field(pattern=LFDI_PATTERN)]


class UtilityTlsForm(Form):
    """Certificates of both sides. Files are relative to the site file."""

    ca: Text = Field(default="pki/utility/ca.pem", description="who signs the server's certificate, PEM")
    certificate: Text = Field(default="pki/utility/own.pem", description="ours, PEM")
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


class UtilityServerForm(Form):
    """One server of a utility."""

    protocol: Literal["ieee2030_5"]
    url: Text = Field(description="https://host:port/path of its DeviceCapability")
    tls: UtilityTlsForm = UtilityTlsForm()
    pin: Annotated[int, Field(ge=0, le=999_999)] | None = Field(
        default=None, description="of our registration"
    )
    tells: dict[Text, TellingForm] = Field(min_length=1)
    age_s_max: Annotated[float, Quantity("s", ge=60, le=86400)] = Field(
        default=900.0, description="it is told on no longer than this after the server's last whole answer"
    )
    clock_s_max: Annotated[float, Quantity("s", ge=1, le=3600)] = 30.0
    timeout_s: SecondsPositive = 20.0
    set_max_kw: Kw | None = Field(default=None, description="what opModMaxLimW is a percentage of")
    post_device: bool = Field(default=True, description="tell it ratings and state of the plant")
    post_meter: bool = Field(default=True, description="tell it the readings of the meter at the POI")
