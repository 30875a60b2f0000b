"""Letting go of the plant, as people ask for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWish:
    """An authenticated person wants the edge to let go of the plant, until it is taken back."""

    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What an engineer hands in: let go of the plant, or take it back. `id`: done once."""

    id: str
    let_go: bool
    why: str
