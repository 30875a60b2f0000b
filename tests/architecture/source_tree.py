"""What the architecture tests share: the shipped modules, parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "ems",
    "plant_models",
    "optimizer",
    "forecasting",
    "dispatch",
    "connectors",
    "sim",
    "api",
    "cli",
    "sites",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One parsed source file; `path` is relative to the top of the checkout."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.parts[0]

    def at(self, line: int) -> str:
        return f"{self.path}:{line}"


@cache
def modules(packages: tuple[str, ...] = PACKAGES) -> tuple[Module, ...]:
    """Parse all modules of these top-level packages."""
    files = sorted(file for package in packages for file in (ROOT / package).rglob("*.py"))
    return tuple(_parse(file) for file in files)


def _parse(file: Path) -> Module:
    text = file.read_text(encoding="utf-8")
    return Module(path=file.relative_to(ROOT), text=text, tree=ast.parse(text, filename=str(file)))


def parsed(text: str) -> Module:
    """Parse a made-up module, to prove that a check finds what it looks for."""
    return Module(path=Path("made_up.py"), text=text, tree=ast.parse(text))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def report(rule: str, findings: list[str]) -> str:
    return "\n  ".join([rule, *findings])
