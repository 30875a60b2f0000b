"""What is looked after beside the edge: threads that end by a fault, and whose wire may be asked for."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cli._sites import find_site
from cli.edge_threads import EndedThreads
from cli.edge_watches import Watches
from cli.process_config import ProcessConfig
from connectors.wire_log import connections
from ems.clock import VirtualClock
from ems.site import Protocol
from ems.site_schema import load_site
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
    nothing = dict.fromkeys(
        ("failing", "expiring", "faults", "driver_faults", "losses", "wrong_clocks"), dict
    )
    well: Any = SimpleNamespace(trouble=None, unwritten=False, **nothing)
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


def test_the_wire_of_a_device_that_is_only_listened_to_can_be_asked_for_too(tmp_path: Path):
    site = load_site(find_site("demo"))
    asked, *others = site.connections
    told = replace(asked, id="broker", protocol=Protocol.MQTT)
    config = ProcessConfig(site=tmp_path / "site.yaml", directory=tmp_path)
    watches = Watches(
        config, replace(site, connections=(asked, *others, told)), VirtualClock(builders.T0),
        lambda kind, fields: None,
    )  # fmt: skip
    watches.close()
    assert connections(tmp_path / "wire") == tuple(sorted(c.id for c in (asked, *others, told)))
