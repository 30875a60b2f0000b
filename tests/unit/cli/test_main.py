"""The command line: what is printed, where, and which exit code; never a traceback."""

import argparse
import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import main as cli_main
from cli._sites import find_site, shipped_sites
from ems.errors import ConfigError, DataError

BROKEN = Path(__file__).parents[1] / "ems" / "broken_sites"


def test_main_check_demo_prints_what_the_plant_is(capsys):
    assert cli_main.main(["check", "demo"]) == 0
    out = capsys.readouterr().out
    assert "no problems" in out
    assert "gen1: 150 to 500 kW" in out


def test_main_check_quiet_good_site_prints_nothing(capsys):
    assert cli_main.main(["check", "--quiet", "demo"]) == 0
    assert capsys.readouterr() == ("", "")


def test_main_check_broken_sites_prints_all_problems_of_all_files(capsys):
    files = [str(BROKEN / "11_forming.yaml"), str(BROKEN / "07_tiers.yaml")]
    assert cli_main.main(["check", *files]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("allowed:") == 9
    assert "11_forming.yaml:96: forming.islanded[1]" in captured.out
    assert "5 problems" in captured.err


def test_main_check_unknown_site_is_named_with_a_hint(capsys):
    assert cli_main.main(["check", "demmo"]) == 2
    assert "did you mean 'demo'?" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "key"), [(["schema"], "grid"), (["schema", "--map"], "points")])
def test_main_schema_prints_json(capsys, arguments, key):
    assert cli_main.main(arguments) == 0
    assert key in json.loads(capsys.readouterr().out)["properties"]


def test_main_without_command_prints_help(capsys):
    assert cli_main.main([]) == 2
    assert "check" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["check", "--help"]])
def test_main_help_and_version_exit_0(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli_main.main(arguments)
    assert stopped.value.code == 0
    assert capsys.readouterr().out


def test_main_unknown_command_exit_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli_main.main(["chekc"])
    assert stopped.value.code == 2
    assert "chekc" in capsys.readouterr().err


class Raising:
    """A sub-command that fails."""

    HELP = "fails"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def configure(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, args: argparse.Namespace) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("load.csv: gap at 03:00"), 2, "load.csv: gap at 03:00"),
        (ConfigError([]), 2, ""),
        (PermissionError(13, "Permission denied", "/x"), 2, "Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_main_command_fails_plain_text_and_code(monkeypatch, capsys, error, code, words):
    real = importlib.import_module
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda name, *a: Raising(error) if name == "cli.check" else real(name, *a),
    )
    assert cli_main.main(["check"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_main_reader_gone_is_quiet():
    command = f"{sys.executable} -m cli.main schema | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_main_check_imports_only_its_own_needs():
    code = (
        "import sys; from cli.main import main; main(['check', '--quiet', 'demo']);"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('pandas', 'pyomo', 'highspy', 'scipy', 'pvlib', 'fastapi', 'plotly', 'asyncua', 'optimizer',"
        " 'sim')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_find_site_file_folder_and_name_are_the_same():
    shipped = shipped_sites()["demo"]
    assert find_site("demo") == find_site(str(shipped)) == find_site(str(shipped.parent)) == shipped


class Endless:
    """A command that runs until somebody ends it."""

    HELP = "endless"

    def __init__(self, run: Callable[[], None]) -> None:
        self._run, self.tidy = run, False

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Nothing is asked."""

    def run(self, args: argparse.Namespace) -> int:
        try:
            self._run()
        finally:
            self.tidy = True
        return 0


def _plain() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10.0)


def _in_a_loop() -> None:
    async def body() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(10.0)

    asyncio.run(body())


@pytest.mark.parametrize("ignored", [False, True], ids=["", "Ctrl-C ignored"])
@pytest.mark.parametrize("body", [_plain, _in_a_loop])
def test_main_sigterm_ends_a_command_as_ctrl_c_does(
    body: Callable[[], None], ignored: bool, monkeypatch: pytest.MonkeyPatch
):
    command, before = Endless(body), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(importlib, "import_module", lambda name: command)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        assert cli_main.main(["check"]) == 143
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert command.tidy
    assert signal.getsignal(signal.SIGTERM) == before
