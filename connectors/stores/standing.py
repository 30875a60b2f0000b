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
from connectors.stores.kept_later import CLOSE_S_MAX, KeptLater
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
    beside : written in a thread, so that no cycle waits for the disk. False: `keep` waits, in virtual time.
    """

    def __init__(
        self, directory: Path, *, clock: Clock, epoch_of_clock: str, told: Told, beside: bool = False
    ) -> None:
        self._file, self._unreadable = directory / FILE, directory / UNREADABLE
        self._clock, self._told = clock, told
        self._start = f"{_boot()} {epoch_of_clock}"
        self._last: Standing | None = None
        self._at_s = 0.0
        self._writer = KeptLater("standing", self._write, beside=beside)
        self._failing = False  # it was told that the file cannot be written

    @property
    def unwritten(self) -> bool:
        """Whether what holds now is not what a restart would find."""
        return self._writer.unwritten

    @property
    def overdue(self) -> bool:
        """The same, where it could not be written or has waited for seconds: people must hear of it."""
        return self._writer.trouble is not None

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
        """Have it written if it differs; a full or hanging disk stops nobody, and is told.

        Asked in each cycle: what could not be written is tried again.
        """
        now_s = self._clock.monotonic_s()
        recent = not self.overdue and now_s - self._at_s < TOLD_EVERY_S
        if standing == self._last:
            self._writer.again()
        elif not (recent and self._last is not None and _only_wider(self._last, standing)):
            self._writer.put(standing)
            self._last, self._at_s = standing, now_s
        self._tell()

    def settle(self) -> None:
        """Wait for the disk for seconds at most: before the first cycle, when that delays nothing yet."""
        self._writer.settle(CLOSE_S_MAX)
        self._tell()

    def close(self) -> None:
        """Write the last one, waiting for seconds at most."""
        self._writer.close()
        self._tell()

    def _write(self, standing: Standing) -> None:
        keep(self._file, {"start": self._start, "standing": json.loads(dumps(standing))})

    def _tell(self) -> None:
        """Once when it cannot be written, and once when it is."""
        why = self._writer.trouble
        if why is not None and not self._failing:
            self._told("standing.file.unwritten", {"file": FILE, "why": why})
        if why is None and self._failing:
            self._told("standing.file.written", {"file": FILE})
        self._failing = why is not None

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
