"""Fixtures every test may use: programs and data from outside, skipped by name where they are absent.

In CI (`EMS_REQUIRE_PEERS=1`) a test marked `needs_server` that was skipped counts as failed: a peer that is
not installed must not turn a check into a silent pass.
"""

import gc
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.groups import GroupScheduling

# Runs of the edge keep every tick they have seen: to look through all of that for cycles, again and again,
# takes a tenth of the time of the tests.
gc.set_threshold(50_000, 20, 50)

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def peers_are_required() -> bool:
    return os.environ.get("EMS_REQUIRE_PEERS", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that needs an outside program into a failure where peers are required."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")  # an xfail is reported as skipped too
    if skipped and peers_are_required() and item.get_closest_marker("needs_server"):
        reason: Any = report.longrepr
        text = reason[2] if isinstance(reason, tuple) else str(reason)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs an outside program and was skipped: {text}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """Two at a time, a long run that several tests look at is made once."""
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Give a function that finds a program of that name, or skips the test and says which is missing."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"the program '{name}' is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The top of the checkout."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets: `$EMS_SHARED_DATA`, or `shared/data` beside the checkout."""
    named = os.environ.get("EMS_SHARED_DATA")
    folder = Path(named) if named else PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared data sets are not there ({folder}; EMS_SHARED_DATA may name them)")
    return folder
