"""Modbus/TCP Security at our server: who comes in, who may write, against stunnel, OpenSSL and GnuTLS."""

import asyncio
import datetime as dt
import os
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from connectors.northbound import listener
from ems.northbound import WriteRights
from ems.requests import TellLimit
from tests.contract.northbound_peer import (
    DSO_AT,
    GRID_AT,
    Raw,
    framed,
    read_pdu,
    refused,
    serving,
    words,
    write_pdu,
)
from tests.contract.plants import free_port
from tests.contract.tls_pki import NOW, Authority, Party, client_context

RIGHTS = WriteRights(limits=("dso",), roles=("GridOperator",), subjects=("ppc",), per_s=10.0)
WRITE = write_pdu(DSO_AT, *words(120.25))
READ = read_pdu(GRID_AT, 2)
VALUE = struct.pack(">BBf", 3, 4, 123.5)
DAY = dt.timedelta(days=1)
Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@asynccontextmanager
async def protected(demo, tmp_path: Path, ca: Authority, own: Party | None = None, **door) -> AsyncIterator:
    own = ca.signs("ems", hosts=("127.0.0.1",)) if own is None else own
    async with serving(demo, tmp_path / "run", writes=RIGHTS, tls=own.files(ca.file), **door) as found:
        yield found


async def asked(port: int, ca: Authority, party: Party | None, pdu: bytes, **options) -> bytes:
    """The answer a client gets; b"": the connection was ended instead."""
    try:
        client = await Raw.to(port, ssl=client_context(ca.file, party), **options)
    except OSError:
        return b""
    try:
        return await client.ask(pdu)
    except (OSError, EOFError):
        return b""
    finally:
        await client.close()


# --- who comes in, and who may write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "may_write"),
    [
        ({"cn": "somebody", "role": "GridOperator"}, True),
        ({"cn": "ppc"}, True),
        ({"cn": "ppc", "role": "Viewer"}, True),
        ({"cn": "somebody", "role": "Viewer"}, False),
        ({"cn": "somebody"}, False),
        ({"cn": "GridOperator"}, False),
        ({"cn": "somebody", "role": b"\x13\x0cGridOperator"}, False),  # not UTF-8: PrintableString
        ({"cn": "somebody", "role": b"\x0c\x0dGridOperator"}, False),  # its length is wrong
        ({"cn": "somebody", "role": b"GridOperator"}, False),
        ({"cn": "somebody", "role": b"\x0c\x02\xff\xfe"}, False),
        ({"cn": "somebody", "role": "GridOperator", "names": b"\x30\x04\xa3\x02\x30\x00"}, False),  # X.400
    ],
    ids=str,
)
async def test_bound_is_written_by_role_or_common_name(demo, tmp_path, ca, made, may_write):
    async with protected(demo, tmp_path, ca) as (port, plant):
        client = ca.signs(**made, file="client")
        assert await asked(port, ca, client, READ) == VALUE
        assert await asked(port, ca, client, WRITE) == (WRITE[:5] if may_write else refused(16, 1))
        told = [r.request for r in plant.desk.collect()]
        assert [r.ask for r in told] == [TellLimit(limit="dso", value_kw=120.25)] * may_write
        if may_write:
            assert told[0].session.startswith(f"ppc: CN={made['cn']}")
        else:
            assert plant.records.last.client.name == f"CN={made['cn']}"


@pytest.mark.parametrize(
    "made",
    [
        {"ends": NOW - DAY},
        {"begins": NOW + DAY},
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=1024)},
        {"key": ec.generate_private_key(ec.SECP192R1())},
        {"usage": (ExtendedKeyUsageOID.SERVER_AUTH,)},
    ],
    ids=["expired", "not yet", "rsa 1024", "curve of 192", "of a server"],
)
async def test_client_with_a_certificate_that_is_not_good_enough_is_not_let_in(demo, tmp_path, ca, made):
    async with protected(demo, tmp_path, ca) as (port, plant):
        client = ca.signs("ppc", role="GridOperator", **made)
        assert await asked(port, ca, client, READ) == b""
        assert plant.records.last.code == "no_handshake"
        assert plant.records.last.what == "connection"


