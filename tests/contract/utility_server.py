"""A utility's server of another make: XML of envoy_schema, HTTP of the standard library, TLS on both sides.

It shares no code with ours: models, name spaces and the order of elements are those of BSGIP's Envoy.
"""

import contextlib
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from envoy_schema.server.schema.sep2 import der, end_device, function_set_assignments, metering_mirror
from envoy_schema.server.schema.sep2.der_control_types import ActivePower
from envoy_schema.server.schema.sep2.device_capability import DeviceCapabilityResponse
from envoy_schema.server.schema.sep2.event import EventStatus
from envoy_schema.server.schema.sep2.identification import Link, ListLink
from envoy_schema.server.schema.sep2.response import DERControlResponse as Response
from envoy_schema.server.schema.sep2.time import TimeResponse
from envoy_schema.server.schema.sep2.types import DateTimeIntervalType, TimeQualityType

from tests.contract.tls_pki import Party

MEDIA = "application/sep+xml"
PIN = 111115
PUTS: dict[str, Any] = {
    "/edev/1/der/1/dercap": der.DERCapability,
    "/edev/1/der/1/derg": der.DERSettings,
    "/edev/1/der/1/ders": der.DERStatus,
    "/edev/1/der/1/dera": der.DERAvailability,
}


def watts(value: int, multiplier: int = 0) -> ActivePower:
    return ActivePower(value=value, multiplier=multiplier)


@dataclass
class Event:
    """A DERControl as the server keeps it."""

    mrid: str
    start_s: int
    duration_s: int
    base: dict[str, Any]
    created_s: int = 0
    status: int = 0
    random_start_s: int | None = None
    random_duration_s: int | None = None
    replies: str = "03"

    def response(self) -> der.DERControlResponse:
        return der.DERControlResponse(
            href=f"/derc/{self.mrid}",
            mRID=self.mrid,
            replyTo="/rsp",
            responseRequired=self.replies,
            creationTime=self.created_s or self.start_s,
            EventStatus_=EventStatus(
                currentStatus=self.status, dateTime=self.start_s, potentiallySuperseded=False
            ),
            interval=DateTimeIntervalType(start=self.start_s, duration=self.duration_s),
            randomizeStart=self.random_start_s,
            randomizeDuration=self.random_duration_s,
            DERControlBase_=der.DERControlBase(**self.base),
        )


@dataclass
class Program:
    primacy: int
    default: dict[str, Any] | None = None
    events: list[Event] = field(default_factory=list)


