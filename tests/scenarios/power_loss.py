"""A disk that loses what was not synced: every state in which a loss of power may leave a folder.

What a program does to a folder is observed at each fsync, rename and removal. A file holds what it held when
it was synced last, or any beginning of what was written since; names appear, move and vanish in their order,
and as far as the folder was not synced any number of the last of these changes may be lost.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

State = Mapping[str, bytes]  # file name -> content
Names = dict[str, int]  # file name -> inode


@dataclass
class PowerLoss:
    """Observes one folder. `states` are all it may be left in so far, each with how many acts were over."""

    folder: Path
    every: int = 1  # bytes between two places where what was written may end
    synced: dict[int, bytes] = field(default_factory=dict)  # inode -> content on the disk
    names: list[Names] = field(default_factory=lambda: [{}])  # on the disk, then after each change since
    states: list[tuple[int, State]] = field(default_factory=list)
    acts: int = 0  # that have returned

    def observe(self, patch: pytest.MonkeyPatch) -> None:
        """Look before and after everything that changes what a loss of power leaves."""
        fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

        def seen_fsync(descriptor: int) -> None:
            self.cut()
            fsync(descriptor)
            at = os.fstat(descriptor)
            if at.st_ino == self.folder.stat().st_ino:
                self.names = [self.names[-1]]
            else:
                self.synced[at.st_ino] = self._contents()[at.st_ino]
            self.cut()

        def seen(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Path, *args: Any, **kwargs: Any) -> Any:
                self.cut()
                try:
                    return real(path, *args, **kwargs)
                finally:
                    self.cut()

            return call

        patch.setattr(os, "fsync", seen_fsync)
        patch.setattr(Path, "replace", seen(replace))
        patch.setattr(Path, "unlink", seen(unlink))

    def act(self, do: Callable[[], object]) -> None:
        """One act, after which what it promised must outlive a loss of power."""
        do()
        self.acts += 1
        self.cut()

    def cut(self) -> None:
        """The power may be lost here."""
        now = {e.name: e.inode() for e in os.scandir(self.folder) if e.is_file()}
        if now != self.names[-1]:
            self.names.append(now)
        live = self._contents()
        for names in self.names:
            for contents in self._contents_left(names, live):
                self.states.append((self.acts, contents))

    def _contents(self) -> dict[int, bytes]:
        return {e.inode(): Path(e.path).read_bytes() for e in os.scandir(self.folder) if e.is_file()}

    def _contents_left(self, names: Names, live: Mapping[int, bytes]) -> Iterator[State]:
        """One state for each beginning of what is not synced; of several such files one is cut at a time."""
        whole = {n: live.get(i, self.synced.get(i, b"")) for n, i in names.items()}
        loose = [n for n, i in names.items() if i in live and live[i] != self.synced.get(i)]
        yield whole
        for name in loose:
            before = self.synced.get(names[name])
            if before is not None:
                yield {**whole, name: before}
            kept = len(before) if before is not None and whole[name].startswith(before) else 0
            for size in range(kept, len(whole[name]), self.every):
                yield {**whole, name: whole[name][:size]}

    def each(self, scratch: Path) -> Iterator[tuple[int, Path]]:
        """Every state as a folder, with how many acts had been over."""
        for acts, state in self.distinct():
            yield acts, laid_out(state, scratch)

    def distinct(self) -> list[tuple[int, State]]:
        """Every state once, with how many acts had been over."""
        seen = set()
        found = []
        for acts, state in self.states:
            key = (acts, tuple(sorted(state.items())))
            if key in seen:
                continue
            seen.add(key)
            found.append((acts, state))
        return found


def laid_out(state: State, scratch: Path) -> Path:
    """A state as a folder: whatever else is in it goes."""
    for file in scratch.iterdir():
        file.unlink()
    for name, content in state.items():
        (scratch / name).write_bytes(content)
    return scratch
