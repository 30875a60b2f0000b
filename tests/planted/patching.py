"""Applies a unified diff by its text: each hunk where its old lines stand, which must be exactly once.

Line numbers are not looked at, so that a patch survives changes elsewhere in its file; when the lines it is
about have changed, it is refused and has to be made anew.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("ems", "plant_models", "forecasting", "optimizer", "dispatch", "connectors", "sim", "sites", "cli")


class PatchError(Exception):
    """A hunk does not fit."""


def hunks(patch: str) -> list[tuple[str, str, str]]:
    """(file, old text, new text) of each hunk."""
    out: list[tuple[str, str, str]] = []
    file, old, new = "", "", ""
    for line in [*patch.splitlines(keepends=True), "@@"]:
        if line.startswith(("@@", "--- ")):
            if old or new:
                out.append((file, old, new))
            old = new = ""
        elif line.startswith("+++ "):
            file = line[4:].strip().removeprefix("b/")
        elif file and line[:1] in (" ", "-", "+"):
            old += line[1:] if line[0] in " -" else ""
            new += line[1:] if line[0] in " +" else ""
    return out


def apply(patch: Path, tree: Path) -> None:
    """Change the files of a tree.

    Raises
    ------
    PatchError : the old text of a hunk stands nowhere, or more than once.
    """
    for file, old, new in hunks(patch.read_text()):
        path = tree / file
        text = path.read_text()
        if text.count(old) != 1:
            raise PatchError(f"{patch.name}: {text.count(old)} places in {file} for\n{old}")
        path.write_text(text.replace(old, new))


def copy_tree(to: Path) -> Path:
    """A copy of the shipped packages and of these tests."""
    for package in COPIED:
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", to / "tests", ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to
