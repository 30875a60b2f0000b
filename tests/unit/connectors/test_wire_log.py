"""The log of a wire: what is in it, when it begins and ends, what a disk that fails costs."""

import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.main import main
from connectors import wire_log
from connectors.wire_log import QUIET, WireLog, ask, asked_until, lines_of
from ems.clock import VirtualClock

AT = datetime(2026, 3, 2, 6, 0, 0, 250_000, tzinfo=UTC)
READ = bytes.fromhex("000100000006010300640002")
TOLD = bytes.fromhex("00010000000701030400c80190")


def made(folder: Path, clock: VirtualClock, *names: str) -> WireLog:
    log = WireLog(folder, names or ("bess1",), now=clock.now)
    log.start()
    log.close()
    return log


def test_lines_say_direction_time_and_bytes():
    assert lines_of("O", AT, READ + b"\xff" * 6, "") == (
        "O 2026-03-02T06:00:00.250000Z\n"
        "000000 00 01 00 00 00 06 01 03 00 64 00 02 ff ff ff ff\n"
        "000010 ff ff\n"
    )
    assert lines_of("#", AT, b"", "connected") == "# 2026-03-02T06:00:00.250000Z connected\n"


def test_it_begins_when_somebody_asks_and_ends_by_itself(tmp_path: Path):
    clock = VirtualClock(AT)
    log, folder = made(tmp_path / "wire", clock, "bess1", "meter"), tmp_path / "wire"
    log.tap("bess1").sent(READ)
    log.look()
    assert not (folder / "bess1.log").exists(), "nobody asked"
    ask(folder, "bess1", clock.now() + timedelta(seconds=60.0))
    log.look()
    for name in ("bess1", "meter"):
        log.tap(name).sent(READ)
        log.tap(name).received(TOLD)
    log.look()
    assert [line[0] for line in (folder / "bess1.log").read_text().splitlines()] == ["O", "0", "I", "0"]
    assert stat.S_IMODE((folder / "bess1.log").stat().st_mode) == 0o600
    assert not (folder / "meter.log").exists()
    clock.advance(61.0)
    log.look()
    log.tap("bess1").sent(READ)
    log.look()
    assert (folder / "bess1.log").read_text().splitlines()[-1].endswith("the time asked for is over")
    assert asked_until(folder, "bess1") is None


def test_a_connection_nobody_has_is_quiet():
    assert WireLog(Path("/nowhere"), ["bess1"], now=lambda: AT).tap("other") is QUIET
    QUIET.sent(READ)


def test_a_full_file_is_put_aside_and_one_that_is_before_it_goes(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(wire_log, "BYTES_MAX", 100)
    log = made(tmp_path, VirtualClock(AT))
    ask(tmp_path, "bess1", AT + timedelta(hours=1))
    log.look()
    for n in range(6):
        log.tap("bess1").noted(f"turn {n}")
        log.look()
    assert [line[-1] for line in (tmp_path / "bess1.before.log").read_text().splitlines()] == ["0", "1", "2"]
    assert [line[-1] for line in (tmp_path / "bess1.log").read_text().splitlines()] == ["3", "4", "5"]


def test_what_a_slow_disk_does_not_take_is_counted(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(wire_log, "HELD", 4)
    log = made(tmp_path, VirtualClock(AT))
    ask(tmp_path, "bess1", AT + timedelta(hours=1))
    log.look()
    for n in range(9):
        log.tap("bess1").noted(f"turn {n}")
    log.look()
    first, *rest = (tmp_path / "bess1.log").read_text().splitlines()
    assert first == "# 5 entries of all connections were lost: the disk was too slow"
    assert [line[-1] for line in rest] == ["5", "6", "7", "8"]


def test_a_request_that_is_spoilt_ends_the_log_and_nothing_else(tmp_path: Path):
    clock = VirtualClock(AT)
    log = WireLog(tmp_path, ["bess1"], now=clock.now)
    log.start()
    try:
        (tmp_path / "bess1.asked.json").write_text("{")
        log.tap("bess1").on = True
        log._try(log.look)
        assert not log.tap("bess1").on
        (tmp_path / "bess1.asked.json").unlink()
        log._try(log.look)
        ask(tmp_path, "bess1", AT + timedelta(hours=1))
        log._try(log.look)
        assert log.tap("bess1").on
    finally:
        log.close()


@pytest.mark.needs_server
def test_the_log_is_what_text2pcap_takes(require_program: Callable[[str], str], tmp_path: Path):
    text2pcap = require_program("text2pcap")
    text, pcap = tmp_path / "bess1.log", tmp_path / "bess1.pcap"
    text.write_text(
        lines_of("#", AT, b"", "connected") + lines_of("O", AT, READ, "") + lines_of("I", AT, TOLD, "")
    )
    done = subprocess.run(
        [text2pcap, "-D", "-t", "ISO", "-T", "502,50000", str(text), str(pcap)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = pcap.read_bytes()
    assert READ in raw
    assert TOLD in raw


def test_ems_wire_asks_shows_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, where = tmp_path / "wire", ["--dir", str(tmp_path)]
    assert main(["wire", *where]) == 2
    assert "found no edge that ran here" in capsys.readouterr().err
    made(folder, VirtualClock(AT), "bess1", "meter")
    assert main(["wire", "bess9", *where]) == 2
    assert "found 'bess9'; allowed: bess1, meter" in capsys.readouterr().err
    assert main(["wire", "bess1", "--for", "2d", *where]) == 2
    assert "up to 86400 s" in capsys.readouterr().err
    assert main(["wire", "bess1", "--for", "5min", *where]) == 0
    assert asked_until(folder, "bess1") is not None
    assert main(["wire", *where]) == 0
    told = capsys.readouterr().out
    assert "bess1: kept for" in told
    assert "meter: not kept; no log" in told
    assert main(["wire", "bess1", "--stop", *where]) == 0
    assert asked_until(folder, "bess1") is None
