"""One session with a broker: paho underneath, driven by one thread, made once and never mended.

paho rather than a wrapper of it that hides the reason codes of PUBACK: a broker that refuses a message
acknowledges it too (MQTT 5.0, 3.4.2.1), and what was refused was not delivered.
"""

import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.expiry import Expiry
from connectors.link import LinkError, Refused, Untrusted
from connectors.opcua.certificates import CertificateError, out_of_date, read_certificate, read_secret
from connectors.passwords import password_of
from connectors.wire_log import QUIET
from ems.clock import wall_s
from ems.site import MqttBroker

HEADER_BYTES_MAX = 4096  # of topic and properties, beside the payload
RECV_BYTES = 65536
RECEIVE_MAX = 100  # messages of QoS 1 that the broker may have sent and we not acknowledged
STEP_S = 0.1
REFUSED_FROM = 0x80  # reason codes: from here on something was refused
OF_USER = {0x86, 0x87, 0x8C}  # CONNACK: bad user name or password, not authorised, bad method
ONLINE, OFFLINE = "online", "offline"
# What paho raises for packets that are none: it trusts their lengths.
HOSTILE = (OSError, ValueError, TypeError, IndexError, KeyError, struct.error, MQTTException)


class _Client(paho.Client):
    """paho, which otherwise makes room for whatever length a packet claims, up to 256 MB."""

    packet_bytes_max = RECV_BYTES
    tap = QUIET
    has_secret = False  # CONNECT holds a password
    is_let_in = False  # CONNECT is answered

    def _sock_recv(self, bufsize: int) -> bytes:
        length = self._in_packet["remaining_length"]
        if length > self.packet_bytes_max:
            raise ValueError(f"the broker sends a packet of {length} bytes")
        data = super()._sock_recv(min(bufsize, RECV_BYTES))
        self.tap.received(data)
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        sent = super()._sock_send(buf)
        if self.tap.on:
            self.tap.sent(self._shown(bytes(buf[:sent])))
        return sent

    def _shown(self, data: bytes) -> bytes:
        """Nothing of CONNECT where it holds a password: what looks like it may stand in other fields too."""
        return b"*" * len(data) if self.has_secret and not self.is_let_in else data


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker says of us when we go, or are lost."""

    topic: str
    payload: bytes
    retained: bool


class _Named(ssl.SSLContext):
    """A context that holds the broker's certificate against one name, however it is called.

    It knows the socket it made, which paho leaves open where the handshake fails.
    """

    name: str | None = None
    made: ssl.SSLSocket | None = None

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        if self.name is not None:
            kwargs["server_hostname"] = self.name
        self.made = super().wrap_socket(*args, **kwargs)
        return self.made


def located(broker: MqttBroker, folder: Path) -> MqttBroker:
    """The same with whole paths: files are relative to the folder of the site file."""

    def whole(name: str) -> str:
        return str((folder / name).absolute())

    return replace(
        broker,
        ca=whole(broker.ca),
        certificate=whole(broker.certificate),
        key=whole(broker.key),
        password_file=None if broker.password_file is None else whole(broker.password_file),
    )


class Session:
    """From connecting to the first error. All methods belong to one thread.

    Parameters
    ----------
    broker : its files are whole paths.
    timeout_s : of the connection and of each answer that is waited for [s wall].
    now : aware time, to compare the validity of certificates with.
    on_message : called with each message, in `pump`.
    on_ack : called with the id of a published message and why it was refused ("" where it was taken).
    will : instead of that of the status topic.

    Attributes
    ----------
    tap : told every byte inside TLS, a password as stars; from the next `open` on.
    """

    def __init__(
        self,
        broker: MqttBroker,
        host: str,
        port: int,
        *,
        timeout_s: float,
        now: Callable[[], datetime],
        on_message: Callable[[paho.MQTTMessage], None] | None = None,
        on_ack: Callable[[int, str], None] | None = None,
        will: Will | None = None,
    ) -> None:
        self._broker, self._host, self._port = broker, host, port
        self.tap = QUIET
        self._will = will
        if will is None and broker.status_topic is not None:
            self._will = Will(topic=broker.status_topic, payload=OFFLINE.encode(), retained=True)
        self._timeout_s, self._now = timeout_s, now
        self._on_message, self._on_ack = on_message, on_ack
        self.expiries: list[Expiry] = []
        self.has_greeted = False  # it was told who we are, and has our will
        self._said: ReasonCode | None = None  # whether the broker lets us in
        self._ended = ""  # why it ended what stood
        self._granted: dict[int, Sequence[ReasonCode]] = {}
        self._error_line = ""
        self._client: _Client | None = None
        self._tls: _Named | None = None

    @property
    def where(self) -> str:
        """The broker, for a message."""
        return f"{self._host}:{self._port}"

    def open(self) -> None:
        """Connect and be let in. Raises LinkError; Untrusted or Refused where a person has to look."""
        client = self._made()
        self._client = client
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._broker.session_expiry_s
        properties.MaximumPacketSize = client.packet_bytes_max
        properties.ReceiveMaximum = RECEIVE_MAX
        self.tap.noted(f"connecting to {self.where}")
        try:
            client.connect(
                self._host,
                self._port,
                keepalive=self._broker.keep_alive_s,
                clean_start=self._broker.session_expiry_s == 0,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate of {self.where} is not believed: {error.verify_message}"
            raise Untrusted(f"{why} (ca is {self._broker.ca})") from None
        except HOSTILE as error:
            raise LinkError(f"cannot connect to {self.where}: {_words(error)}") from None
        self.has_greeted = True
        self._note_peer(client)
        self._until(lambda: self._said is not None, "it does not let us in")
        if self._said is not None and self._said.value >= REFUSED_FROM:
            kind = Refused if self._said.value in OF_USER else LinkError
            raise kind(f"{self.where} does not let us in: {self._said}")
        if self._broker.status_topic is not None:
            self.publish(self._broker.status_topic, ONLINE.encode(), retain=True)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics at QoS 1, with what the broker retains of them. Raises LinkError."""
        options = SubscribeOptions(qos=1, noLocal=True)
        result, mid = self._usable().subscribe([(t, options) for t in topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise LinkError(f"{self.where} cannot be asked for topics: {paho.error_string(result)}")
        self._until(lambda: mid in self._granted, "it does not answer what we ask for")
        refused = [t for t, code in zip(topics, self._granted.pop(mid), strict=False) if code.is_failure]
        if refused:
            raise Refused(f"{self.where} does not tell us {', '.join(refused)}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, is_text: bool = True) -> int:
        """Send at QoS 1; the id by which it will be acknowledged. Raises LinkError."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.PayloadFormatIndicator = int(is_text)
        try:
            info = self._usable().publish(topic, payload, qos=1, retain=retain, properties=properties)
        except HOSTILE as error:
            raise LinkError(f"{self.where}: {_words(error)}") from None
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"{self.where}: {paho.error_string(info.rc)}")
        return info.mid

    def pump(self, timeout_s: float) -> None:
        """Let messages come and go, for so long at most if nothing does [s wall]. Raises LinkError."""
        try:
            result = self._usable().loop(timeout_s)
        except HOSTILE as error:
            raise LinkError(f"{self.where}: {_words(error)}") from None
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._fault(result)

    def close(self) -> None:
        """Say goodbye where somebody hears it, and drop the socket."""
        client, self._client = self._client, None
        if client is None:
            return
        sock = client.socket()
        try:
            if self._will is not None and client.is_connected():
                client.publish(self._will.topic, self._will.payload, qos=1, retain=self._will.retained)
                client.loop(STEP_S)
            client.disconnect()
        except HOSTILE:
            pass
        for one in (sock, None if self._tls is None else self._tls.made):
            if one is not None:
                one.close()

    def _made(self) -> _Client:
        broker = self._broker
        client = _Client(
            callback_api_version=CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.packet_bytes_max = broker.payload_bytes_max + HEADER_BYTES_MAX
        client.tap = self.tap
        client.connect_timeout = self._timeout_s
        try:
            if broker.is_protected:
                self._tls = self._context()
                client.tls_set_context(self._tls)
            if broker.user is not None:
                password = password_of(broker.user, broker.password_env, broker.password_file)
                client.username_pw_set(broker.user, password)
                client.has_secret = password is not None
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        if (will := self._will) is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retained)
        client.max_inflight_messages_set(0)  # who publishes counts them
        client.on_connect = self._heard
        client.on_disconnect = self._over
        client.on_subscribe = lambda *a: self._granted.__setitem__(a[2], a[3])
        client.on_log = self._logged
        if self._on_message is not None:
            told = self._on_message
            client.on_message = lambda *a: told(a[2])
        client.on_publish = self._acked
        return client

    def _heard(self, client: paho.Client, data: Any, flags: Any, code: ReasonCode, *_: Any) -> None:
        self._said = code
        if self._client is not None:
            self._client.is_let_in = True

    def _over(self, client: paho.Client, data: Any, flags: Any, code: ReasonCode, *_: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._ended = str(code)

    def _acked(self, client: paho.Client, data: Any, mid: int, code: ReasonCode, *_: Any) -> None:
        if self._on_ack is not None:
            self._on_ack(mid, str(code) if code.value >= REFUSED_FROM else "")

    def _logged(self, client: paho.Client, data: Any, level: int, line: str) -> None:
        if level == paho.MQTT_LOG_ERR and not self._error_line:  # the first one is the cause
            self._error_line = line

    def _context(self) -> _Named:
        """Raises CertificateError: a file is missing, open to others, or not what it should be."""
        broker = self._broker
        context = _Named(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.name = broker.server_name
        self._note(f"the authority {broker.ca}", Path(broker.ca))
        try:
            context.load_verify_locations(broker.ca)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{broker.ca} holds no certificate in PEM: {error}") from None
        if broker.protection == "mutual":
            self._note(f"our certificate {broker.certificate}", Path(broker.certificate))
            read_secret(Path(broker.key))
            try:
                context.load_cert_chain(broker.certificate, broker.key, password=_no_password)
            except (OSError, ssl.SSLError, ValueError) as error:
                pair = f"{broker.key} is not the key of {broker.certificate}, in PEM without a password"
                raise CertificateError(f"{pair}: {_words(error)}") from None
        return context

    def _note(self, what: str, path: Path) -> None:
        certificate = read_certificate(path)
        self.expiries.append(Expiry(what, certificate.not_valid_after_utc))
        if late := out_of_date(certificate, self._now()):
            raise CertificateError(f"{what} {late}")

    def _note_peer(self, client: _Client) -> None:
        sock = client.socket()
        shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
        ends = shown.get("notAfter") if shown else None
        if isinstance(ends, str):
            at = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
            self.expiries.append(Expiry(f"the certificate of {self.where}", at))

    def _until(self, holds: Callable[[], bool], missing: str) -> None:
        give_up_s = wall_s() + self._timeout_s
        while not holds():
            if wall_s() > give_up_s:
                raise LinkError(f"{self.where}: {missing} within {self._timeout_s:g} s")
            try:
                self.pump(STEP_S)
            except LinkError:
                if self._said is not None and self._said.value >= REFUSED_FROM:
                    return  # it was told why
                raise

    def _fault(self, result: MQTTErrorCode) -> LinkError:
        """What an error of paho means here."""
        if self._ended:
            return LinkError(f"{self.where} ends it: {self._ended}")
        line = self._error_line
        if self._said is None and self._broker.is_protected:  # its alert may be lost when it hangs up
            ours = self._broker.certificate if self._broker.protection == "mutual" else "that we show none"
            return Untrusted(f"{self.where} hangs up; it refuses our certificate, it seems ({ours}): {line}")
        return LinkError(f"{self.where}: {line or paho.error_string(result)}")

    def _usable(self) -> _Client:
        if self._client is None:
            raise LinkError("not connected")
        return self._client


def _no_password() -> str:
    raise ValueError("it asks for a password")


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
