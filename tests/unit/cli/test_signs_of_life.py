"""systemd's watchdog is fed by completed cycles and by nothing else; the unit keeps its hardening."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from cli.signs_of_life import SignsOfLife
from connectors.systemd import Notifier
from tests.unit.dispatch.test_runtime import Bench, Broken

UNIT = Path(__file__).parents[3] / "deploy" / "hybrid-ems.service"


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(address)
        self.messages: list[dict[str, str]] = []

    def hear(self) -> list[dict[str, str]]:
        """Everything told so far."""
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except BlockingIOError:
                return self.messages
            self.messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    def fed(self) -> int:
        return sum("WATCHDOG" in m for m in self.hear())


@pytest.fixture
def manager(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


@pytest.fixture
def signs(tmp_path, manager):
    signs = SignsOfLife(Notifier(str(tmp_path / "notify")))
    yield signs
    signs.close()


def enough(bench: Bench, cycles: float) -> bool:
    return bench.clock.monotonic_s() >= cycles


async def test_watchdog_each_completed_cycle_feeds_it_once_and_ready_is_told_once(manager, signs):
    bench = Bench()
    await bench.edge.run(lambda last: 1.0, lambda: enough(bench, 5.0), signs.told)
    signs.close()
    told = manager.hear()
    assert [m for m in told if "READY" in m] == [told[0]]
    assert manager.fed() == 5
    assert told[3]["STATUS"] == "grid_tied, rules (the controller follows rules), 0 alarms"
    assert not any("STOPPING" in t for t in told)  # an edge that ends is started anew: the service goes on


async def test_watchdog_loop_hangs_in_its_io_is_not_fed_again(manager, signs):
    """A device call that never comes back: nobody else may say that the loop lives."""
    bench, hang = Bench(), asyncio.Event()
    read = bench.io.read_all

    async def read_all():
        if enough(bench, 3.0):
            hang.set()
            await asyncio.Event().wait()
        return await read()

    bench.io.read_all = read_all  # type: ignore[method-assign]
    running = asyncio.ensure_future(bench.edge.run(lambda last: 1.0, lambda: False, signs.told))
    await hang.wait()
    fed = manager.fed()
    assert fed == 3
    bench.clock.advance(60.0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert manager.fed() == fed
    running.cancel()


async def test_watchdog_tick_breaks_is_not_fed_by_the_safe_stop(manager, signs):
    bench = Bench(Broken())
    with pytest.raises(Exception, match="two and two"):
        await bench.edge.run(lambda last: 1.0, lambda: False, signs.told)
    assert manager.fed() == 3


def test_notifier_abstract_name_is_reached():
    name = "\0hybrid-ems-test-notify"
    manager = Manager(name)
    notifier = Notifier("@" + name[1:])
    assert notifier.tell(READY="1", STATUS="two\nlines")
    assert manager.hear() == [{"READY": "1", "STATUS": "two lines"}]
    notifier.close()
    manager.socket.close()


def test_notifier_nobody_listens_or_nobody_named_is_no_fault(tmp_path):
    gone = Notifier(str(tmp_path / "gone"))
    assert not gone.tell(WATCHDOG="1")
    assert gone.failed == 1
    gone.close()
    assert not Notifier(None).tell(WATCHDOG="1")


def test_notifier_manager_that_does_not_read_costs_no_time(tmp_path, manager):
    """A full socket is a lost message, never a cycle that waits."""
    notifier = Notifier(str(tmp_path / "notify"))
    told = [notifier.tell(STATUS="x" * 1000) for _ in range(2000)]
    assert not all(told)
    assert notifier.failed == told.count(False)
    notifier.close()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_unit_exposure_level_is_at_most_1_5():
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_unit_limits_of_starts_stand_where_systemd_reads_them():
    """Under [Service] StartLimitIntervalSec is ignored, and five quick failures leave dispatch stopped."""
    unit, _, service = UNIT.read_text().partition("\n[Service]\n")
    assert "StartLimitIntervalSec=0" in unit
    assert "StartLimitIntervalSec" not in service
    assert {"Type=notify", "NotifyAccess=all", "WatchdogSignal=SIGKILL"} <= set(service.splitlines())


def test_unit_asks_whether_the_clock_is_synchronised_and_may_set_none():
    """Trusted as it is, a clock that is wrong and plausible at boot passed for the right time."""
    lines = UNIT.read_text().splitlines()
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert start.endswith("--utc kernel")
    assert {"ProtectClock=yes", "CapabilityBoundingSet=", "ProtectSystem=strict"} <= set(lines)
    hidden = ("InaccessiblePaths", "TemporaryFileSystem", "RootDirectory", "RootImage")
    assert not [line for line in lines if line.startswith(hidden)], "/run/systemd/timesync must be seen"


def drop_in() -> str:
    """What docs/modes.md adds to the unit where the kernel is to be asked."""
    page = (UNIT.parents[1] / "docs" / "modes.md").read_text()
    return page.split("```ini\n", 1)[1].split("```", 1)[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_unit_with_the_drop_in_may_ask_the_kernel_and_still_set_no_clock(tmp_path: Path):
    unit = tmp_path / UNIT.name
    body, install = UNIT.read_text().split("[Install]")
    unit.write_text(f"{body}\n{drop_in()}\n[Install]{install}")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    of = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("✓", "✗"))}
    assert of["CapabilityBoundingSet=~CAP_SYS_TIME"].startswith("✓")
    assert "adjtimex is allowed" in of["SystemCallFilter=~@clock"]
