"""Where records of the historian go: databases, files on a schedule, and brokers as Sparkplug B."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLink:
    """A PostgreSQL database that keeps the records of one plant, or of many. No secrets."""

    id: str
    host: str  # a name, an address, or the folder of a local socket
    port: int
    database: str
    schema: str
    user: str
    protection: str  # verified | mutual | plain, the last on this machine alone
    ca: str = ""  # PEM: who signed the certificate of the server
    certificate: str = ""  # ours, PEM
    key: str = ""  # its private key, PEM, readable by its owner alone
    password_env: str | None = None
    password_file: str | None = None
    timeout_s: float  # a batch that takes longer is tried again in two
    backfill_per_s: float | None  # late readings in a second; None: as fast as the server takes them
    backlog_s_max: float  # rows that wait longer than this are alarmed


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLink:
    """A folder that takes the records as files."""

    id: str
    folder: str
    format: str  # csv | csv.gz | parquet
    every: str  # hour | day
    clock: str  # plant | utc: whose hours and days
    mounted: bool  # it must hang on a mount, such as a stick or a share
    settle_s: float  # so long after its end the files of a period are written
    backlog_s_max: float  # rows that wait longer than this are alarmed


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkplugNode:
    """What a plant is among the nodes of a Sparkplug host."""

    group: str
    node: str
    primary_host: str | None = None  # nothing is sent while it is away; None: whoever listens, listens
    resend_s: float = 60.0  # what was acknowledged so shortly before host or broker was lost is sent again
