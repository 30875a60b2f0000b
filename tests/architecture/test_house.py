"""The house itself: locks that pip can check, no trace of one machine, and no page that nobody finds."""

import re
import subprocess
import tomllib

import pytest

from tests.architecture.source_tree import ROOT, report

LOCKS = ("requirements.lock", "requirements-dev.lock")
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)
# Absolute paths of somebody's machine; split so that this file does not find itself.
MACHINE_PATH = re.compile("/wo" + "rk/|/ro" + r"ot/|/ho" + r"me/\w|/Us" + r"ers/\w|\.py" + "env/")
SUFFIXES = frozenset(" .py .md .toml .yaml .yml .json .sh .html .js .css .txt .lock .csv".split(" "))


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text()))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_every_pin_has_hashes_and_no_index_is_named(lock):
    text = (ROOT / lock).read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text.split("\n", 1)[1].strip())
    bare = [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block]
    assert not bare, report("pins without a hash:", bare)
    assert "://" not in text
    assert "index-url" not in text


def test_locks_declared_requirements_are_all_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = project["project"]["dependencies"] + project["build-system"]["requires"]
    dev = project["project"]["optional-dependencies"]["dev"]
    for lock, wanted in (("requirements.lock", run), ("requirements-dev.lock", run + dev)):
        names = {re.sub(r"[._-]+", "-", re.split(r"[^\w.-]", w)[0]).lower() for w in wanted}
        assert not names - pins(lock).keys(), f"{lock} is older than pyproject.toml: make lock"


def test_locks_runtime_pins_agree():
    run, dev = (pins(lock) for lock in LOCKS)
    assert run.items() <= dev.items(), "make lock"


def test_tracked_files_no_machine_path():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        file = ROOT / name
        if file.suffix not in SUFFIXES or not file.is_file() or file.stat().st_size > 2_000_000:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{name}:{number} {line.strip()[:100]}")
    assert not found, report("paths of one particular machine:", found)


def test_docs_every_page_is_in_the_index_and_every_link_leads_somewhere():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#]+)\)", index))
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not pages - linked, report("pages that docs/README.md does not name:", sorted(pages - linked))
    astray = []
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                astray.append(f"{page.relative_to(ROOT)}: {target}")
    assert not astray, report("links that lead nowhere:", astray)
