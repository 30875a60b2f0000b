"""The published SunSpec models, as the package pysunspec2 carries them; none of its code is run."""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ems.errors import EmsError

PACKAGE = "sunspec2"
INSTALL = "pip install 'hybrid-ems[sunspec]'"
HEADER = 2  # registers in front of a model: its id and its length
UNITS = {  # as definitions write them -> as point maps do
    "W": "W", "var": "var", "Var": "var", "VAr": "var", "VA": "VA", "Wh": "Wh", "V": "V", "A": "A",
    "Hz": "Hz", "C": "degC", "Secs": "s", "Sec": "s",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDef:
    """One point of a group."""

    name: str
    kind: str
    offset: int  # registers from the start of its group
    size: int  # registers
    scale: str | int | None  # point that holds its exponent, or the exponent itself
    unit: str | None  # as point maps write it; None: none, or one we do not know
    symbols: tuple[tuple[str, int], ...]  # values of an enumeration, bits of a bit field
    is_writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDef:
    """Points that lie together, with the groups behind them."""

    name: str
    count: int | None  # how often it is repeated; None: as often as the length of the model has room for
    size: int | None  # registers of one; None: it holds groups that are repeated
    points: tuple[PointDef, ...]
    groups: tuple["GroupDef", ...]

    def point(self, name: str) -> PointDef | None:
        """The point of this name, or None."""
        return next((p for p in self.points if p.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDef:
    """One model; its top group begins with its id and length."""

    id: int
    top: GroupDef

    def fits(self, length: int) -> bool:
        """Whether a model that tells this length can be one: its fixed part, then whole repeated groups."""
        total = HEADER + length
        if self.top.size is not None:
            pad = self.top.points[-1].kind == "pad"
            return total == self.top.size or (pad and total == self.top.size - 1)
        fixed = sum(p.size for p in self.top.points)
        once = [g for g in self.top.groups if g.count is not None]
        last = self.top.groups[-1]
        if last.count is not None or last.size is None or any(g.size is None for g in once):
            return total >= fixed  # curves of curves: only what the device counts tells their length
        fixed += sum(g.size * g.count for g in once if g.size is not None and g.count is not None)
        return total >= fixed and (total - fixed) % last.size == 0


@cache
def folder() -> Path:
    """Where the definitions are.

    Raises
    ------
    EmsError : the package is not installed; says how.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmsError(f"SunSpec models are defined in the package pysunspec2, not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "models" / "json"


@cache
def model_def(model: int) -> ModelDef | None:
    """Definition of a model, or None where nobody has published one. Raises EmsError as `folder` does."""
    file = folder() / f"model_{model}.json"
    if not file.is_file():
        return None
    return ModelDef(id=model, top=_group(json.loads(file.read_text("utf-8"))["group"]))


def known_models() -> tuple[int, ...]:
    """Every model that is defined."""
    found = (re.fullmatch(r"model_(\d+)\.json", f.name) for f in folder().iterdir())
    return tuple(sorted(int(m[1]) for m in found if m is not None))


def _group(data: dict[str, Any]) -> GroupDef:
    points, at = [], 0
    for p in data.get("points", []):
        points.append(_point(p, at))
        at += int(p["size"])
    groups = tuple(_group(g) for g in data.get("groups", []))
    size: int | None = at
    for g in groups:
        size = None if size is None or g.size is None or g.count is None else size + g.size * g.count
    count = data.get("count", 1)
    return GroupDef(
        name=data["name"],
        count=count if isinstance(count, int) and count > 0 else None,
        size=size,
        points=tuple(points),
        groups=groups,
    )


def _point(data: dict[str, Any], at: int) -> PointDef:
    return PointDef(
        name=data["name"],
        kind=data["type"],
        offset=at,
        size=int(data["size"]),
        scale=data.get("sf"),
        unit=unit_of(data.get("units", "")),
        symbols=tuple((s["name"], int(s["value"])) for s in data.get("symbols", [])),
        is_writable=data.get("access") == "RW",
    )


def unit_of(text: str) -> str | None:
    """The unit of a definition as point maps write it: `% WMax` and `Pct` are `%`."""
    text = text.strip()
    if text.startswith("%") or text.endswith("Pct"):
        return "%" if "/" not in text else None
    return UNITS.get(text)
