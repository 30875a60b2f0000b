"""Devices that answer HTTP wrongly: no wrong value is taken, no late answer for the next, nothing crashes."""

import asyncio
import gzip
import random
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from connectors.field import FieldIO
from connectors.http_json.answer import HEAD_BYTES_MAX, MalformedAnswer, Parser
from connectors.http_json.client import HttpJsonLink
from connectors.json_document import Malformed, parsed, raw_value
from connectors.link import LinkError, PointValue, Refused, Untrusted
from connectors.point_map import point_codecs
from connectors.wire_log import Tap
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.http_json import HttpJson
from ems.json_place import JsonPlace
from ems.site import Connection, Devices, IdentityField, PointMap, Protocol
from ems.telemetry import Quality
from tests.contract.fake_http import GOOD, FakeHttp, chunked, http
from tests.contract.tls_pki import NOW as NOW_REAL
from tests.contract.tls_pki import YEAR, Authority, Party

pytestmark = pytest.mark.scenario(26)
NOW = datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)  # two seconds after the stamp of GOOD
RIGHT = {"p": 11.5, "n": 7.0, "on": 1.0, "mode": 2.0, "other": 11.5}
BYTES_MAX = 4000


def row(name: str, data_type: str, path: str = "/a", **place: Any) -> PointMap:
    codes = ((0, 1.0), (1, 2.0)) if data_type == "text" else ()
    where = JsonPlace(**{"value": f"/{name}", "words": ("off", "grid") if codes else None, **place})
    return PointMap(
        point=f"dev.{name}", address=path, table="path", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="", low=-1e6, high=1e6, age_s_max=3.0,
        writable=False, payload=where, codes=codes,
    )  # fmt: skip


ROWS = (
    row("p", "number", quality="/ok", good=(True,), time="/t", time_form="s"),
    row("n", "integer"),
    row("on", "boolean"),
    row("mode", "text"),
    row("other", "number", "/b?x=1", value="/p"),
)
SERIAL = IdentityField(
    name="serial", address="/a", table="path", data_type="string", length=0, byte_order="big",
    word_order="big", pointer="/id",
)  # fmt: skip


def made(port: int, *, timeout_s: float = 0.4, rows: tuple[PointMap, ...] = ROWS, **keys: Any) -> Connection:
    identity = keys.pop("identity", ())
    keys = {"protection": "plain", "answer_bytes_max": BYTES_MAX, **keys}
    return Connection(
        id="dev", protocol=Protocol.HTTP_JSON, host="127.0.0.1", port=port, unit_id=1, endpoint="",
        poll_s=0.1, timeout_s=timeout_s, watchdog_point=None, points=rows, http=HttpJson(**keys),
        identity=identity,
    )  # fmt: skip


class Rig:
    def __init__(self, device: FakeHttp, now: Callable[[], datetime] = lambda: NOW, **keys: Any) -> None:
        self.device, connection = device, made(device.port, **keys)
        assert connection.http is not None
        self.link = HttpJsonLink(
            connection, list(point_codecs(connection).values()), http=connection.http, host="127.0.0.1",
            port=device.port, timeout_s=connection.timeout_s, now=now,
        )  # fmt: skip

    async def read(self) -> dict[str, PointValue]:
        return {p.removeprefix("dev."): v for p, v in (await self.link.read()).items()}

    async def again(self) -> dict[str, PointValue]:
        """After whatever happened."""
        await self.link.connect()
        return await self.read()


def numbers(values: dict[str, PointValue]) -> dict[str, float | None]:
    return {p: v.value for p, v in values.items() if v.quality is Quality.GOOD}


@pytest_asyncio.fixture
async def device() -> AsyncIterator[FakeHttp]:
    made_here = FakeHttp()
    await made_here.start()
    yield made_here
    await made_here.stop()


@pytest_asyncio.fixture
async def rig(device: FakeHttp) -> AsyncIterator[Rig]:
    rig = Rig(device)
    await rig.link.connect()
    yield rig
    await rig.link.disconnect()


