"""An OPC UA server that shows the plant: who may come in, how it is protected, and what may be told."""

from dataclasses import dataclass

from ems.northbound import Door, WriteRights

UA_POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")


@dataclass(frozen=True, slots=True, kw_only=True)
class UaUser:
    """Somebody a server knows, by password or by certificate. No secrets."""

    name: str
    role: str = ""  # one of `writes.roles` may write
    password_env: str | None = None  # variable of the environment that holds the password
    password_file: str | None = None  # or the file that holds it, readable by its owner alone
    certificate: str | None = None  # or the user's own certificate, DER or PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class UaServerFiles:
    """Certificates of a server. Files are relative to the site file, or whole paths. No secrets."""

    certificate: str  # ours, DER or PEM
    key: str  # its private key, PEM, readable by its owner alone
    trusted: str  # folder of the certificates of client programs that may come in


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaServer:
    """One OPC UA server of a site."""

    id: str
    door: Door
    endpoint: str = "/ems"
    policies: tuple[str, ...] = (
        "Basic256Sha256",
        "Aes128Sha256RsaOaep",
        "Aes256Sha256RsaPss",
    )  # or None alone
    mode: str = "SignAndEncrypt"  # | Sign
    files: UaServerFiles | None = None  # None with policy None
    users: tuple[UaUser, ...] = ()
    anonymous: bool = False  # a program that is believed may read without saying who uses it
    sessions_max: int = 8
    subscriptions_max: int = 5  # of a session
    items_max: int = 2000  # monitored by a session
    writes: WriteRights | None = None  # None: read-only

    @property
    def is_open(self) -> bool:
        """Whether it shows the plant to whoever can reach it, without protection."""
        return self.policies == ("None",)
