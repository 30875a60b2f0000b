"""A thread that ends by a fault of ours is told; one that ends as it should is not."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cli.edge_threads import EndedThreads
from cli.edge_watches import Watches
from cli.process_config import ProcessConfig
from ems.clock import VirtualClock
from tests import builders


def broken() -> None:
    raise OSError("no such device")


def run(what: Callable[[], None], name: str) -> None:
    thread = threading.Thread(target=what, name=name)
    thread.start()
    thread.join()


def test_a_thread_that_ends_by_a_fault_rings_and_the_others_go_on():
    before = threading.excepthook
    ended = EndedThreads()
    try:
        run(lambda: None, "input watch")
        assert [a.key for a in ended.alarms] == []
        run(broken, "price watch")
        (alarm,) = ended.alarms
        assert (alarm.key, alarm.text) == ("edge.thread.ended", "price watch: OSError: no such device")
        run(broken, "archive watch")
        assert ended.alarms[0].text.count("; ") == 1
    finally:
        ended.close()
    assert threading.excepthook is before


def test_what_looks_after_the_edge_tells_the_thread_with_its_other_alarms(tmp_path: Path):
    before = threading.excepthook
    well: Any = SimpleNamespace(trouble=None, unwritten=False, failing=dict, expiring=dict, faults=dict)
    watches = Watches(
        ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path, keeper_port=1),
        builders.site(), VirtualClock(builders.T0), lambda kind, fields: None,
    )  # fmt: skip
    try:
        assert watches.beside(well, well, well) == ()
        run(broken, "historian")
        assert [a.key for a in watches.beside(well, well, well)] == ["edge.thread.ended"]
    finally:
        watches.close()
    assert threading.excepthook is before