async def test_points_of_a_path_are_one_get_and_the_connection_is_kept(rig):
    for _ in range(3):
        assert numbers(await rig.read()) == RIGHT
    assert [r.split(b" ")[1] for r in rig.device.asked] == [b"/a", b"/b?x=1"] * 3
    assert rig.device.connections == 1
    assert (await rig.read())["p"].source_time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (await rig.read())["n"].source_time is None
    assert rig.link.counts["answers"] == 10


async def test_values_are_as_old_as_the_question_for_their_own_document(rig, monkeypatch):
    own = rig.link._document

    async def slow(path: str) -> Any:
        await wall_sleep(0.1)
        return await own(path)

    monkeypatch.setattr(rig.link, "_document", slow)
    told = await rig.read()
    assert told["p"].age_s - told["other"].age_s >= 0.09
    assert told["other"].age_s >= 0.09


async def test_device_that_closes_each_connection_is_asked_on_a_new_one(rig):
    rig.device.usual = http(GOOD, "200 OK", "Connection: close")
    for _ in range(2):
        assert numbers(await rig.read()) == RIGHT
    assert rig.device.connections == 4
    rig.device.usual = http()
    assert numbers(await rig.read()) == RIGHT
    rig.device.close_all()
    await wall_sleep(0.05)
    assert numbers(await rig.read()) == RIGHT


