"""Modbus/TCP Security of our connections: a libmodbus device inside stunnel, and servers not to believe."""

import asyncio
import dataclasses
import datetime as dt
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.field import FieldIO
from connectors.modbus.served import Frame, first_frame
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.northbound import TlsFiles
from ems.site import Protocol as Wire
from tests.contract.plants import command, connection, free_port, site_of
from tests.contract.test_independent_peers import slave
from tests.contract.test_northbound_tls import stunnel
from tests.contract.tls_pki import NOW, Authority

__all__ = ["slave"]
DAY = dt.timedelta(days=1)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


class Field:
    """Our side of one connection with TLS, and what it tells."""

    def __init__(self, port: int, tls: TlsFiles, now: dt.datetime = NOW) -> None:
        plain = connection("dev", Wire.MODBUS_TCP, port, 2.0)
        self.clock = VirtualClock(now)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.io = FieldIO(
            site_of(dataclasses.replace(plain, tls=tls)),
            clock=self.clock,
            on_event=lambda at, kind, fields: self.told.append((kind, dict(fields))),
        )

    async def read(self) -> dict[str, float | None]:
        self.clock.advance(1.0)
        return {r.point: r.value for r in await self.io.read_all()}

    def reason(self) -> str:
        return " ".join(str(fields.get("reason")) for _, fields in self.told)


@pytest.mark.needs_server
async def test_libmodbus_inside_stunnel_is_read_and_written(tmp_path, ca, slave, require_program):
    device = ca.signs("pcs", hosts=("pcs.example",), ends=NOW + 10 * DAY)
    own = ca.signs("ems")
    port = free_port()
    process = subprocess.Popen([str(slave), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    lines = (
        f"connect = 127.0.0.1:{port}\ncert = {device.certificate}\nkey = {device.key}\n"
        f"CAfile = {ca.file}\nverifyChain = yes\nrequireCert = yes\n"
    )
    async with stunnel(require_program("stunnel"), tmp_path, lines) as outer:
        field = Field(outer, own.files(ca.file, "pcs.example"))
        try:
            assert (await field.read())["dev.p_set_kw"] == 0.0
            results = await field.io.write(
                [command("dev.p_set_kw", -123.4), command("dev.p_limit_kw", 250.5)]
            )
            assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
            readings = await field.read()
            assert readings["dev.p_set_kw"] == pytest.approx(-123.4)
            assert readings["dev.p_limit_kw"] == 250.5
            (ends,) = field.io.expiring().values()
            assert ends.startswith("the certificate of the device ends on")
            await unknown_to(outer, ca, tmp_path)
        finally:
            await field.io.close()
            process.kill()
            process.communicate()


async def unknown_to(port: int, ca: Authority, folder: Path) -> None:
    """With TLS 1.3 the connection seems to be made: that we are refused comes with the first answer."""
    stranger = Authority(folder / "other", "Other CA").signs("ems")
    field = Field(port, stranger.files(ca.file, "pcs.example"))
    assert set((await field.read()).values()) == {None}
    assert field.reason().startswith("connection lost")  # with the alert, where it comes before the reset
    await field.io.close()


@asynccontextmanager
async def device(context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a device that answers every read with zeros, in TLS records of one byte where it may."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        with suppress(OSError):
            while data := await reader.read(4096):
                received += data
                while (found := first_frame(received)) is not None:
                    frame, size = found
                    received = received[size:]
                    for byte in _zeros(frame):
                        writer.write(bytes((byte,)))
                        await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def _zeros(frame: Frame) -> bytes:
    count = int.from_bytes(frame.pdu[3:5], "big")
    body = bytes((frame.unit, 3, 2 * count)) + bytes(2 * count)
    return frame.transaction.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body


def context_of(ca: Authority, **made: Any) -> ssl.SSLContext:
    """Of a device that asks for our certificate; as little strict as the library lets it be."""
    party = ca.signs(made.pop("cn", "pcs"), **({"hosts": ("127.0.0.1",)} | made), file="device")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(party.certificate, party.key)
    context.load_verify_locations(ca.file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_answer_in_many_tls_records_is_one_answer(ca):
    async with device(context_of(ca)) as port:
        field = Field(port, ca.signs("ems").files(ca.file))
        assert (await field.read())["dev.p_kw"] == 0.0
        await field.io.close()


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"hosts": ("127.0.0.2",)}, "IP address mismatch"),
        ({"hosts": ()}, "IP address mismatch"),
        ({"ends": NOW - DAY}, "certificate has expired"),
        ({"begins": NOW + DAY}, "not yet valid"),
        ({"key": rsa.generate_private_key(public_exponent=65537, key_size=1024)}, "key too weak"),
    ],
    ids=["another host", "no host", "expired", "not yet", "rsa 1024"],
)
async def test_device_that_is_not_to_be_believed_is_not_read_and_it_says_why(ca, made, reason):
    async with device(context_of(ca, **made)) as port:
        field = Field(port, ca.signs("ems").files(ca.file))
        assert set((await field.read()).values()) == {None}
        assert reason in field.reason()
        await field.io.close()


async def test_device_of_another_authority_or_without_tls_is_not_read(ca, tmp_path):
    other = Authority(tmp_path / "other")
    async with device(context_of(other)) as port:
        field = Field(port, ca.signs("ems").files(ca.file))
        assert set((await field.read()).values()) == {None}
        assert "is not believed" in field.reason()
        await field.io.close()


async def test_device_that_speaks_tls_of_old_alone_is_not_read(ca):
    context = context_of(ca)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with device(context) as port:
        field = Field(port, ca.signs("ems").files(ca.file))
        assert set((await field.read()).values()) == {None}
        assert "TLS" in field.reason()
        await field.io.close()


@pytest.mark.parametrize("wrong", ["open key", "no file", "expired", "weak", "another key"])
async def test_own_certificate_that_cannot_be_used_is_told_and_nothing_is_sent(ca, wrong):
    made: dict[str, Any] = {"expired": {"ends": NOW - DAY}}.get(wrong, {})
    if wrong == "weak":
        made = {"key": rsa.generate_private_key(public_exponent=65537, key_size=1024)}
    own = ca.signs("ems", **made)
    if wrong == "open key":
        own.key.chmod(0o644)
    elif wrong == "no file":
        own.certificate.unlink()
    elif wrong == "another key":
        own.key.write_bytes(ca.signs("other").key.read_bytes())
    field = Field(free_port(), own.files(ca.file))
    assert set((await field.read()).values()) == {None}
    said = {
        "open key": "others may read it", "no file": "cannot be read", "expired": "expired on",
        "weak": "RSA key of 1024 bits", "another key": "is not the key of",
    }  # fmt: skip
    assert said[wrong] in field.reason()
    await field.io.close()
