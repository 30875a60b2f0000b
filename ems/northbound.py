"""Servers that show the plant to a utility, a plant controller or SCADA, and what these may write."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRights:
    """Which bounds may be written through a server, and by whom. Nothing else ever may.

    A client is known by its certificate: by the role in it, or by its common name. One without a certificate
    is known by its address alone, which whoever is on the network can take.
    """

    limits: tuple[str, ...]  # ids of `control.limits` that are told by messages
    roles: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    plain_from: tuple[str, ...] = ()  # addresses of clients without a certificate
    per_s: float = 1.0  # writes that one client may have taken in a second, in the long run


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of one side of a TLS connection on which both sides show one. No secrets."""

    ca: str  # PEM: who signs the certificates of the other side
    certificate: str  # ours, PEM
    key: str  # its private key, PEM, readable by its owner alone
    revoked: str | None = None  # PEM: the authority's list of certificates that do not count any more
    server_name: str | None = None  # of clients: host in the server's certificate, if not the one called


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a server listens, who may come in, and how much."""

    host: str  # an address of this machine
    port: int
    clients: tuple[str, ...] = ()  # addresses and networks that may connect; none named: everybody
    tls: TlsFiles | None = None
    connections_max: int = 16
    per_client_max: int = 4  # connections of one address
    idle_s: float = 60.0  # a connection without a whole request for so long is closed
    requests_per_s: float = 50.0  # of one connection; what is more waits


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRow:
    """Where a Modbus server shows one name."""

    point: str  # a point of the plant, `limit.ID`, `cap.KIND_kw`, `ems.WHAT`, or `server.WHAT`
    table: str  # holding | input | both
    address: int
    data_type: str
    word_order: str = "big"
    scale: float = 1.0  # raw = (value - offset) / scale; unit: that of the name
    offset: float = 0.0  # unit: that of the name; ratio
    not_available: int | None = None  # raw count where there is no good value; floats: NaN
    quality_at: int | None = None  # register with the quality, in the same table
    age_at: int | None = None  # register with the age [s]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusServer:
    """One Modbus server of a site."""

    id: str
    door: Door
    unit_id: int
    rows: tuple[ServedRow, ...] = ()  # none: the automatic map
    writes: WriteRights | None = None  # None: read-only
