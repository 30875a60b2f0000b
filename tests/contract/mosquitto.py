"""A Mosquitto of our own on free ports, and its clients: a broker and peers that share no code with ours."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ems.site import MqttBroker
from tests.contract.plants import free_port

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONF = """
per_listener_settings true
user root
persistence true
persistence_location {folder}/
max_queued_messages 100000
max_inflight_messages 200

listener {tls} 127.0.0.1
cafile {pki}/ca.pem
certfile {pki}/broker.pem
keyfile {pki}/broker.key
require_certificate true
use_identity_as_username true
{mutual_acl}
listener {password} 127.0.0.1
cafile {pki}/ca.pem
certfile {pki}/broker.pem
keyfile {pki}/broker.key
allow_anonymous false
password_file {folder}/users

listener {plain} 127.0.0.1
allow_anonymous true
"""


def make_pki(folder: Path) -> Path:
    """Certificates, made with the very commands of docs/mqtt.md."""
    block = re.search(r"```sh\n(# Certificates.*?)```", (DOCS / "mqtt.md").read_text(), re.DOTALL)
    assert block is not None, "docs/mqtt.md shows how certificates are made"
    text = block[1].replace("DNS:broker.plant.example", "DNS:localhost,IP:127.0.0.1")
    done = subprocess.run(["sh", "-e"], input=text, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "pki" / "mqtt"


@dataclass(slots=True)
class Mosquitto:
    """Start, stop, kill; its store outlives that."""

    folder: Path
    pki: Path
    program: str
    acl: str | None = None  # of the listener with certificates
    tls: int = field(default_factory=free_port)
    password: int = field(default_factory=free_port)
    plain: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "Mosquitto":
        self.folder.mkdir(exist_ok=True)
        users = self.folder / "users"
        if not users.exists():
            subprocess.run(["mosquitto_passwd", "-c", "-b", str(users), "ems", "secret"], check=True)
        if self.acl is not None:
            (self.folder / "acl").write_text(self.acl)
        conf = self.folder / "mosquitto.conf"
        acl = "" if self.acl is None else f"acl_file {self.folder}/acl\n"
        conf.write_text(
            CONF.format(
                folder=self.folder, pki=self.pki, tls=self.tls, password=self.password, plain=self.plain,
                mutual_acl=acl,
            )
        )  # fmt: skip
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen([self.program, "-c", str(conf)], stdout=log, stderr=log)
        give_up = time.monotonic() + 10.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.plain), 0.2).close()
                return self
            except OSError:
                assert time.monotonic() < give_up, (self.folder / "log").read_text()
                time.sleep(0.01)

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self, frozen: bool) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def publish(self, topic: str, payload: str | bytes, *more: str) -> None:
        """By mosquitto_pub, at QoS 1."""
        raw = payload.encode() if isinstance(payload, str) else payload
        source = [] if "-n" in more else ["-s"]
        arguments = ["-p", str(self.plain), "-t", topic, "-q", "1", *source, *more]
        subprocess.run(["mosquitto_pub", "-V", "5", *arguments], input=raw, check=True, timeout=10)

    def subscriber(self, *topics: str, count: int = 0, more: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """A mosquitto_sub that prints `topic payload`, a line each; it ends after `count` of them."""
        asked = [a for t in topics for a in ("-t", t)]
        many = ["-C", str(count)] if count else []
        base = ["mosquitto_sub", "-W", "30", "-V", "5", "-p", str(self.plain), "-q", "1", "-v"]
        return subprocess.Popen([*base, *asked, *many, *more], stdout=subprocess.PIPE, text=True)

    def broker(self, client_id: str = "ems-test", **changes: object) -> MqttBroker:
        """How one of ours reaches it, with certificates."""
        given: dict[str, object] = {
            "client_id": client_id,
            "ca": str(self.pki / "ca.pem"),
            "certificate": str(self.pki / "own.pem"),
            "key": str(self.pki / "own.key"),
        }
        return MqttBroker(**{**given, **changes})  # type: ignore[arg-type]
