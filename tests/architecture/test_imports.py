"""Who may import whom, and what the long-lived plant processes must never load (ARCHITECTURE.md)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT, report

BANNED = ("pyomo", "highspy", "fastapi", "pandas", "scipy", "pvlib")
LIGHT_PACKAGES = ("ems", "plant_models", "dispatch", "connectors")
# The composition roots of the two processes that must stay light; each is in force once its module exists.
ROOTS = ("cli.edge_process", "cli.plant_process")

LOAD_AND_LOOK = """
import importlib, json, pkgutil, sys
banned, packages, modules = json.loads(sys.argv[1])
for package in packages:
    found = importlib.import_module(package)
    modules += [m.name for m in pkgutil.walk_packages(found.__path__, package + ".")]
for module in modules:
    importlib.import_module(module)
print(json.dumps(sorted(set(banned) & set(sys.modules))))
"""


def test_import_contracts_whole_tree_kept():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def loaded(packages: tuple[str, ...], modules: tuple[str, ...]) -> list[str]:
    """Import these in a fresh interpreter and give the banned libraries that came along."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_LOOK, json.dumps([BANNED, packages, modules])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_light_package_all_modules_loaded_nothing_heavy_comes_along(package):
    found = loaded((package,), ())
    assert not found, report(f"importing all of {package} loads:", found)


@pytest.mark.parametrize("root", ROOTS)
def test_composition_root_loaded_nothing_heavy_comes_along(root):
    module = ROOT.joinpath(*root.split("."))
    exists = module.with_suffix(".py").exists() or module.is_dir()
    found = loaded((), (root,)) if exists else loaded(("plant_models", "dispatch", "connectors"), ())
    assert not found, report(f"importing {root} loads:", found)


def test_loaded_heavy_module_is_seen():
    assert "pandas" in loaded((), ("pandas",))
