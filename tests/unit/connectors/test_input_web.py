"""Asking a URL: marks of what is known, tokens, TLS, and servers that hang, drag, lie or say no."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from cli.free_ports import free_ports
from connectors.inputs.folder import DropFolder
from connectors.inputs.keeper import Feed
from connectors.inputs.store import InputStore
from connectors.inputs.web import FetchError, Web
from ems.clock import wall_s
from ems.input_rules import series_rules
from ems.inputs import InputParams
from tests.builders import site
from tests.contract.pki import pair
from tests.unit.connectors.inputs_here import NOW, Server, params, reply, serving, site_with
from tests.unit.connectors.test_input_files import AWATTAR, ENERGY_CHARTS, OPEN_METEO, PROVIDED

GOOD = b"time,import_per_kwh\n2026-03-02T13:00Z,0.2\n2026-03-02T14:00Z,0.3\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        found.answer = lambda handler: reply(handler, GOOD)
        yield found


def of(server: Server, **changes: Any) -> InputParams:
    return params(folder=None, url=server.url, protection="plain", timeout_s=5.0, **changes)


def feed_of(given: InputParams, folder: Path, store: InputStore) -> Feed:
    return Feed(
        params=given, rules=series_rules(site(), given), store=store, now=lambda: NOW,
        source=Web(given, folder), doubts=lambda version: (),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[InputStore]:
    made = InputStore(tmp_path)
    yield made
    made.close()


def test_what_is_known_is_not_sent_again_and_what_is_refused_is_asked_for_anew(
    server: Server, tmp_path: Path, store: InputStore
):
    feed = feed_of(of(server), tmp_path, store)

    def marked(body: bytes, handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("If-None-Match") == '"v2"':
            return reply(handler, b"", 304)
        return reply(handler, body, 200, {"ETag": '"v2"', "Last-Modified": "Mon, 02 Mar 2026 11:00:00 GMT"})

    server.answer = lambda handler: marked(b"time,import_per_kwh\n", handler)
    assert [x.outcome for x in feed.look()] == ["refused"]
    server.answer = lambda handler: marked(GOOD, handler)
    assert [x.outcome for x in feed.look()] == ["taken"]
    (look,) = feed.look()
    assert (look.outcome, look.detail) == ("same", "not modified")
    assert look.file == server.url.partition("?")[0], "a query may hold a key: it is not kept"
    assert ["if-none-match" in a for a in server.asked] == [False, False, True]
    assert server.asked[2]["if-modified-since"] == "Mon, 02 Mar 2026 11:00:00 GMT"
    assert server.asked[0]["path"] == "/v1/data?key=1"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_process_that_is_started_anew_asks_when_it_is_time(server: Server, tmp_path: Path, store: InputStore):
    feed = feed_of(of(server, every_s=900.0), tmp_path, store)
    assert feed.first_wait_s() == 0.0
    feed.look()
    for gone_s, wait_s in ((0.0, 900.0), (600.0, 300.0), (1000.0, 0.0), (-5000.0, 900.0)):
        feed.now = partial(after, gone_s)
        assert feed.first_wait_s() == wait_s
    again = feed_of(of(server, every_s=900.0), tmp_path, store)
    again.source = DropFolder(path=tmp_path, suffix=".csv", bytes_max=1000)
    assert again.first_wait_s() == 0.0, "a folder costs nobody anything"


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputParams]:
    plant = site_with(tmp_path_factory.mktemp("site"), PROVIDED, currency="EUR")
    return {p.provider.name: p for p in plant.inputs}


ANSWERS = {"open_meteo": OPEN_METEO, "awattar": AWATTAR, "energy_charts": ENERGY_CHARTS}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_of_each_provider_is_taken_over_the_wire(
    server: Server, tmp_path: Path, store: InputStore, provided: dict[str, InputParams], name: str
):
    server.answer = lambda handler: reply(handler, json.dumps(ANSWERS[name], ensure_ascii=False).encode())
    given = replace(provided[name], url=server.url, protection="plain", timeout_s=5.0)
    feed = feed_of(given, tmp_path, store)
    assert [x.outcome for x in feed.look()] == ["taken"]
    assert [x.outcome for x in feed.look()] == ["same"]


def test_token_is_sent_from_a_file_that_is_ours_alone(server: Server, tmp_path: Path):
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    Web(of(server, token_file="token"), tmp_path).ask()
    Web(of(server, token_file="token", auth_header="X-Key", auth_scheme=""), tmp_path).ask()
    assert server.asked[0]["authorization"] == "Bearer s3cret"
    assert server.asked[1]["x-key"] == "s3cret"
    secret.chmod(0o640)
    with pytest.raises(FetchError, match="token"):
        Web(of(server, token_file="token"), tmp_path).ask()
    secret.write_text("two\nlines")
    secret.chmod(0o600)
    with pytest.raises(FetchError, match="what no header may hold") as caught:
        Web(of(server, token_file="token"), tmp_path).ask()
    assert "lines" not in str(caught.value)
    with pytest.raises(FetchError, match="no variable EMS_NO_SUCH"):
        Web(of(server, token_env="EMS_NO_SUCH"), tmp_path).ask()
    assert len(server.asked) == 2
    assert os.environ.get("EMS_NO_SUCH") is None


@pytest.mark.parametrize(
    ("status", "headers", "said", "retry_s"),
    [
        (500, {}, "it answers 500", None),
        (401, {}, "it answers 401 Unauthorized", None),
        (429, {"Retry-After": "120"}, "it answers 429", 120.0),
        (503, {"Retry-After": "\u00b2"}, "it answers 503", None),
        (503, {"Retry-After": "9999999"}, "it answers 503", 21600.0),
        (
            302,
            {"Location": "http://elsewhere.example/"},
            "moved to http://elsewhere.example/: name that",
            None,
        ),
        (200, {"Content-Encoding": "gzip"}, r"packed \(gzip\)", None),
        (200, {"Content-Length": "9000"}, "breaks off", None),
    ],
)
def test_server_that_says_no_is_told_and_not_followed(
    server: Server, tmp_path: Path, status: int, headers: dict[str, str], said: str, retry_s: float | None
):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, GOOD, status, headers)
        handler.close_connection = True

    server.answer = answer
    with pytest.raises(FetchError, match=said) as caught:
        Web(of(server), tmp_path).ask()
    assert caught.value.retry_s == retry_s
    assert len(server.asked) == 1


def test_answer_that_is_too_long_is_given_up_on_the_way(server: Server, tmp_path: Path):
    server.answer = lambda handler: reply(handler, b"x" * 300_000)
    with pytest.raises(FetchError, match="longer than 100000 bytes"):
        Web(of(server, bytes_max=100_000), tmp_path).ask()


def test_server_that_hangs_or_drags_its_answer_out_is_given_up_in_time(server: Server, tmp_path: Path):
    over = threading.Event()

    def drags(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not over.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    given = params(folder=None, url=server.url, protection="plain", timeout_s=0.3)

    def hangs(handler: BaseHTTPRequestHandler) -> None:
        over.wait(30.0)

    for answer in (drags, hangs):
        server.answer = answer
        began_s = wall_s()
        with pytest.raises(FetchError, match=r"no whole answer within 0\.3 s"):
            Web(given, tmp_path).ask()
        assert wall_s() - began_s < 20.0, "the drip would have gone on for half an hour"
    over.set()


def test_nobody_listens_and_no_such_host_are_told_and_tried_later_each_time(
    tmp_path: Path, store: InputStore
):
    (port,) = free_ports(1)
    given = params(folder=None, url=f"http://127.0.0.1:{port}/", protection="plain", every_s=900.0)
    feed = feed_of(given, tmp_path, store)
    waits = []
    for _ in range(7):
        (look,) = feed.look()
        assert (look.outcome, look.detail) == ("failed", "nobody listens there")
        waits.append(feed.wait_s())
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


def test_fault_of_ours_is_told_as_a_failure_of_that_source_alone(
    tmp_path: Path, store: InputStore, monkeypatch: pytest.MonkeyPatch
):
    def stumbles(self: Web) -> None:
        raise KeyError("x")

    monkeypatch.setattr(Web, "ask", stumbles)
    feed = feed_of(params(folder=None, url="http://127.0.0.1/", every_s=900.0), tmp_path, store)
    for wait_s in (30.0, 60.0, 120.0):
        (look,) = feed.look()
        assert (look.outcome, look.detail) == ("failed", "KeyError: a fault of the EMS; see inputs.log")
        assert feed.wait_s() == wait_s


def test_host_that_is_none_is_told(tmp_path: Path):
    with pytest.raises(FetchError):
        Web(params(folder=None, url=f"https://{'a' * 70}.example/p", timeout_s=5.0), tmp_path).ask()


def certified(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key of a server that vouches for itself."""
    made = pair("urn:test:inputs", "localhost")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.pem)
    key.write_bytes(made.key_pem)
    return certificate, key


def test_server_is_believed_by_its_certificate_alone(tmp_path: Path):
    ours, theirs = (certified(tmp_path, name) for name in ("ours", "theirs"))
    with serving(ours) as server:
        server.answer = lambda handler: reply(handler, GOOD)
        good = params(folder=None, url=server.url, ca=ours[0].name, timeout_s=5.0)
        assert Web(good, tmp_path).ask().body == GOOD
        for ca in (theirs[0].name, None):
            with pytest.raises(FetchError, match="its certificate is not trusted"):
                Web(params(folder=None, url=server.url, ca=ca, timeout_s=5.0), tmp_path).ask()
        other = server.url.replace("localhost", "127.0.0.1")
        with pytest.raises(FetchError, match="its certificate is not trusted"):
            Web(params(folder=None, url=other, ca=ours[0].name, timeout_s=5.0), tmp_path).ask()
        with pytest.raises(FetchError, match=r"nowhere\.pem"):
            Web(params(folder=None, url=server.url, ca="nowhere.pem"), tmp_path).ask()
        assert len(server.asked) == 1
