"""Commands that the documentation tells a reader to type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\s*$")
SHELLS = ("sh", "console", "bash", "shell")
INLINE = re.compile(r"`((?:\.venv/bin/)?(?:ems|make) [^`\n]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """One command as it stands in a file, without its comment."""

    file: str
    line: int
    text: str

    @property
    def ems(self) -> str:
        """The same without the way to our program, and with single spaces."""
        return re.sub(r"\s+", " ", self.text.replace(".venv/bin/ems", "ems"))


def documents() -> list[Path]:
    """The pages whose commands are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def typed_in(path: Path, text: str) -> Iterator[Typed]:
    """Commands of the fenced shell blocks; in the README those inside a sentence as well."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    language: str | None = None
    pending = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line.strip())
        if fence:
            language = None if language is not None else fence[1]
        elif language in SHELLS:
            shown = line.strip()
            if language == "console":
                if not shown.startswith("$ "):
                    continue  # what the program answers
                shown = shown[2:]
            pending += shown.removesuffix("\\")
            if not shown.endswith("\\"):
                if command := without_comment(pending):
                    yield Typed(file=name, line=number, text=command)
                pending = ""
        elif language is None and path.name == "README.md":
            yield from (Typed(file=name, line=number, text=t) for t in INLINE.findall(line))


def without_comment(line: str) -> str:
    """A line of shell up to a comment, quotes respected."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    if not list(lexer):
        return ""
    quote = ""
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "#" and (i == 0 or line[i - 1].isspace()):
            return line[:i].strip()
    return line.strip()


def all_typed() -> list[Typed]:
    """Every command once, in order of appearance."""
    found = [t for path in documents() for t in typed_in(path, path.read_text(encoding="utf-8"))]
    first: dict[str, Typed] = {}
    for typed in found:
        first.setdefault(typed.ems, typed)
    return list(first.values())
