"""`ems import` from the history of node-opcua, which shares no code with us."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from cli.main import main
from connectors.imports.store import FILE, ImportedHistory
from connectors.opcua import certificates, history
from ems.records import Sample
from tests.contract.node_plant import NodeUaPlant
from tests.contract.plants import URI

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]
DEMO = Path(__file__).resolve().parents[2] / "sites" / "demo" / "site.yaml"
START = datetime(2026, 3, 2, 5, tzinfo=UTC)  # the second of March in New York
STEP_S, COUNT = 30, 700
MAPPING = """
source: old_scada
shape: opc_ua
server:
  host: 127.0.0.1
  port: {port}
  endpoint: /plant
  timeout_s: 5
  security: {{policy: Basic256Sha256, user: ems, password_file: password,
    certificate: own.der, key: own.key, trusted: trusted}}
points:
  "nsu={uri};path=Plant&/1/{{{uri}:types}}Meter/p_kw": {{point: grid1.p_kw, scale: -1, unit: W}}
  "nsu={uri};s=dev.state": {{point: bess1.soc, unit: "%"}}
"""
Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[NodeUaPlant]:
    plant = NodeUaPlant()
    await plant.start()
    ms = int(START.timestamp() * 1000)
    power = [(ms + 1000 * STEP_S * i, 1000.0 * i, i % 100 != 7) for i in range(-10, COUNT)]
    await plant.ask("keep", name="p_kw", samples=power)
    await plant.ask("keep", name="state", samples=[(ms, 50, True), (ms + 1, 51, True)])
    yield plant
    await plant.stop()


@pytest.fixture
def importing(plant: NodeUaPlant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(
        *more: str, swap: tuple[str, str] = ("", ""), days: tuple[str, str] = ("2026-03-02", "2026-03-03")
    ) -> tuple[int, str]:
        mapping = plant.pki.folder / "history.yaml"
        text = MAPPING.format(port=plant.connection.port, uri=URI).replace(*swap)
        mapping.write_text(text)
        asked = ["--mapping", str(mapping), "--dir", str(tmp_path), "--from", days[0], "--to", days[1], *more]
        code = await asyncio.to_thread(main, ["import", str(DEMO), *asked])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def samples(folder: Path, point: str) -> list[Sample]:
    with closing(ImportedHistory(folder)) as imported:
        return list(imported.series(point, START - timedelta(days=1), START + timedelta(days=2), 100_000))


async def test_every_value_of_the_days_arrives_once_in_our_unit_and_sign(importing, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "PAGE", 100)  # eight continuation points
    code, told = await importing()
    assert (code, f"{COUNT + 2} values added, 0 were there" in told) == (0, True), told
    found = samples(tmp_path, "grid1.p_kw")
    assert [s.at for s in found] == [START + timedelta(seconds=STEP_S * i) for i in range(COUNT)]
    assert [s.value for s in found] == [-float(i) for i in range(COUNT)]
    assert [i for i, s in enumerate(found) if s.quality.value == "device_bad"] == list(range(7, COUNT, 100))
    assert [s.value for s in samples(tmp_path, "bess1.soc")] == [0.5, 0.51]
    code, told = await importing()
    assert (code, f"0 values added, {COUNT + 2} were there" in told) == (0, True), told
    assert samples(tmp_path, "grid1.p_kw") == found
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("SELECT DISTINCT source FROM readings").fetchall() == [("old_scada",)]
    assert not list(tmp_path.glob("import-*"))


async def test_later_days_are_added_and_days_without_history_are_none(importing, tmp_path):
    code, told = await importing(days=("2026-02-01", "2026-02-02"))
    assert (code, "0 values added" in told) == (0, True), told
    code, told = await importing(days=("2026-03-01", "2026-03-02"))
    assert (code, "10 values added" in told) == (0, True), told


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        (("s=dev.state", "s=dev.soc"), "BadHistoryOperationUnsupported; allowed: a node whose history"),
        (("s=dev.state", "s=dev.absent"), "BadNodeIdUnknown"),
        (("Meter/p_kw", "Meter/q_kw"), "no node there"),
        ((f'"nsu={URI};s', '"nsu=urn:nobody;s'), "the server has no namespace urn:nobody"),
        (("trusted: trusted", "trusted: nobody"), "the server's certificate is not in"),
        (("user: ems", "user: eve"), "the server refuses the user (eve with the password of"),
    ],
)
async def test_what_cannot_be_had_is_named_and_nothing_is_stored(importing, tmp_path, swap, said):
    code, told = await importing(swap=swap)
    assert (code, said in told) == (2, True), told
    assert samples(tmp_path, "grid1.p_kw") == []


async def test_continuation_point_forgotten_by_the_server_costs_nothing(importing, tmp_path, monkeypatch):
    """A server may drop them at any time; what is missing is asked for by its time."""
    monkeypatch.setattr(history, "PAGE", 100)
    asked, real = [], history._question

    def mangled(node, start, end, point):
        asked.append(point)
        return real(node, start, end, b"x" * 8 if len(asked) == 4 else point)

    monkeypatch.setattr(history, "_question", mangled)
    code, told = await importing()
    assert (code, f"{COUNT + 2} values added" in told) == (0, True), told


async def test_certificate_of_the_historian_is_fetched_and_trusted_by_its_mapping_file(importing, plant):
    async def fetch(*more: str) -> int:
        mapping = plant.pki.folder / "history.yaml"
        return await asyncio.to_thread(main, ["certificate", "fetch", str(DEMO), str(mapping), *more])

    swap = ("trusted: trusted", "trusted: mine")
    assert "the server's certificate is not in" in (await importing(swap=swap))[1]
    assert await fetch("--trust", "00:11") == 2
    assert await fetch("--trust", certificates.thumbprint(plant.own)) == 0
    code, told = await importing(swap=swap)
    assert (code, f"{COUNT + 2} values added" in told) == (0, True), told
