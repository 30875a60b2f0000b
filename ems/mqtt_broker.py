"""How an MQTT broker is reached, and who we are there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttBroker:
    """How a broker is reached and who we are there. No secrets; files as the site file says."""

    client_id: str
    protection: str = "mutual"  # mutual | password | anonymous | plain
    ca: str = ""  # PEM: who signed the certificate of the broker
    certificate: str = ""  # ours, PEM
    key: str = ""  # its private key, PEM, readable by its owner alone
    server_name: str | None = None  # host its certificate is made out to, where that is not the one called
    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    keep_alive_s: int = 10
    session_expiry_s: int = 0  # how long the broker keeps messages for us while we are away
    payload_bytes_max: int = 65536
    status_topic: str | None = None  # says `online`, and by our last will `offline`

    @property
    def is_protected(self) -> bool:
        """Whether messages are encrypted and the broker is known by its certificate."""
        return self.protection != "plain"
