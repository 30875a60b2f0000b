"""`ems wire` as people type it, against a real edge process and a simulated plant on real sockets."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.live import EMS
from tests.e2e.test_operator import Edge, edge
from tests.e2e.test_shadow import ROOT, plant

__all__ = ["edge", "plant"]
pytestmark = pytest.mark.timeout(300)


async def typed(edge: Edge, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        EMS, "wire", *arguments, "--dir", str(edge.directory), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60.0)
    assert process.returncode is not None
    return process.returncode, out.decode()


def rows(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def test_a_running_edge_keeps_the_bytes_of_one_device_until_it_is_told_to_stop(edge: Edge):
    code, text = await typed(edge)
    assert code == 0
    assert "pcs: not kept; no log" in text, text
    assert (await typed(edge, "pcs", "--for", "10min"))[0] == 0
    file = edge.directory / "wire" / "pcs.log"
    await edge.until("bytes are kept", lambda: sum(line[0] == "I" for line in rows(file)) > 3)
    asked = [b for a, b in zip(rows(file), rows(file)[1:], strict=False) if a[0] == "O"]
    assert asked, "what we send as well"
    functions = {line.split()[8] for line in asked}  # offset, transaction, protocol, length, unit, function
    assert functions <= {"03", "04", "06", "10"}, functions
    assert [f.name for f in file.parent.glob("*.log")] == ["pcs.log"], "of nobody else"
    assert (await typed(edge, "pcs", "--stop"))[0] == 0
    await asyncio.sleep(2.5)
    size = file.stat().st_size
    await asyncio.sleep(1.5)
    assert file.stat().st_size == size
    assert "pcs: not kept; " in (await typed(edge))[1]