async def test_connection_that_is_closed_as_it_is_asked_is_made_anew_once(rig):
    assert numbers(await rig.read()) == RIGHT
    before = rig.device.connections

    async def hang_up(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    rig.device.act = hang_up
    with pytest.raises(LinkError, match="closes the connection without an answer"):
        await rig.read()
    assert rig.device.connections == before + 1
    rig.device.act = None
    assert numbers(await rig.again()) == RIGHT


BOMB = gzip.compress(b"[" + b"0," * 500_000 + b"0]")
# What comes, and what is said of it where the connection stays; each of /a alone, so that /b is right.
DOCUMENTS = {
    "nothing": (http(b""), "no JSON"),
    "not a number": (http(GOOD.replace(b"11.5", b"NaN")), "NaN is no number"),
    "infinity": (http(GOOD.replace(b"11.5", b"-Infinity")), "-Infinity is no number"),
    "a key twice": (http(GOOD.replace(b'"ok"', b'"p": 3, "ok"')), "a key stands twice"),
    "cut": (http(GOOD[:-9]), "no JSON"),
    "a byte order mark": (http(b"\xef\xbb\xbf" + GOOD), "BOM"),
    "UTF-16": (http(GOOD.decode().encode("utf-16")), "no JSON"),
    "latin-1": (http(b'{"p": 11.5, "name": "Z\xfcrich"}'), "no JSON"),
    "another charset": (http(kind="application/json; charset=ISO-8859-1"), "ISO-8859-1, not UTF-8"),
    "deep": (http(b"[" * 1900 + b"]" * 1900), "no JSON"),
    "a number": (http(b"11.5"), "neither an object nor a list"),
    "a text": (http(b'"11.5"'), "neither an object nor a list"),
    "HTML": (http(b"<html>11.5</html>", kind="text/html"), "text/html, not application/json"),
    "no type": (http(kind=""), "no content type, not application/json"),
    "packed": (http(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip"), r"packed \(gzip\)"),
    "a gzip bomb": (http(BOMB, "200 OK", "Content-Encoding: gzip"), "packed"),
    "moved": (http(b"", "302 Found", "Location: http://192.0.2.9/a"), "302 Found, moved to http://192.0.2.9/a"),
    "not there": (http(b"{}", "404 Not Found"), "404 Not Found"),
    "forbidden": (http(b"{}", "403 Forbidden"), "403 Forbidden"),
    "broken": (http(GOOD, "500 Internal Server Error"), "500 Internal Server Error"),
    "busy, and no time": (http(GOOD, "503 Service Unavailable"), "503"),
    "busy until a date": (http(GOOD, "503 Busy", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"), "503"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content"),
    "partial": (http(GOOD, "206 Partial Content"), "206"),
    "too long": (http(b'{"p": 11.5, "x": "' + b"x" * BYTES_MAX + b'"}'), "longer than 4000 bytes"),
    "too long in chunks": (chunked(*[b"x" * 999] * 5), "longer than 4000 bytes"),
    "crumbs": (chunked(end=(b"1;" + b"x" * 40 + b"\r\nx\r\n") * 1100), "no body"),
    "endless until it closes": (
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"1" * 9000,
        "longer than 4000 bytes",
    ),
    "a reason with escapes": (http(b"{}", "404 \x9b31mRED\xff"), "404 "),
}  # fmt: skip


@pytest.mark.parametrize("case", DOCUMENTS)
async def test_document_that_cannot_be_believed_is_no_value_and_says_why(rig, case):
    answer, why = DOCUMENTS[case]
    rig.device.answers["/a"] = answer
    for _ in range(2):
        values = await rig.read()
        assert numbers(values) == {"other": 11.5}
        assert {v.value for p, v in values.items() if p != "other"} == {None}
        told = rig.link.refused["dev.p"]
        assert re.search(why, told), told
        assert told.isprintable()
    del rig.device.answers["/a"]
    assert numbers(await rig.read()) == RIGHT


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", "illegal status line"),
    "a status that is none": (b"HTTP/1.1 20 OK\r\n\r\n", "illegal status line"),
    "another protocol": (b"HTTP/1.1 101 Switching\r\n\r\n", "SWITCH"),
    "interim answers for ever": (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "status 1xx"),
    "two lengths": (http(GOOD, "200 OK", "Content-Length: 5"), "conflicting Content-Length"),
    "a list of lengths": (HEAD + b"Content-Length: 5, 6\r\n\r\nabcde", "conflicting Content-Length"),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n" + GOOD, "bad Content-Length"),
    "a length with a sign": (HEAD + b"Content-Length: +5\r\n\r\n" + GOOD, "bad Content-Length"),
    "a length with an underscore": (HEAD + b"Content-Length: 1_0\r\n\r\n" + GOOD, "bad Content-Length"),
    "shorter than it is": (HEAD + b"Content-Length: 9\r\n\r\n" + GOOD, "longer than it says"),
    "a second answer": (http() + http(GOOD.replace(b"11.5", b"99.5")), "longer than it says"),
    "length and chunks": (chunked(GOOD).replace(b"Transfer", b"Content-Length: 5\r\nTransfer"), "both a"),
    "gzip and chunked": (chunked(GOOD).replace(b"chunked", b"gzip, chunked"), "Transfer-Encoding"),
    "identity": (chunked(GOOD).replace(b"chunked", b"identity"), "Transfer-Encoding"),
    "a negative chunk": (chunked(end=b"-5\r\n" + GOOD), "illegal chunk header"),
    "a chunk with 0x": (chunked(end=b"0x5\r\n" + GOOD), "illegal chunk header"),
    "a huge chunk": (chunked(end=b"fffffffff\r\n" + GOOD), "no whole answer"),
    "a chunk too long": (chunked(end=b"5\r\n" + GOOD), "malformed chunk footer"),
    "no chunk": (chunked(end=b"\r\n" + GOOD), "illegal chunk header"),
    "trailers for ever": (chunked(GOOD, end=b"0\r\n" + b"a: b\r\n" * 4000), "buffer too long"),
    "many headers": (HEAD + b"X: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
    "long headers": (HEAD + b"X: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", "headers of more than"),
    "one endless line": (b"HTTP/1.1 200 " + b"O" * 50_000, "buffer too long"),
    "a folded header": (HEAD + b"X: y\r\n z\r\n\r\n", "no whole answer"),
    "a space before the colon": (HEAD + b"Content-Length : 5\r\n\r\n", "illegal header line"),
    "a zero in a header": (HEAD + b"X: \0\r\n\r\n", "illegal header line"),
    "two types": (http(GOOD, "200 OK", "Content-Type: text/plain"), "contradict each other"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_answer_that_is_no_http_drops_the_connection_and_says_why(rig, case):
    answer, why = BROKEN[case]
    rig.device.answers["/b?x=1"] = answer
    with pytest.raises(LinkError, match=why) as caught:
        await rig.read()
    assert str(caught.value).isprintable()
    del rig.device.answers["/b?x=1"]
    before = rig.device.connections
    assert numbers(await rig.again()) == RIGHT
    assert rig.device.connections == before + 1


@pytest.mark.parametrize(
    "answer",
    [http()[:-5], http()[:60], http()[:10], chunked(GOOD)[:-5], chunked(GOOD)[:-40], chunked(GOOD, end=b"")],
    ids=range(6),
)  # fmt: skip
async def test_answer_that_is_cut_short_is_no_value(rig, answer):
    async def cut(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    rig.device.act = cut
    with pytest.raises(LinkError, match="breaks off after"):
        await rig.read()


async def test_answer_until_the_connection_closes_is_taken_where_it_is_whole(rig):
    bare = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"

    async def until_closed(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bare + (GOOD if path == "/a" else GOOD[:-1]))
        await writer.drain()
        writer.close()

    rig.device.act = until_closed
    assert numbers(await rig.read()) == {p: v for p, v in RIGHT.items() if p != "other"}


@pytest.mark.parametrize("step", [1, 7])
async def test_answer_in_drips_is_given_up_in_time(rig, step):
    async def drip(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = http()
        for at in range(0, len(answer), step):
            writer.write(answer[at : at + step])
            await writer.drain()
            await asyncio.sleep(0.05)

    rig.device.act = drip
    began_s = wall_s()
    with pytest.raises(LinkError, match=r"no whole answer within 0\.4 s"):
        await rig.read()
    assert wall_s() - began_s < 2.0


@pytest.mark.scenario(27)
async def test_late_answer_is_never_taken_for_the_next(rig):
    """An answer that comes after its time-out belongs to a connection that is gone."""
    asked = 0
    wait_s = 0.0

    async def late(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        told = GOOD.replace(b"11.5", str(asked).encode())
        await asyncio.sleep(wait_s)
        writer.write(http(told))
        await writer.drain()

    rig.device.act = late
    for _ in range(3):
        wait_s = 0.45
        with pytest.raises(LinkError, match="no whole answer"):
            await rig.read()
        wait_s = 0.1  # the late one would come while this one is waited for
        await rig.link.connect()
        before = asked
        values = await rig.read()
        assert (values["p"].value, values["other"].value) == (before + 1, before + 2)


@pytest.mark.scenario(27)
async def test_bytes_that_nobody_asked_for_end_the_connection(rig):
    assert numbers(await rig.read()) == RIGHT
    for writer in rig.device._writers:
        writer.write(http(GOOD.replace(b"11.5", b"99.5")))
    await wall_sleep(0.05)
    assert numbers(await rig.read()) == RIGHT
    assert rig.device.connections == 2


WRONG = {
    "p": ["true", '"11.5"', "null", "[11.5]", "{}", "1e999", "1" * 400, "2e6"],
    "n": ["7.5", "true", '"7"', "null", "9007199254740993", "-1e300", "[" * 900 + "]" * 900],
    "on": ['"true"', "2", "null", "0.5"],
    "mode": ['"Grid"', "1", "null", '"grid "', '"\\ud800"', "true"],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in WRONG.items() for t in texts])
async def test_value_of_another_kind_is_none(rig, name, text):
    found = re.search(rf'"{name}": ([^,}}]+)', GOOD.decode())
    assert found is not None
    rig.device.answers["/a"] = http(GOOD.decode().replace(found[0], f'"{name}": {text}').encode())
    values = await rig.read()
    assert values[name].quality is not Quality.GOOD
    assert rig.link.refused.get(f"dev.{name}", "x").isprintable()
    assert numbers(values) == {p: v for p, v in RIGHT.items() if p != name}


async def test_quality_and_time_decide_what_a_value_is_worth(rig):
    async def told(old: bytes, new: bytes) -> PointValue:
        assert GOOD.count(old) == 1
        rig.device.answers["/a"] = http(GOOD.replace(old, new))
        values: dict[str, PointValue] = await rig.read()
        return values["p"]

    assert (await told(b'true, "p"', b'false, "p"')).quality is Quality.DEVICE_BAD
    assert (await told(b'true, "p"', b'1, "p"')).quality is Quality.DEVICE_BAD
    assert (await told(b"1772366400", b"1772366390")).quality is Quality.STALE
    assert "12 s old" in rig.link.refused["dev.p"]
    assert (await told(b"1772366400", b'"2026-03-01T12:00:00"')).quality is Quality.DEVICE_BAD
    assert (await told(b"1772366400", b"1e300")).quality is Quality.DEVICE_BAD
    assert (await told(b"1772366400", b"1772366401.5")).quality is Quality.GOOD


async def test_device_that_asks_to_be_left_alone_is(device):
    rig = Rig(device)
    await rig.link.connect()
    device.answers["/a"] = http(b"", "429 Too Many Requests", "Retry-After: 1")
    with pytest.raises(LinkError, match="not asked for 1 s"):
        await rig.read()
    before = len(device.asked), device.connections
    del device.answers["/a"]
    with pytest.raises(LinkError, match="429 Too Many Requests; it is not asked for another"):
        await rig.link.connect()
    assert (len(device.asked), device.connections) == before
    await wall_sleep(1.05)
    assert numbers(await rig.again()) == RIGHT
    device.answers["/a"] = http(b"", "503 Service Unavailable", "Retry-After: 99999")
    with pytest.raises(LinkError, match="not asked for 60 s"):
        await rig.read()


async def test_secret_that_is_refused_is_told_as_such_and_one_that_is_missing_is_not_asked_with(
    device, monkeypatch
):
    rig = Rig(device, user="ems", password_env="HERE")
    with pytest.raises(Untrusted, match="no variable HERE"):
        await rig.link.connect()
    assert device.connections == 0
    monkeypatch.setenv("HERE", "s3cret")
    await rig.link.connect()
    assert numbers(await rig.read()) == RIGHT
    assert b"\r\nAuthorization: Basic ZW1zOnMzY3JldA==\r\n" in device.asked[-1]
    device.usual = http(b"", "401 Unauthorized")
    with pytest.raises(Refused, match="401 Unauthorized"):
        await rig.read()
    rig = Rig(device, token_env="HERE", auth_header="X-Api-Key", auth_scheme="")
    device.usual = http()
    assert numbers(await rig.again()) == RIGHT
    assert b"\r\nX-Api-Key: s3cret\r\n" in device.asked[-1]


async def test_redirect_is_not_followed_and_the_secret_goes_nowhere_else(device, monkeypatch):
    other = FakeHttp()
    await other.start()
    monkeypatch.setenv("HERE", "s3cret")
    try:
        rig = Rig(device, token_env="HERE")
        device.usual = http(b"", "307 Temporary Redirect", f"Location: http://127.0.0.1:{other.port}/a")
        await rig.link.connect()
        assert numbers(await rig.read()) == {}
        assert other.connections == 0
    finally:
        await other.stop()


async def test_another_device_is_seen_where_the_connection_was_made_again(device, monkeypatch):
    monkeypatch.setattr("connectors.http_json.client.IDENTITY_S", 0.0)
    rig = Rig(device, identity=(SERIAL,))
    await rig.link.connect()
    assert await rig.link.identify() == {"serial": "SN1"}
    assert numbers(await rig.read()) == RIGHT
    device.usual = http(GOOD.replace(b"SN1", b"SN2"))
    assert numbers(await rig.read()) == RIGHT  # on the same connection it is the same
    device.close_all()
    await wall_sleep(0.05)
    with pytest.raises(LinkError, match="another device answers"):
        await rig.read()
    device.usual = http(b"{}", "500 Oh")
    await rig.link.connect()
    with pytest.raises(LinkError, match="identity: GET /a: it answers 500 Oh"):
        await rig.link.identify()
    device.usual = http(GOOD.replace(b'"SN1"', b'["SN1"]'))
    await rig.link.connect()
    assert await rig.link.identify() == {"serial": None}


async def test_wrong_device_is_not_believed_and_a_slow_one_costs_the_other_nothing(device):
    slow = FakeHttp()
    await slow.start()

    async def hang(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30.0)

    slow.act = hang
    mine = replace(made(device.port, identity=(replace(SERIAL, expected="SN9"),)), id="mine")
    its = replace(
        made(slow.port, rows=tuple(replace(r, point=r.point.replace("dev", "slow")) for r in ROWS)), id="slow"
    )
    io = FieldIO(Devices(connections=(mine, its)), clock=SystemClock())
    try:
        readings = {r.point: r for r in await io.read_all()}
        assert readings["slow.p"].quality is Quality.COMM_FAILED
        assert readings["dev.n"].value == 7.0
        assert "'SN1', the site file says 'SN9'" in io.strangers()["mine"]
    finally:
        await io.close()
        await slow.stop()


def served(context_of: Party) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(context_of.certificate, context_of.key)
    return context


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"protection": "authority"}, ""),
        ({"protection": "authority", "ca": "other/ca.pem"}, "not believed"),
        ({"protection": "authority", "ca": "none.pem"}, "cannot be read"),
        ({"protection": "authority", "server_name": "meter.example"}, "meter.example"),
        ({"protection": "pinned"}, ""),
        ({"protection": "pinned", "certificate": "plant/again.pem"}, "another certificate than the one"),
        ({"protection": "pinned", "certificate": "plant/old.pem"}, "expired on"),
        ({"protection": "system"}, "not believed"),
        ({"protection": "plain"}, ""),
    ],
)
async def test_device_is_known_by_its_certificate_before_anything_is_said(tmp_path, monkeypatch, keys, why):
    authority = Authority(tmp_path / "plant")
    Authority(tmp_path / "other")
    mine = authority.signs("device", hosts=("127.0.0.1",))
    authority.signs("again", hosts=("127.0.0.1",))
    authority.signs("old", hosts=("127.0.0.1",), begins=NOW_REAL - 2 * YEAR, ends=NOW_REAL - YEAR)
    monkeypatch.setenv("HERE", "s3cret")
    device = FakeHttp()
    await device.start(served(mine))
    rig = Rig(
        device,
        timeout_s=3.0,
        now=lambda: NOW_REAL,
        rows=ROWS[1:],
        **{
            "ca": str(tmp_path / keys.pop("ca", "plant/ca.pem")),
            "certificate": str(tmp_path / keys.pop("certificate", "plant/device.pem")),
            "token_env": "HERE",
            **keys,
        },
    )
    try:
        if why:
            with pytest.raises(Untrusted, match=why):
                await rig.link.connect()
            assert not device.asked
            return
        await rig.link.connect()
        if keys["protection"] == "plain":  # it asks a TLS port in plain words
            with pytest.raises(LinkError):
                await rig.read()
            assert not device.asked
            return
        for _ in range(2):
            assert numbers(await rig.read()) == {p: v for p, v in RIGHT.items() if p != "p"}
        assert device.connections == 1
        assert [e.at.year for e in rig.link.expiries]
    finally:
        await rig.link.disconnect()
        await device.stop()


def spoilt(rng: random.Random, text: bytes) -> bytes:
    """Bits turned, bytes lost, doubled, cut off, or something of HTTP where it does not belong."""
    out = bytearray(text)
    words = (
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"0\r\n\r\n",
        b"chunked",
        b":",
        b"\0",
        b"\xff",
        b"5\r\n",
    )
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 30)]
            case 3:
                del out[at:]
            case _:
                out[at:at] = rng.choice(words)
    return bytes(out)


def taken(text: bytes, rng: random.Random, limit: int = BYTES_MAX) -> bytes | None:
    """The body of what is taken as an answer, however it comes in pieces; None: it is refused."""
    parser, at, answer = Parser(limit), 0, None
    try:
        while at < len(text) and answer is None:
            size = rng.randrange(1, 60)
            answer, at = parser.feed(text[at : at + size]), at + size
        answer = parser.end() if answer is None else answer
    except MalformedAnswer:
        return None
    return None if answer is None or parser.rest or at < len(text) else answer.body


def sample(seed: int, count: int) -> int:
    """Spoilt answers; how many were taken all the same. What is taken is no longer than it may be."""
    rng = random.Random(seed)
    good = 0
    sources = (
        http(),
        chunked(GOOD[:9], GOOD[9:]),
        http(b"[]", "503 No", "Retry-After: 3"),
        HEAD + b"\r\n" + GOOD,
    )
    for _ in range(count):
        body = taken(spoilt(rng, rng.choice(sources)), rng)
        good += body is not None
        assert body is None or len(body) <= BYTES_MAX
    return good


def test_spoilt_answers_are_refused_or_taken_and_nothing_else_happens():
    assert 500 < sample(7, 4000) < 3500


def framed_sample(seed: int, count: int) -> int:
    """Documents whose framing alone is spoilt; how many were taken. Whatever is taken is the document."""
    rng = random.Random(seed)
    right, good = parsed(GOOD), 0
    for _ in range(count):
        text = rng.choice((http(), chunked(GOOD), chunked(GOOD[:9], GOOD[9:]), HEAD + b"\r\n" + GOOD))
        begins, ends = text.index(b"{"), text.rindex(b"}") + 1
        head, tail = text[:begins], text[ends:]
        if tail and rng.random() < 0.3:
            tail = spoilt(rng, tail)
        else:
            head = spoilt(rng, head)
        body = taken(head + text[begins:ends] + tail, rng)
        try:
            document = right if body is None else parsed(body)
        except Malformed:
            continue
        good += body is not None
        assert document == right or not isinstance(document, dict | list), (head, tail)
    return good


def test_answers_whose_framing_is_spoilt_are_never_another_document():
    assert 200 < framed_sample(7, 2000) < 1800


@pytest.mark.soak
def test_spoilt_answers_for_long():
    for seed in range(100):
        sample(seed, 20_000)
        framed_sample(seed, 20_000)


def test_document_as_deep_as_can_be_read_is_no_value_and_no_error():
    """Up to the depth that the interpreter can read, and beyond it."""
    codec = next(iter(point_codecs(made(1, rows=(row("p", "number"),))).values()))
    for depth in range(600, 1000):
        document = b'{"p": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(Malformed):
            raw_value(parsed(document), codec)


async def test_device_that_says_nothing_in_the_handshake_is_given_up_in_time(device):
    rig = Rig(device, protection="system", timeout_s=0.3)
    began_s = wall_s()
    with pytest.raises(LinkError, match=r"cannot connect to .* in 0\.3 s"):
        await rig.link.connect()
    assert wall_s() - began_s < 2.0
    assert not rig.link.connected


async def test_wire_is_kept_without_the_secret(device, monkeypatch):
    told: list[tuple[str, bytes]] = []
    monkeypatch.setenv("HERE", "s3cret")
    rig = Rig(device, user="ems", password_env="HERE")
    rig.link.tap = Tap("dev", lambda name, what, data, text: told.append((what, data)))
    rig.link.tap.on = True
    assert numbers(await rig.again()) == RIGHT
    sent = b"".join(data for what, data in told if what == "O")
    assert len(sent) == len(b"".join(device.asked))
    assert b"Authorization:" + b"*" * len(" Basic ZW1zOnMzY3JldA==") + b"\r\n\r\n" in sent
    assert b"ZW1z" not in sent
    assert b"".join(data for what, data in told if what == "I") == http() * 2


@pytest.mark.parametrize("pieces", range(5))
def test_sound_answer_is_taken_in_any_pieces(pieces):
    rng = random.Random(pieces)
    for text in (
        http(),
        HEAD + b"\r\n" + GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
    ):
        assert taken(text, rng) == GOOD
        assert taken(text.replace(b"\r\n", b"\n"), rng) == GOOD
    assert taken(chunked(GOOD[:9], GOOD[9:]), rng) == GOOD
