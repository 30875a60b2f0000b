"""Databases and files in a site file: where records of the historian are kept besides."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import ENV_PATTERN, SCHEMA_PATTERN, Form, Text
from ems.site_schema.quantity import SecondsPositive

Name = Annotated[str, Field(min_length=1, max_length=63)]  # as long as PostgreSQL keeps names
SchemaName = Annotated[str, Field(pattern=SCHEMA_PATTERN)]


class DatabaseForm(Form):
    """One PostgreSQL database that takes the records. Files are relative to the site file."""

    host: Text = Field(description="a name, an address, or the folder of a local socket")
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    database: Name
    schema_: SchemaName = Field(default="ems", alias="schema")
    user: Name
    protection: Literal["verified", "mutual", "plain"] | None = Field(
        default=None,
        description="verified: TLS, the server known by its certificate; mutual: ours too; plain: no TLS, "
        "with a host that is this machine alone",
    )
    ca: Text = Field(default="pki/postgresql/ca.pem", description="who signed the server's certificate, PEM")
    certificate: Text = Field(default="pki/postgresql/own.pem", description="ours, PEM")
    key: Text = Field(default="pki/postgresql/own.key", description="its private key, PEM, mode 0600")
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    timeout_s: SecondsPositive = Field(default=60.0, description="a batch that takes longer is halved")
    backfill_per_s: Annotated[int, Field(ge=10)] | None = Field(
        default=None, description="readings that are late; left out: as fast as the server takes them"
    )
    backlog_s_max: SecondsPositive = Field(default=900.0, description="rows that wait longer are alarmed")


class ExportForm(Form):
    """One folder that takes the records as files. Relative to the site file."""

    folder: Text
    format: Literal["csv", "csv.gz", "parquet"] = "csv.gz"
    every: Literal["hour", "day"] = "day"
    clock: Literal["plant", "utc"] = Field(default="plant", description="whose hours and days")
    mounted: bool = Field(default=False, description="the folder must hang on a mount: a stick, a share")
    settle_s: SecondsPositive = Field(default=300.0, description="so long after its end a period is written")
    backlog_s_max: SecondsPositive | None = Field(
        default=None, description="rows that wait longer are alarmed; two periods and a half"
    )
