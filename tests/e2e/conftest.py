"""Runs that several tests look at, and the order that lets them share two cores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.days import Lived, around_outage, live_through
from tests.e2e.live import LiveDemo

# Tests that watch real seconds first; then the demo runs beside the lock-step runs, which do not mind.
_EARLY = ("test_modbus_bad_devices", "test_opc_ua_bad_servers", "test_wheel", "test_shadow", "test_real_time")
_LATE = 3


def _rank(item: pytest.Item) -> int:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if "finished_demo" in fixtures:
        return _LATE
    if "demo" in fixtures:
        return 1
    return 0 if item.path.stem in _EARLY else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The demo of the session starts early and is waited for at the end; only tests of this folder move."""
    here = Path(__file__).parent
    places = [i for i, item in enumerate(items) if item.path.is_relative_to(here)]
    for place, item in zip(places, sorted((items[i] for i in places), key=_rank), strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDemo]:
    """`ems demo` as a user starts it, while it runs."""
    out = tmp_path_factory.mktemp("demo") / "result"
    with LiveDemo.started(out) as live:
        yield live


@pytest.fixture(scope="session")
def finished_demo(demo: LiveDemo) -> LiveDemo:
    """The same, when it has ended by itself."""
    demo.wait()
    return demo


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """The half hour in which the mains fail, over sockets, with nobody killed."""
    return live_through(tmp_path_factory.mktemp("quiet"), around_outage())
