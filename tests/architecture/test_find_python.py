"""Set-up on strange machines: the search for a Python runs what it finds, and says what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT

GOOD = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
DEAD_SHIM = "#!/bin/sh\necho 'python3.12: command not found' >&2\nexit 127\n"
OLD = '#!/bin/sh\ncase "$2" in *exit*) exit 1;; *print*) echo 3.9;; esac\n'
NO_VENV = f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"\n'


@pytest.fixture
def search(tmp_path):
    """Run the search where only these programs exist."""

    def run(named: str = "", **programs: str) -> subprocess.CompletedProcess[str]:
        for name, text in programs.items():
            file: Path = tmp_path / name.replace("_", ".")
            file.write_text(text)
            file.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", ROOT / "tools" / "find-python"],
            env={"PATH": str(tmp_path), "PYTHON": named}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_find_python_shim_does_not_run_next_one_is_taken(search):
    done = search(python3_12=DEAD_SHIM, python3=GOOD)
    assert (done.returncode, done.stdout.strip()) == (0, sys.executable)


def test_find_python_named_one_unusable_search_goes_on(search):
    done = search(named="python3.14", python3=GOOD)
    assert (done.returncode, done.stdout.strip()) == (0, sys.executable)


def test_find_python_venv_missing_names_the_package(search):
    done = search(python3=NO_VENV)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert f"apt install python{version}-venv" in done.stderr


def test_find_python_all_unusable_says_why_for_each(search):
    done = search(python3_12=DEAD_SHIM, python3=OLD)
    assert done.returncode == 1
    assert "python3.12: is at" in done.stderr
    assert "does not run" in done.stderr
    assert "python3: is Python 3.9; 3.11 or newer is needed" in done.stderr


def test_find_python_none_there_says_what_to_install(search):
    done = search()
    assert done.returncode == 1
    assert "apt install python3 python3-venv" in done.stderr