async def test_client_of_another_authority_or_without_a_certificate_is_not_let_in(demo, tmp_path, ca):
    async with protected(demo, tmp_path, ca) as (port, plant):
        other = Authority(tmp_path / "other").signs("ppc", role="GridOperator")
        assert await asked(port, ca, other, READ) == b""
        assert await asked(port, ca, None, READ) == b""
        plain = await Raw.to(port)
        plain.writer.write(framed(READ))
        assert await plain.ended()
        await plain.close()
        assert plant.records.count >= 3
        assert await asked(port, ca, ca.signs("ppc"), READ) == VALUE


async def test_revoked_certificate_is_not_let_in_from_the_next_list_on(demo, tmp_path, ca):
    own, lost = ca.signs("ems", hosts=("127.0.0.1",)), ca.signs("ppc", file="lost")
    files = own.files(ca.file, revoked=ca.revokes())
    async with serving(demo, tmp_path / "run", writes=RIGHTS, tls=files) as (port, plant):
        assert await asked(port, ca, lost, READ) == VALUE
        os.utime(ca.revokes(lost), ns=(1, 10**18))
        assert await asked(port, ca, lost, READ) == b""
        assert "revoked" in plant.records.last.why
        assert await asked(port, ca, ca.signs("ppc"), READ) == VALUE
        os.utime(ca.revokes(ends=NOW - DAY), ns=(1, 2 * 10**18))
        assert await asked(port, ca, ca.signs("ppc"), READ) == b""  # the list is old: nobody is believed
        ca.file.with_name("revoked.pem").write_text("no list")
        assert await asked(port, ca, ca.signs("ppc"), READ) == b""


async def test_tls_of_old_is_not_spoken(demo, tmp_path, ca, monkeypatch):
    async with protected(demo, tmp_path, ca) as (port, _):
        client = ca.signs("ppc")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(ca.file, client)
            context.minimum_version = context.maximum_version = version
            one = await Raw.to(port, ssl=context)
            assert await one.ask(READ) == VALUE
            await one.close()
        context = client_context(ca.file, client)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Raw.to(port, ssl=context)
        context = client_context(ca.file, client)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA256:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Raw.to(port, ssl=context)


async def test_handshakes_that_never_end_count_and_are_over_in_time(demo, tmp_path, ca, monkeypatch):
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.5)
    async with protected(demo, tmp_path, ca, per_client_max=3) as (port, plant):
        silent = [await Raw.to(port) for _ in range(3)]
        one_more = await Raw.to(port)
        assert await one_more.ended()
        await one_more.close()
        assert "3 connections already" in plant.records.last.why
        for one in silent:
            assert await one.ended()
            await one.close()
        assert await asked(port, ca, ca.signs("ppc"), READ) == VALUE


async def test_new_certificate_is_shown_to_the_next_client_and_a_bad_one_lets_nobody_in(demo, tmp_path, ca):
    async with protected(demo, tmp_path, ca) as (port, _):
        client, shown = ca.signs("ppc"), []
        for _ in range(2):
            one = await Raw.to(port, ssl=client_context(ca.file, client))
            shown.append(one.writer.get_extra_info("peercert")["serialNumber"])
            await one.close()
            own = ca.signs("ems", hosts=("127.0.0.1",))
            os.utime(own.certificate, ns=(1, 10**18))
        assert len(set(shown)) == 2
        own = ca.signs("ems", ends=NOW - DAY)
        os.utime(own.certificate, ns=(1, 2 * 10**18))
        assert await asked(port, ca, client, READ) == b""


# --- others' programs -------------------------------------------------------------------------------------