@dataclass
class Answer:
    """What is answered in the place of the truth."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = MEDIA
    drip_s: float = 0.0  # between two bytes


class UtilityServer:
    """One server on loopback, up until `stop`. What it holds may be changed while it is up."""

    def __init__(self, party: Party, ca: Path, lfdi: str, *, port: int = 0, ciphers: str = "") -> None:
        self.party, self.ca, self.lfdi, self.ciphers = party, ca, lfdi, ciphers
        self.programs: dict[str, Program] = {}
        self.ahead_s, self.pin, self.poll_s, self.post_s = 0, PIN, 10, 10
        self.closes = False  # after each answer
        self.page = 0  # items in a page at most; 0: as asked
        self.instead: dict[str, Answer | Callable[[], Answer]] = {}  # path -> what is answered
        self.puts: dict[str, list[Any]] = {}
        self.responses: list[tuple[str, int]] = []  # (mRID, status)
        self.mirrors: list[Any] = []
        self.readings: list[Any] = []
        self.asked: list[str] = []
        self.bodies: list[tuple[str, bytes]] = []  # path and what was put or posted there
        self.bugs: list[BaseException | None] = []  # of this server
        self.port = port
        self._server: ThreadingHTTPServer | None = None

    def now_s(self) -> int:
        return int(time.time()) + self.ahead_s

    def start(self) -> "UtilityServer":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.party.certificate, self.party.key)
        owner = self

        class Handler(_Handler):
            server_of = owner

        class Listening(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> Any:
                connection, place = super().get_request()
                connection.settimeout(10.0)
                wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return wrapped, place

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that go, and handshakes that fail, are what tests are about; the rest are bugs."""
                error = sys.exc_info()[1]
                if not isinstance(error, OSError):
                    owner.bugs.append(error)

        self._server = Listening(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    # ---- what is served ---------------------------------------------------------------------------

    def document(self, path: str, first: int, most: int) -> Any:
        """The model behind a path; None: there is none."""
        parts = path.strip("/").split("/")
        match parts:
            case ["dcap"]:
                return DeviceCapabilityResponse(
                    href="/dcap",
                    TimeLink=Link(href="/tm"),
                    EndDeviceListLink=ListLink(href="/edev", all_=2),
                    MirrorUsagePointListLink=ListLink(href="/mup", all_=0),
                )
            case ["tm"]:
                return TimeResponse(
                    href="/tm", currentTime=self.now_s(), dstEndTime=0, dstOffset=0, dstStartTime=0,
                    quality=TimeQualityType.level_3_source, tzOffset=0,
                )  # fmt: skip
            case ["edev"]:
                return self._list(end_device.EndDeviceListResponse, "EndDevice", self._devices(), first, most)
            case ["edev", "1", "rg"]:
                return end_device.RegistrationResponse(
                    href=path, dateTimeRegistered=self.now_s(), pIN=self.pin
                )
            case ["edev", "1", "fsa"]:
                one = function_set_assignments.FunctionSetAssignmentsResponse(
                    href="/edev/1/fsa/1", mRID="0F", DERProgramListLink=ListLink(href="/derp", all_=1)
                )
                return self._list(
                    function_set_assignments.FunctionSetAssignmentsListResponse,
                    "FunctionSetAssignments", [one], first, most,
                )  # fmt: skip
            case ["derp"]:
                rows = [self._program(name, p) for name, p in self.programs.items()]
                return self._list(der.DERProgramListResponse, "DERProgram", rows, first, most)
            case ["derp", name, what] if name in self.programs:
                return self._of_program(self.programs[name], what, first, most)
            case ["edev", "1", "der"]:
                return self._list(der.DERListResponse, "DER_", [_der()], first, most, subscribable=False)
            case ["mup", "1"] if self.mirrors:
                return self.mirrors[-1].model_copy(update={"href": "/mup/1", "postRate": self.post_s})
        return None

    def _devices(self) -> list[Any]:
        other = end_device.EndDeviceResponse(href="/edev/9", lFDI="AA" * 20, sFDI=1, changedTime=1)
        mine = end_device.EndDeviceResponse(
            href="/edev/1",
            lFDI=self.lfdi,
            sFDI=123,
            changedTime=1,
            postRate=self.post_s,
            DERListLink=ListLink(href="/edev/1/der", all_=1),
            FunctionSetAssignmentsListLink=ListLink(href="/edev/1/fsa", all_=1),
            RegistrationLink=Link(href="/edev/1/rg"),
        )
        return [other, mine]

    def _program(self, name: str, program: Program) -> der.DERProgramResponse:
        return der.DERProgramResponse(
            href=f"/derp/{name}",
            mRID=name.encode().hex().upper(),
            description=f"program {name}",
            primacy=program.primacy,
            DefaultDERControlLink=Link(href=f"/derp/{name}/dderc"),
            DERControlListLink=ListLink(href=f"/derp/{name}/derc", all_=len(program.events)),
        )

    def _of_program(self, program: Program, what: str, first: int, most: int) -> Any:
        if what == "dderc" and program.default is not None:
            return der.DefaultDERControl(
                href="/dderc", mRID="0D", DERControlBase_=der.DERControlBase(**program.default)
            )
        if what == "derc":
            rows = [e.response() for e in program.events]
            return self._list(der.DERControlListResponse, "DERControl", rows, first, most, poll=False)
        return None

    def _list(
        self, model: Any, name: str, rows: list[Any], first: int, most: int, *,
        poll: bool = True, subscribable: bool = True,
    ) -> Any:  # fmt: skip
        page = rows[first : first + (self.page or most)]
        more = {"pollRate": self.poll_s} if poll else {}
        more |= {"subscribable": 0} if subscribable else {}
        return model(href="/list", all_=len(rows), results=len(page), **{name: page or None}, **more)


def _der() -> Any:
    return der.DER(
        href="/edev/1/der/1",
        DERCapabilityLink=Link(href="/edev/1/der/1/dercap"),
        DERSettingsLink=Link(href="/edev/1/der/1/derg"),
        DERStatusLink=Link(href="/edev/1/der/1/ders"),
        DERAvailabilityLink=Link(href="/edev/1/der/1/dera"),
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: UtilityServer

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(p.split("=") for p in query.split("&") if p)
        self.server_of.asked.append(path)
        found = self.server_of.instead.get(path)
        if found is not None:
            self._answer(found if isinstance(found, Answer) else found())
            return
        document = self.server_of.document(path, int(asked.get("s", 0)), int(asked.get("l", 1000)))
        if document is None:
            self._answer(Answer(status=404))
        else:
            self._answer(Answer(bytes(document.to_xml(skip_empty=True, exclude_none=True))))

    def do_PUT(self) -> None:
        body = self._body()
        model = PUTS.get(self.path)
        if model is None or self.path in self.server_of.instead:
            self._answer(Answer(status=405))
            return
        self.server_of.puts.setdefault(self.path, []).append(model.from_xml(body))
        self._answer(Answer(status=204))

    def do_POST(self) -> None:
        body, owner = self._body(), self.server_of
        if self.path in owner.instead:
            found = owner.instead[self.path]
            self._answer(found if isinstance(found, Answer) else found())
            return
        headers = {}
        match self.path:
            case "/rsp":
                said = Response.from_xml(body)
                assert said.endDeviceLFDI.upper() == owner.lfdi
                owner.responses.append((said.subject, int(said.status or 0)))
            case "/mup":
                owner.mirrors.append(metering_mirror.MirrorUsagePointRequest.from_xml(body))
                headers = {"Location": "/mup/1"}
            case "/mup/1":
                owner.readings.append(metering_mirror.MirrorMeterReadingRequest.from_xml(body))
            case _:
                self._answer(Answer(status=404))
                return
        self._answer(Answer(status=201, headers=headers))

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server_of.bodies.append((self.path, body))
        return body

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.server_of.closes:
            self.send_header("Connection", "close")
        if answer.body:
            self.send_header("Content-Type", answer.kind)
        self.end_headers()
        with contextlib.suppress(OSError):
            if not answer.drip_s:
                self.wfile.write(answer.body)
            for byte in answer.body if answer.drip_s else b"":
                self.wfile.write(bytes([byte]))
                time.sleep(answer.drip_s)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving(*arguments: Any, **options: Any) -> Iterator[UtilityServer]:
    server = UtilityServer(*arguments, **options).start()
    try:
        yield server
        assert not server.bugs
    finally:
        server.stop()
