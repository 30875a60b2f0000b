"""MQTT in a site file: how a broker is reached, where in a message a value is, where records are sent."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import ENV_PATTERN, TOPIC_PART_PATTERN, Form, Text
from ems.site_schema.quantity import Quantity, SecondsPositive

Topic = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(pattern=TOPIC_PART_PATTERN)]


class BrokerForm(Form):
    """How a broker is reached, and who we are there. Files are relative to the site file."""

    protection: Literal["mutual", "password", "anonymous", "plain"] = Field(
        default="mutual",
        description="mutual: TLS, both sides with a certificate; password, anonymous: TLS, the broker alone; "
        "plain: no TLS",
    )
    ca: Text = Field(default="pki/mqtt/ca.pem", description="who signed the certificate of the broker, PEM")
    certificate: Text = Field(default="pki/mqtt/own.pem", description="ours, PEM")
    key: Text = Field(default="pki/mqtt/own.key", description="its private key, PEM, mode 0600")
    server_name: Text | None = Field(default=None, description="host in its certificate, if not `host`")
    user: Text | None = None
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    client_id: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="ems-<site>-<connection>"
    )
    keep_alive_s: Annotated[int, Field(ge=2, le=600)] = 10
    session_expiry_s: Annotated[int, Field(ge=0, le=604800)] = Field(
        default=0, description="how long the broker keeps messages for us; needs `time` at every point"
    )
    payload_bytes_max: Annotated[int, Field(ge=16, le=1048576)] = 65536
    status_topic: Topic | None = Field(default=None, description="says online, by our last will offline")


class SparkplugForm(Form):
    """What the plant is among the nodes of a Sparkplug host."""

    group: Name | None = Field(default=None, description="portfolio of the hierarchy")
    node: Name | None = Field(default=None, description="plant of the hierarchy")
    primary_host: Name | None = Field(default=None, description="nothing is sent while it is away")
    resend_s: Annotated[float, Quantity("s", ge=0, le=3600)] = Field(
        default=60.0, description="acknowledged so shortly before host or broker is lost: sent once more"
    )


class TelemetryForm(Form):
    """One broker that records of the historian are sent to."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    payload: Literal["json", "sparkplug"] = Field(default="json", description="json: JSON lines")
    topic: Topic | None = Field(default=None, description="of json: what all its topics begin with")
    sparkplug: SparkplugForm = SparkplugForm()
    mqtt: BrokerForm = BrokerForm()
    timeout_s: SecondsPositive = 10.0
    message_bytes_max: Annotated[int, Field(ge=1024, le=1048576)] = 65536
    backfill_bytes_per_s: Annotated[int, Field(ge=1024)] | None = Field(
        default=None, description="of rows that are late; left out: as fast as the broker takes them"
    )
    backlog_s_max: SecondsPositive = Field(default=900.0, description="rows that wait longer are alarmed")
