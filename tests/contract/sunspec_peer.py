"""The example of docs/sunspec.md as a site, and libmodbus devices that hold its registers."""

import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ems.site import Site
from ems.site_schema import load_site
from tests.contract.plants import free_port
from tests.contract.sunspec_image import registers

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests" / "unit" / "ems" / "broken_sites"
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
FILES = ("pv_sunspec.yaml", "bess_sunspec.yaml", "meter_sunspec.yaml")


def blocks() -> list[str]:
    """YAML of the page: connections, three maps, authority."""
    found = BLOCK.findall((ROOT / "docs" / "sunspec.md").read_text())
    assert [b.split(":")[0] for b in found[:5]] == ["connections", "device", "device", "device", "authority"]
    return list(found)


def write_example(folder: Path, edits: dict[str, str] | None = None) -> Path:
    """The small site with its battery, inverter and meter as the page has them; `edits` replace text."""
    connections, *maps, authority = blocks()[:5]
    text = (SMALL / "good.yaml").read_text()
    for name in ("bess1.p_set_kw", "pv1.p_limit_kw"):
        text, n = re.subn(rf"^  {name}:\n(    .*\n)+", "", text, flags=re.MULTILINE)
        assert n == 1
    text = text.replace("authority:\n", authority).replace("connections:\n", connections)
    (folder / "maps").mkdir(parents=True)
    shutil.copytree(SMALL / "maps", folder / "maps", dirs_exist_ok=True)
    for name, what in (("field", "bess1|pv1"), ("meter", r"grid1\.(?:p_kw|v_pu)")):
        path = folder / "maps" / f"{name}.yaml"
        path.write_text(re.sub(rf"^  (?:{what}).*\n", "", path.read_text(), flags=re.MULTILINE))
    pages = {folder / "maps" / f: m for f, m in zip(FILES, maps, strict=True)} | {folder / "site.yaml": text}
    for path, page in pages.items():
        for old, new in (edits or {}).items():
            page = page.replace(old, new)
        path.write_text(page)
    return folder / "site.yaml"


def example(folder: Path, edits: dict[str, str] | None = None) -> Site:
    return load_site(write_example(folder, edits))


def build_slave(folder: Path) -> Path:
    """The device of libmodbus; skipped where it cannot be compiled."""
    compiler, config = shutil.which("cc"), shutil.which("pkg-config")
    if compiler is None or config is None:
        pytest.skip("no C compiler or no pkg-config")
    flags = subprocess.run([config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True)
    if flags.returncode != 0:
        pytest.skip("libmodbus is not installed")
    program = folder / "sunspec_slave"
    source = Path(__file__).with_name("sunspec_slave.c")
    subprocess.run([compiler, str(source), "-o", str(program), *flags.stdout.split()], check=True)
    return program


class Slave:
    """One device of libmodbus with an image written by hand."""

    def __init__(self, program: Path, image: dict[int, list[int]], folder: Path) -> None:
        self.port, self.image = free_port(), registers(image)
        self.file = folder / f"image-{self.port}"
        self._store(self.image)
        first = min(self.image)
        arguments = [str(self.port), str(first), str(len(self.image)), str(self.file)]
        self.process: Any = subprocess.Popen([str(program), *arguments], stdout=subprocess.PIPE, text=True)
        assert self.line() == "listening"

    def _store(self, words: dict[int, int]) -> None:
        part = self.file.with_suffix(".part")
        part.write_text("".join(f"{a} {v}\n" for a, v in words.items()))
        part.replace(self.file)

    def put(self, changes: dict[int, list[int]]) -> None:
        """Change registers, before the next request is answered."""
        self._store({a + i: w for a, words in changes.items() for i, w in enumerate(words)})
        self.process.send_signal(signal.SIGUSR1)

    def line(self) -> str:
        return str(self.process.stdout.readline()).strip()

    def writes(self, count: int) -> list[list[int]]:
        """The next writes that arrived: register, then what was written."""
        out: list[list[int]] = []
        while len(out) < count:
            line = self.line()
            if line != "renewed":
                out.append([int(n) for n in line.removeprefix("W ").split()])
        return out

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