@pytest.fixture
def run() -> Run:
    async def go(*command: str, stdin: bytes = b"", until_s: float = 20.0) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await asyncio.wait_for(process.communicate(stdin), until_s)
        assert process.returncode is not None
        return process.returncode, out.decode("latin-1")

    return go


@asynccontextmanager
async def stunnel(program: str, folder: Path, lines: str) -> AsyncIterator[int]:
    """The port at which stunnel accepts; its other lines as given."""
    port, file = free_port(), folder / "stunnel.conf"
    head = f"foreground = yes\npid =\ndebug = 4\n[modbus]\naccept = 127.0.0.1:{port}\n"
    file.write_text(head + lines)
    process = await asyncio.create_subprocess_exec(
        program, str(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20.0):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield port
    finally:
        process.kill()
        await process.wait()


@pytest.mark.needs_server
async def test_mbpoll_inside_stunnel_reads_and_writes(demo, tmp_path, ca, require_program, run):
    client = ca.signs("grid", role="GridOperator")
    async with protected(demo, tmp_path, ca) as (port, plant):
        lines = (
            f"client = yes\nconnect = 127.0.0.1:{port}\nCAfile = {ca.file}\nverifyChain = yes\n"
            f"checkIP = 127.0.0.1\ncert = {client.certificate}\nkey = {client.key}\n"
        )
        mbpoll = require_program("mbpoll")
        async with stunnel(require_program("stunnel"), tmp_path, lines) as inner:
            common = (mbpoll, "-0", "-m", "tcp", "-p", str(inner), "-a", "1", "-1", "-o", "10", "-B")
            code, text = await run(*common, "-r", str(GRID_AT), "-c", "1", "-t", "4:float", "127.0.0.1")
            assert (code, "123.5" in text) == (0, True), text
            code, text = await run(*common, "-r", str(DSO_AT), "-t", "4:float", "127.0.0.1", "120.25")
            assert code == 0, text
        (one,) = plant.desk.collect()
        assert one.request.ask == TellLimit(limit="dso", value_kw=120.25)
        assert one.request.session == "ppc: CN=grid, role GridOperator, at 127.0.0.1"


@pytest.mark.needs_server
async def test_gnutls_reads_and_an_unknown_client_of_it_does_not(demo, tmp_path, ca, require_program, run):
    """TLS that shares no code with ours."""
    client = ca.signs("ppc")
    async with protected(demo, tmp_path, ca) as (port, _):
        common = (
            require_program("gnutls-cli"), "--x509cafile", str(ca.file), "-p", str(port), "127.0.0.1",
            "--logfile", str(tmp_path / "log"),
        )  # fmt: skip
        own = ("--x509certfile", str(client.certificate), "--x509keyfile", str(client.key))
        assert await heard(*common, *own) == framed(VALUE)
        assert await heard(*common) == b""


async def heard(*command: str) -> bytes:
    """What a program that passes bytes on says to one read; b"" where it ends without."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(framed(READ))
    async with asyncio.timeout(20.0):
        try:
            out = await process.stdout.readexactly(len(framed(VALUE)))
        except asyncio.IncompleteReadError as error:
            out = error.partial
    with suppress(ProcessLookupError):
        process.kill()
    await process.communicate()
    return out


@pytest.mark.needs_server
async def test_openssl_finds_nothing_old_to_agree_on(demo, tmp_path, ca, require_program, run):
    client = ca.signs("ppc")
    async with protected(demo, tmp_path, ca) as (port, _):
        common = (
            require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(ca.file),
            "-verify_return_error", "-verify_ip", "127.0.0.1",
            "-cert", str(client.certificate), "-key", str(client.key), "-cipher", "ALL:@SECLEVEL=0",
        )  # fmt: skip
        _, text = await run(*common, "-tls1_2")
        assert "Verification: OK" in text, text
        assert "Cipher    : ECDHE-ECDSA-" in text, text
        for old in ("-tls1_1", "-tls1"):
            _, text = await run(*common, old)
            assert "Cipher is (NONE)" in text, text
