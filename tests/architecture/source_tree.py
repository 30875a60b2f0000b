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
    nodes: tuple[ast.AST, ...]  # of the tree: to walk is slow, and every check looks at all of them

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
    return parsed(file.read_text(encoding="utf-8"), file.relative_to(ROOT))


def parsed(text: str, path: Path = Path("made_up.py")) -> Module:
    """Parse a module; a made-up one proves that a check finds what it looks for."""
    tree = ast.parse(text, filename=str(path))
    return Module(path=path, text=text, tree=tree, nodes=tuple(ast.walk(tree)))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def report(rule: str, findings: list[str]) -> str:
    return "\n  ".join([rule, *findings])
