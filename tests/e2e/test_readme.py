"""Every command in README.md and docs/*.md is run as it stands there, or is named here with the reason."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.plants import free_port
from tests.e2e.commands import ROOT, Typed, all_typed, typed_in
from tests.e2e.conftest import RealTime
from tests.e2e.live import LiveDemo, get, wait_for

pytestmark = pytest.mark.timeout(900)
LONGEST_S = 300.0  # one command
PATIENCE_S = 180.0  # with a service on a busy machine

# Commands that nobody runs here, and why.
NOT_RUN = {
    # They take minutes and hours: tests/unit/cli/test_soak.py runs such lines.
    "ems soak demo --episodes 1000 --jobs 2 --mattered 30 --out soak/two_hours --resume": "takes hours",
    "ems soak demo --days --episodes 30 --jobs 2 --mattered 30 --counting soak/two_hours"
    " --out soak/days --resume": "the same",
    # Letting go of a plant needs one that is held: tests/unit/cli/test_alarms.py runs these lines.
    'ems release --why "firmware of the plant controller"': "needs a running plant",
    "ems release --take-back": "the same",
    # What people do to alarms needs a plant that has them: tests/unit/cli/test_alarms.py runs these lines.
    "ems alarms acknowledge bus.dead": "needs a running plant",
    'ems alarms shelve device.silent.pv_controller --for 2h --why "switch is being replaced"': "the same",
    "ems alarms unshelve device.silent.pv_controller": "the same",
    'ems alarms remove genset.unavailable.gen1 --why "permit 4711" --engineer': "the same",
    # They need an OPC UA server that keeps history: tests/contract/test_history_peer.py runs such lines.
    "ems certificate fetch SITE scada.yaml": "needs a server with history",
    "ems import SITE --mapping scada.yaml --from 2026-01-01 --to 2026-03-01": "the same",
    # It needs a plant that was commissioned: tests/scenarios/test_52_signatures.py signs and checks one.
    "ems sign record /var/lib/hybrid-ems/commissioning.json --key ~/keys/eve.key": "needs a record",
    # It needs a plant with a server: tests/e2e/test_northbound.py runs it.
    "ems northbound status": "needs a running plant",
    # It needs a plant with a utility's server: tests/e2e/test_utility.py runs it.
    "ems utility status": "needs a running plant",
    # It needs a day that was packed: tests/unit/connectors/test_audit_archive.py runs it.
    "unzip -p archive/audit/audit-20260302T000000Z-000001.zip command.csv.xz | xz -dc | head": "needs a file",
    # They need an IEC 61850 device: tests/contract/test_iec61850_browse.py and _peer.py run such lines.
    "ems browse 192.0.2.31 --only MMXU1": "needs a device",
    "ems read SITE bess_controller": "the same",
    # It needs an outstation: tests/contract/test_dnp3_peer.py runs such a line.
    "ems browse 192.0.2.41 --dnp3 10": "needs an outstation",
    # They need a server: tests/contract/test_opc_ua_browse.py runs such lines.
    "ems browse 192.0.2.71 --opc-ua /plant --only Power": "needs a server",
    "ems browse SITE --device meter": "the same",
    # It needs a device: tests/contract/test_bacnet_peer.py runs such a line.
    "ems browse 192.0.2.51 --bacnet 1201": "needs a device",
    "ems read SITE store_controller": "the same",
    # It needs a station: tests/contract/test_iec104_peer.py runs such a line.
    "ems read SITE rtu": "needs a station",
    # They need a meter: tests/contract/test_dlms_browse.py runs such lines.
    "ems browse 192.0.2.61 --dlms 16": "needs a meter",
    "ems read SITE revenue_meter": "the same",
    # They need a device with a REST API: tests/contract/test_http_peer.py runs such lines.
    "ems browse battery.plant.example --http /api/power --pinned pki/http/battery.pem": "needs a device",
    "ems browse 192.0.2.51 --http /api/status --plain --only soc": "the same",
    "ems read SITE battery_api": "the same",
    # It needs a meter with a load profile: tests/contract/test_dlms_profile.py runs such lines.
    "ems import SITE --mapping meter.yaml --from 2026-01-01 --to 2026-03-01": "needs a meter",
    # They need a publisher on the cable: tests/contract/test_iec61850_goose_peer.py runs such lines.
    "ems listen goose eth1": "needs a relay",
    "ems read SITE poi_relay": "the same",
    # They need an engine on a bus: tests/contract/test_j1939_peer.py runs such lines.
    "ems listen j1939 can0": "needs a bus",
    "ems listen j1939 /dev/ttyACM0 --bitrate 250000": "the same",
    "ems read SITE gen1_engine": "the same",
    # They need an edge that runs: tests/e2e/test_wire.py runs such lines.
    "ems wire pcs --for 10min": "needs a running plant",
    "ems wire": "the same",
    "text2pcap -D -t ISO -T 502,50000 ems-data/wire/pcs.log pcs.pcap": "needs a log",
    "make test": "the test command itself: .ci/run runs it",
}
# What is asked of an edge needs one that runs: tests/unit/cli/test_operator.py runs every such line.
OPERATOR = "ems operator "
# Commands that share a run with other tests (whole match).
DEMO = ("make demo", "ems demo", "ems demo --serve")
SERVICE = "http://127.0.0.1:8080/"  # asked of the service that `ems demo --serve` keeps up, at its port
REAL_TIME = (r"ems demo --real-time( --minutes [\d.]+)?",)
# Commands that are run with something added or replaced: (whole match, instead, why).
INSTEAD = (
    (
        r"ems run SITE",
        "ems run demo --minutes 0.2 --api-port {port}",
        "SITE stands for a site; it runs until Ctrl-C",
    ),
    (
        r"ems run demo --scenarios 5",
        "ems run demo --scenarios 5 --minutes 0.2 --api-port {port}",
        "it runs until Ctrl-C",
    ),
    (
        r"ems plan SITE --scenarios 5 --outage-scenarios 4",
        "sed 's/^reserve:/reserve:\\n  outages_per_month: 4/' sites/demo/site.yaml > sites/demo/weak.yaml && "
        "ems plan sites/demo/weak.yaml --scenarios 3 --outage-scenarios 2",
        "SITE stands for a site that knows how often its grid is lost",
    ),
    (
        r"ems import SITE old/2025.csv old/2026.csv --mapping old.yaml",
        "mkdir -p old && for y in 2025 2026; do printf 'Timestamp,TagName,Value,Quality\n01/02/%s 12:00:00,"
        "PM1.KW,1,192\n' $y > old/$y.csv; done && sed -n '/^# old.yaml/,/^```/p' "
        f"{ROOT}/docs/links.md | sed '$d' > old.yaml && "
        "ems import demo old/2025.csv old/2026.csv --mapping old.yaml",
        "SITE stands for a site, and the files for those of its former system",
    ),
    (
        r"ems inputs SITE( --at .*)?|ems inputs SITE --(plan current|show 12)",
        "ems inputs demo",
        "SITE stands for a site with inputs: tests/unit/cli/test_inputs.py looks at one",
    ),
    (
        r"ems inputs SITE --look",
        "ems inputs demo --look",
        "the same",
    ),
    (
        r"ems northbound map SITE",
        f"(cat sites/demo/site.yaml; sed -n '/^# in the site file, at its end/,/^```/p' "
        f"{ROOT}/docs/northbound.md | sed '$d') > sites/demo/served.yaml && "
        "ems northbound map sites/demo/served.yaml",
        "SITE stands for a site with servers",
    ),
    (
        r"ems northbound map SITE utility",
        f"(cat sites/demo/site.yaml; sed -n '/^# in the site file, at its end/,/^```/p' "
        f"{ROOT}/docs/iec104.md | sed '$d') > sites/demo/told.yaml && "
        "ems northbound map sites/demo/told.yaml utility",
        "the same",
    ),
    (
        r"ems utility identity SITE",
        "mkdir -p sites/demo/pki/utility && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        "-nodes -days 30 -subj /CN=ems -keyout sites/demo/pki/utility/own.key "
        "-out sites/demo/pki/utility/own.pem && "
        f"(cat sites/demo/site.yaml; sed -n '/^# in the site file, at its end/,/^```/p' "
        f"{ROOT}/docs/utility.md | sed '$d') > sites/demo/bounded.yaml && "
        "ems utility identity sites/demo/bounded.yaml",
        "SITE stands for a site with a utility's server",
    ),
    (
        r"ems bill SITE.*",
        "ems bill demo --dir . --month 2026-03 --out march.json || test $? -eq 1",
        "SITE stands for a site; of its month one day was read",
    ),
    (
        r"ems simulate SITE --inputs versions --days 7 --out study",
        "cp -r sites/demo study-site && printf '\\ninputs:\\n  market: {{kind: price, folder: inbox}}\\n' >> "
        "study-site/site.yaml && mkdir -p versions/market && printf 'time,issued_at,import_per_kwh\\n"
        "2026-03-18T12:00Z,2026-03-17T11:00Z,0.3\\n2026-03-18T13:00Z,2026-03-17T11:00Z,0.4\\n' > "
        "versions/market/a.csv && ems simulate study-site --inputs versions --controllers rules,rules_tou "
        "--out priced-study",
        "SITE stands for a site with inputs; the EMS and a week take longer",
    ),
    (
        r"ems plan SITE --inputs ems-data",
        "mkdir -p priced && cp -r sites/demo/maps priced && cp sites/demo/site.yaml priced && "
        "printf '\\ninputs:\\n  p: {{kind: price, folder: inbox}}\\n' >> priced/site.yaml && "
        "(ems inputs priced --look || true) && ems plan priced --inputs ems-data",
        "SITE stands for a site with inputs",
    ),
    (
        r"openssl s_client -connect battery.plant.example:443 .*",
        "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=battery -keyout pki/http/battery.key "
        "-out pki/http/battery.pem",
        "a device that is nowhere",
    ),
    (r"ems sign key eve --into ~/keys", "ems sign key eve --into keys", "nothing of ours in a home"),
    (
        r"ems sign site /etc/hybrid-ems/site.yaml --key ~/keys/eve.key",
        "ems sign site sites/demo/site.yaml --key keys/eve.key",
        "the file of a plant",
    ),
    (
        r"ems sign check /etc/hybrid-ems/site.yaml --record .*",
        "mkdir -p -m 700 trust/site && cp keys/eve.pem trust/site && "
        "ems sign check sites/demo/site.yaml --trust trust",
        "the same, and a record",
    ),
    (
        r"ems simulate demo --dataset ucsd_eskom --data FOLDER .*",
        "ems simulate demo --days 1 --coarse --replan 12h --controllers mpc_two_stage,mpc_robust",
        "FOLDER stands for data sets that are not everywhere; a week takes many minutes",
    ),
)


def how(command: str) -> str:
    """`not_run`, `demo`, `service`, `real_time` or `run`."""
    if command in NOT_RUN or command.startswith(OPERATOR):
        return "not_run"
    if command in DEMO:
        return "demo"
    if command.startswith("curl ") and SERVICE in command:
        return "service"
    return "real_time" if any(re.fullmatch(p, command) for p in REAL_TIME) else "run"


def to_run(command: str) -> str:
    """What is really handed to the shell."""
    for pattern, instead, _ in INSTEAD:
        if re.fullmatch(pattern, command):
            return instead.format(port=free_port())
    return command


LEFT_BEHIND = re.compile(r"demo-result|history\.sqlite|--dir \.")  # by `make demo`
TYPED = all_typed()
RUN = [t for t in TYPED if how(t.ems) == "run"]
AFTER = [t for t in RUN if LEFT_BEHIND.search(to_run(t.ems))]
BESIDE = [t for t in RUN if t not in AFTER]
ASK = [t for t in TYPED if how(t.ems) == "service"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout when it is set up: .venv, sites."""
    place = tmp_path_factory.mktemp("checkout")
    (place / ".venv").symlink_to(Path(sys.prefix))
    shutil.copytree(ROOT / "sites", place / "sites", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture(scope="module")
def place(checkout: Path, finished_demo: LiveDemo) -> Path:
    """The same after `make demo`: demo-result, a historian."""
    place = checkout
    shutil.copytree(finished_demo.out, place / "demo-result", ignore=shutil.ignore_patterns("run"))
    with sqlite3.connect(finished_demo.out / "run" / "history.sqlite") as source:
        with sqlite3.connect(place / "history.sqlite") as target:
            source.backup(target)
        target.close()
    source.close()
    return place


def run(command: str, place: Path) -> "subprocess.CompletedProcess[str]":
    """In a shell that finds our program, as after `. .venv/bin/activate`."""
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place,
        env={**os.environ, "PATH": path, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


def test_readme_has_the_two_commands_on_its_first_screen():
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25]
    found = [t.ems for t in typed_in(ROOT / "README.md", "\n".join(first))]
    assert {"make demo", "make test"} <= set(found)


def test_readme_exceptions_are_still_in_the_documents():
    """A list that outlives what it excuses hides the next one."""
    there = {t.ems for t in TYPED}
    assert set(NOT_RUN) <= there
    for pattern, *_ in INSTEAD:
        assert any(re.fullmatch(pattern, t) for t in there), pattern


def test_readme_make_demo_is_the_run_of_this_session(finished_demo: LiveDemo):
    """`make demo` sets up and calls `ems demo`; setting up is what every other make target does, too."""
    recipe = re.search(r"^demo:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert recipe[1] == "@$(BIN)/ems demo $(DEMO_ARGS)"
    assert finished_demo.process.returncode == 0, finished_demo.text


def test_readme_real_time_is_the_run_of_this_session(real_time: RealTime):
    assert any(how(t.ems) == "real_time" for t in TYPED)
    assert real_time.live.process.returncode == 0, real_time.live.text


@pytest.mark.parametrize("typed", BESIDE, ids=[f"{t.file}:{t.line}: {t.ems}" for t in BESIDE])
def test_readme_command_works_beside_the_demo(typed: Typed, checkout: Path):
    """In the order of the documents: a later command may need what an earlier one left behind."""
    works(to_run(typed.ems), checkout)


@pytest.mark.parametrize("typed", AFTER, ids=[f"{t.file}:{t.line}: {t.ems}" for t in AFTER])
def test_readme_command_works_after_the_demo(typed: Typed, place: Path):
    works(to_run(typed.ems), place)


def works(command: str, place: Path) -> None:
    """It ends well and says nothing of itself that only we understand."""
    if command.startswith("sqlite3 ") and shutil.which("sqlite3") is None:
        _, file, statement = re.split(r"\s+", command, maxsplit=2)
        db = sqlite3.connect(place / file)
        assert db.execute(statement.strip("\"'")).fetchall()
        db.close()
        return
    done = run(command, place)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("typed", ASK, ids=[f"{t.file}:{t.line}: {t.ems}" for t in ASK])
def test_readme_service_answers(typed: Typed, served_demo: LiveDemo, tmp_path: Path):
    """With curl where there is one. A day that is over is not ready, and says so with 503."""
    command = typed.ems.replace(SERVICE, f"http://127.0.0.1:{served_demo.config()['api_port']}/")
    url = shlex.split(command)[-1]
    wait_for("an answer", lambda: get(url)[0] or None, PATIENCE_S)
    status, body = get(url)
    if url.endswith("/ready"):
        assert status == 503, body
    elif "explanation" in url:  # the last plan of the day may have come too late to be explained
        assert status == 200 or (status == 404 and "not explained" in body), body
    else:
        assert status == 200, body
    if shutil.which("curl") is not None:
        done = run(command.replace("curl ", "curl -sS --noproxy '*' "), tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout[:1] == body[:1]


DOCUMENT = """
```sh
make demo     # set up
ems a "b # c" \\
  --d 1
```

```console
$ ems e
what it answers
```

```yaml
ems: no command
```

Type `ems f --g` or `SELECT`.
"""


def test_typed_in_a_document_finds_commands_and_nothing_else():
    found = [t.text for t in typed_in(ROOT / "README.md", DOCUMENT)]
    assert found == ["make demo", 'ems a "b # c" --d 1', "ems e", "ems f --g"]
    assert "ems f --g" not in [t.text for t in typed_in(ROOT / "docs" / "x.md", DOCUMENT)]
