"""`ems inputs` on a site with two folders and a server that is not there."""

from pathlib import Path

import pytest

from cli.main import main
from tests.unit.connectors.inputs_here import site_with

INPUTS = """
  market: {kind: price, folder: inbox/market}
  utility: {kind: outages, folder: inbox/outages}
  sky: {kind: weather, provider: open_meteo, url: 'http://127.0.0.1:9/v1', timeout_s: 2}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site_with(tmp_path, INPUTS)
    for name in ("market", "outages"):
        (tmp_path / "inbox" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_inputs_are_looked_at_shown_and_told_why(place: Path, capsys: pytest.CaptureFixture[str]):
    head = "time,issued_at,import_per_kwh\n"
    rows = "2099-01-01T00:00Z,{},0.2\n2099-01-01T01:00Z,{},0.3\n"
    (place / "inbox/market/a.csv").write_text(head + rows.format("2026-01-01T00:00Z", "2026-01-01T00:00Z"))
    (place / "inbox/outages/o.csv").write_text(
        "id,issued_at,from,until,status,reason\nx,2026-01-01T00:00Z,2026-01-02T00:00Z,2026-01-02T00:00Z,planned,\n"
    )
    assert main(["inputs", ".", "--look"]) == 1
    out = capsys.readouterr().out
    assert "utility: refused" in out
    assert "o.csv:2: until: found '2026-01-02T00:00Z'; allowed: after its start" in out
    assert "a.csv:2: time: found '2099-01-01T00:00Z'" in out, "another year is refused"
    assert "sky: late: nothing came yet; instead: our own forecast of PV" in out
    assert "nobody listens there" in out
    assert main(["inputs", ".", "--at", "2020-01-01T00:00Z"]) == 1, "nothing was known then"
    assert "market: late: nothing came yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "yesterday"], "--at: found 'yesterday'; allowed: a time with its zone"),
        (["--at", "2026-01-01T00:00"], "allowed: a time with its zone"),
        (["--show", "7"], "--show: found 7; allowed: the number of a version that is kept"),
        (["--look", "--at", "2026-01-01T00:00Z"], "--look: found --at too"),
    ],
)
def test_what_cannot_be_shown_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    assert main(["inputs", ".", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_bytes_of_a_version_are_printed_as_they_came(place: Path, capsys: pytest.CaptureFixture[str]):
    body = "id,from,until,reason\n"
    (place / "inbox/outages/o.csv").write_text(body)
    main(["inputs", ".", "--look"])
    capsys.readouterr()
    assert main(["inputs", ".", "--show", "1"]) == 0
    assert capsys.readouterr().out == body


def test_site_without_inputs_asks_nobody(capsys: pytest.CaptureFixture[str]):
    assert main(["inputs", "demo"]) == 0
    assert "no inputs; forecasts are our own" in capsys.readouterr().out


def test_check_and_runbook_say_where_inputs_come_from_and_who_tells_them(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    text = (place / "site.yaml").read_text()
    more = "  day: {kind: price, url: 'https://x.example/p?key=s3cret', token_env: T}\n"
    (place / "site.yaml").write_text(text + more)
    assert main(["check", "."]) == 0
    told = capsys.readouterr().out
    assert "input       market: price from inbox/market each 10 s, our own CSV; whoever may write" in told
    assert "PLAIN: whoever is on the way can tell us any weather" in told
    assert "day: price from https://x.example/p each 900 s, our own CSV; TLS, the authorities of this" in told
    assert main(["runbook", "."]) == 0
    book = capsys.readouterr().out
    assert "| `day` | price | `https://x.example/p` | 900 s | our own CSV | TLS, the authorities" in book
    assert "s3cret" not in told + book
