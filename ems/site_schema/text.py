"""YAML 1.2 text to plain data, with the line of every key and value.

Scalars are resolved by the YAML 1.2 core schema alone: `NO`, `off` and `18:30` are texts, `1e3` is a number.
A duplicate key, an alias, a merge key or a tag is a Problem, not a surprise.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ems.errors import Problem

Key = str | int
Loc = tuple[Key, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

SIZE_MAX = 1_000_000  # bytes; a site file is some hundred lines

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True)
class Document:
    """One file read: its data, the line of each place in it, and what was wrong with its text."""

    file: str
    data: Plain = None
    lines: dict[Loc, int] = field(default_factory=dict)  # of the key, or of the item of a list
    problems: list[Problem] = field(default_factory=list)

    def line(self, loc: Sequence[Key]) -> int | None:
        """Line of a place, or of the nearest place around it that is in the file."""
        for n in range(len(loc), -1, -1):
            if (found := self.lines.get(tuple(loc[:n]))) is not None:
                return found
        return None

    def add(self, loc: Sequence[Key], found: str, allowed: str, message: str = "") -> None:
        """Note a problem at a place of this file."""
        self.problems.append(
            Problem(
                file=self.file,
                line=self.line(loc),
                key=show_loc(loc),
                found=found,
                allowed=allowed,
                message=message,
            )
        )


def show_loc(loc: Sequence[Key]) -> str:
    """`("bess", "bess1", "fuel_points", 0)` -> `bess.bess1.fuel_points[0]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(the file)"


def show_value(value: object) -> str:
    """A found value as an operator would recognise it, shortened."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text:.57}..."


def resolve_scalar(text: str) -> Plain:
    """Value of a plain (unquoted) scalar by the YAML 1.2 core schema.

    Source: YAML 1.2.2, section 10.3.2, tag resolution.
    """
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        sign = -1.0 if text.startswith("-") else 1.0
        return math.nan if text.lower() == ".nan" else sign * math.inf
    return text


class _Walker:
    """Turns a node graph into plain data, noting lines and refusing what is not plain."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.seen: set[int] = set()

    def value(self, node: Node, loc: Loc) -> Plain:
        if id(node) in self.seen:
            self.document.add(loc, "an alias (*)", "the value itself", "aliases are not used in site files")
            return None
        self.seen.add(id(node))
        self.document.lines.setdefault(loc, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*loc, i)) for i, item in enumerate(node.value)]
        return self.scalar(node, loc)

    def scalar(self, node: Node, loc: Loc) -> Plain:
        assert isinstance(node, ScalarNode)
        text = str(node.value)
        if not str(node.tag).startswith("tag:yaml.org,2002:"):
            self.document.add(loc, f"the tag {node.tag}", "a value without a tag")
            return None
        if node.style in ("'", '"', "|", ">"):
            return text
        return resolve_scalar(text)

    def mapping(self, node: MappingNode, loc: Loc) -> Plain:
        out: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.document.lines[*loc, "?"] = line
                self.document.add((*loc, "?"), "a key that is not a word", "a word as key")
                continue
            key = str(key_node.value)
            if key in out:
                self.duplicate((*loc, key), line)
                continue
            self.document.lines[*loc, key] = line
            out[key] = self.value(value_node, (*loc, key))
        return out

    def duplicate(self, loc: Loc, line: int) -> None:
        first = self.document.lines[loc]
        self.document.problems.append(
            Problem(
                file=self.document.file,
                line=line,
                key=show_loc(loc),
                found="the same key again",
                allowed="each key once",
                message=f"first written in line {first}",
            )
        )


def read_document(path: Path, shown_as: str | None = None) -> Document:
    """Read one YAML file. Whatever is wrong is in `problems`; `data` is None when nothing could be read."""
    document = Document(file=shown_as if shown_as is not None else str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        document.add((), f"no readable file ({error.strerror})", "a YAML file")
        return document
    if len(raw) > SIZE_MAX:
        document.add((), f"{len(raw)} bytes", f"at most {SIZE_MAX} bytes")
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.lines[()] = raw[: error.start].count(b"\n") + 1
        document.add((), f"byte 0x{raw[error.start]:02x}", "text in UTF-8")
        return document
    _parse(text, document)
    return document


def _parse(text: str, document: Document) -> None:
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    try:
        node = yaml.compose(text)
        if node is None:
            document.add((), "an empty file", "a mapping of keys to values")
            return
        document.data = _Walker(document).value(node, ())
    except MarkedYAMLError as error:
        open_ended = "<stream end>" in str(error.problem)  # then the useful line is where it began
        marks = [error.problem_mark, error.context_mark]
        mark = next((m for m in (reversed(marks) if open_ended else marks) if m is not None), None)
        document.lines[()] = mark.line + 1 if mark is not None else 1
        document.add((), f"text that is not YAML: {error.problem}", "YAML 1.2")
        document.data = None
    except (YAMLError, RecursionError, ValueError) as error:
        document.add((), f"text that is not YAML: {type(error).__name__}", "YAML 1.2")
        document.data = None
