"""What authority keeps over a restart: one small file, replaced whole whenever it changes."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from connectors.json_codec import dumps, loads
from connectors.stores.kept_file import keep, kept
from ems.clock import Clock
from ems.control import ControlMode
from ems.errors import BadValue
from ems.records import JsonValue
from ems.requests import Standing

FILE, UNREADABLE = "standing.json", "standing.json.unreadable"
BOOT = Path("/proc/sys/kernel/random/boot_id")
BOOT_VARIABLE = "EMS_BOOT_ID"  # from whoever starts the edge where /proc/sys is hidden from it
TOLD_EVERY_S = 10.0  # limits told by others that only get wider are written so often at most
Told = Callable[[str, Mapping[str, JsonValue]], None]


class StandingStore:
    """`standing.json` in the folder of a running plant. The edge alone writes it.

    Parameters
    ----------
    directory : of the running plant.
    clock : the edge's own.
    epoch_of_clock : says which start of that clock this is: expiries of another one mean nothing.
    told : told of what cannot be read or written, as events.
    """

    def __init__(self, directory: Path, *, clock: Clock, epoch_of_clock: str, told: Told) -> None:
        self._file, self._unreadable = directory / FILE, directory / UNREADABLE
        self._clock, self._told = clock, told
        self._start = f"{_boot()} {epoch_of_clock}"
        self._last: Standing | None = None
        self._at_s = 0.0
        self.unwritten = False  # what holds now is not what a restart would find

    def load(self, *, ran_before: bool) -> Standing | None:
        """What was kept; None: no edge ever ran here. Unreadable, or gone: off until a person chooses.

        An edge writes it before its first cycle, so where anything tells of an edge before it was deleted: it
        may have held a stop, a limit or a mode. An older copy would be no better: it may be looser.
        """
        try:
            body = kept(self._file)
            if body is None and not ran_before:
                return None
            if body is None:
                return self._lost("it is gone, though an edge has run in this folder")
            standing = loads(Standing, json.dumps(body.get("standing")))
        except BadValue as error:
            with contextlib.suppress(OSError):
                shutil.copyfile(self._file, self._unreadable)
            return self._lost(str(error))
        if body.get("start") != self._start:
            standing = replace(standing, mode_until_s={}, held_until_s={})
        return standing

    def keep(self, standing: Standing) -> None:
        """Write it if it differs; a full disk stops nobody, and is told."""
        if standing == self._last and not self.unwritten:
            return
        now_s = self._clock.monotonic_s()
        recent = not self.unwritten and now_s - self._at_s < TOLD_EVERY_S
        if recent and self._last is not None and _only_wider(self._last, standing):
            return
        try:
            keep(self._file, {"start": self._start, "standing": json.loads(dumps(standing))})
        except (OSError, BadValue) as error:
            if not self.unwritten:
                self._told("standing.file.unwritten", {"file": FILE, "why": str(error)})
            self.unwritten = True
            return
        if self.unwritten:
            self._told("standing.file.written", {"file": FILE})
        self._last, self._at_s, self.unwritten = standing, now_s, False

    def _lost(self, why: str) -> Standing:
        self._told("standing.file.lost", {"file": FILE, "why": why})
        return Standing(plant=ControlMode.OFF, lost=True)


def _only_wider(old: Standing, new: Standing) -> bool:
    """Whether nothing differs but limits told by others, none of them tighter or new."""
    told = new.told_kw
    same = replace(old, told_kw={}) == replace(new, told_kw={}) and told.keys() == old.told_kw.keys()
    return same and all(told[k] >= kw for k, kw in old.told_kw.items())


def _boot() -> str:
    """Which start of the machine this is. Where nobody says so it is one that never was before."""
    told = os.environ.get(BOOT_VARIABLE, "").strip()
    if told:
        return told
    try:
        return BOOT.read_text().strip()
    except OSError:
        return uuid.uuid4().hex
