"""The wheel is complete: built, installed outside the tree, and put to work on the shipped demo site."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "ems plant_models optimizer forecasting dispatch connectors sim api cli".split()


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without our variables, and give its output; a failure shows all of it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EMS_", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this tree, offline, with the locked build backend."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("hybrid_ems-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty environment that holds the wheel.

    The dependencies are lent by the environment of the tests, behind the wheel on the path. The path entry of
    the editable install is not followed from there (`.pth` files count only in an environment's own folder),
    so that our packages can come from the wheel alone.
    """
    top = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(top, with_pip=False, symlinks=True)
    python = top / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=top)
    (own,) = top.glob("lib/python*/site-packages")
    (own / "zz_lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return top


def test_wheel_contents_holds_every_package_and_the_demo_site(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    missing = [p for p in PACKAGES if f"{p}/__init__.py" not in names or f"{p}/py.typed" not in names]
    assert not missing
    assert any(name.startswith("sites/demo/") for name in names), "the demo site is not in the wheel"
    stray = [n for n in names if n.split("/")[0] not in (*PACKAGES, "sites") and ".dist-info/" not in n]
    assert not stray


def test_wheel_installed_packages_come_from_the_wheel(environment, tmp_path):
    code = (
        "import importlib, importlib.metadata as m\n"
        f"for name in {[*PACKAGES, 'sites']}:\n"
        "    print(importlib.import_module(name).__file__)\n"
        "print(m.distribution('hybrid-ems').locate_file(''))\n"
    )
    for line in run(environment / "bin" / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).resolve().is_relative_to(environment.resolve()), line


def test_wheel_installed_ems_check_accepts_the_shipped_demo_site(environment, tmp_path):
    run(environment / "bin" / "ems", "check", "demo", cwd=tmp_path)
