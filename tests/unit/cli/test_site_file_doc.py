"""docs/site-file.md says every key there is, and its commands run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ems.points import POINTS
from ems.site_schema.forms import SiteForm
from ems.site_schema.forms_base import Form
from ems.site_schema.forms_maps import FamilyForm, FamilyPointForm, MapForm

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "site-file.md").read_text()
# Their keys stand where they are explained.
PAGES = (
    "families.md", "mqtt.md", "links.md", "inputs.md", "northbound.md", "goose.md", "j1939.md", "dnp3.md",
    "bacnet.md",
    "dlms.md",
    "http-json.md",
    "iec104.md",
    "utility.md",
)  # fmt: skip
MORE = "".join((ROOT / "docs" / name).read_text() for name in PAGES)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def forms(base: type[Form] = Form) -> list[type[Form]]:
    return [*base.__subclasses__(), FamilyForm, FamilyPointForm] if base is Form else base.__subclasses__()


@pytest.mark.parametrize("form", forms(), ids=lambda f: f.__name__)
def test_site_file_doc_names_every_key(form):
    prose = re.sub(r"```.*?```", "", DOC + MORE, flags=re.DOTALL)
    words = set(re.findall(r"[a-z][a-z0-9_]*", " ".join(re.findall(r"`[^`]+`", prose))))
    keys = {info.alias if info.alias is not None else name for name, info in form.model_fields.items()}
    assert keys <= words, keys - words


def test_site_file_doc_names_every_point():
    table = DOC[DOC.index("| asset | read") :]
    for kind, specs in POINTS.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| {kind} |")]
        assert all(re.search(rf"\b{s.name}\b", row) for s in specs), kind


def test_site_file_doc_forms_are_all_of_them():
    assert {SiteForm, MapForm} <= set(forms())
    assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_site_file_doc_command_runs(tmp_path, command):
    (tmp_path / "sites").symlink_to(ROOT / "sites")
    program, _, target = command.partition(">")
    arguments = shlex.split(program)
    assert arguments[0] == "ems"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments[1:]],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is ("--quiet" not in arguments)
    assert not target or target.strip().endswith(".schema.json")
