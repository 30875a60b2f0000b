"""51: edge and service in a process that gets no memory any more (RLIMIT_AS): neither locks up."""

import json
import resource
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.free_ports import free_ports
from cli.process_config import ProcessConfig, write_config
from ems.site import Site
from sim.rig import Rig
from tests.scenarios.conftest import DEMO
from tests.scenarios.recording import recording, until

pytestmark = [pytest.mark.scenario(51), pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]


def test_edge_that_gets_no_memory_decides_as_ever(tmp_path: Path):
    """A minute, of it half a minute with the memory of its limit taken: the same commands, all recorded."""
    run = [sys.executable, "-m", "tests.scenarios.short_of_memory", str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said == {"short": True, "broken": None, "same": True, "recorded": True}


@dataclass(frozen=True)
class Service:
    """The api process over what an edge has recorded."""

    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, path: str, timeout_s: float) -> int:
        """The status it answers with; 0: none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture
def service(demo: Site, tmp_path: Path) -> Iterator[Service]:
    rig, recorder = recording(Rig(demo, load_kw={"critical": 60.0}, pv_kw=100.0), tmp_path)
    rig.run(30.0)
    assert recorder.close()
    (port,) = free_ports(1)
    config = ProcessConfig(site=DEMO, directory=tmp_path, api_port=port)
    told = write_config(config, tmp_path / "process.json")
    process = subprocess.Popen([sys.executable, "-m", "cli.api_process", str(told)], cwd=ROOT)
    try:
        yield Service(process, port)
    finally:
        process.kill()
        process.wait()


def test_service_that_gets_no_memory_comes_back_when_there_is_some(service: Service):
    """What it cannot answer it refuses or drops; it is the same process that answers afterwards."""
    pages = ["/metrics", "/api/v1/snapshot", "/api/v1/site", "/api/v1/events?limit=10000"]
    until(lambda: service.ask("/health", 5.0) == 200, 60.0)
    assert [service.ask(p, 20.0) for p in pages] == [200] * len(pages)
    pid = service.process.pid
    pages_now = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = (pages_now * resource.getpagesize(), resource.RLIM_INFINITY)
    before = resource.prlimit(pid, resource.RLIMIT_AS, limit)
    with ThreadPoolExecutor(16) as many:
        got = list(many.map(lambda p: service.ask(p, 2.0), pages * 12))
    assert set(got) <= {0, 200, 500, 503}
    assert set(got) != {200}, "the limit was not in force"
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    until(lambda: service.ask("/health", 5.0) == 200, 30.0)
    until(lambda: [service.ask(p, 20.0) for p in pages] == [200] * len(pages), 60.0)
    assert service.process.poll() is None
