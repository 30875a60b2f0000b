"""Hands the prices of a VTN on: a file in the folder of an input, each time that they are others."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.openadr3.prices import NoPrices, version_of
from connectors.openadr3.told import Event
from connectors.stores.kept_file import put_whole
from ems.records import JsonValue
from ems.utility import VtnPrices, VtnServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """The prices that were handed on last."""

    sha256: str  # of what they say, whenever they were issued
    issued_s: float  # since 1970 UTC
    file: str
    rows: int


class Seller:
    """The prices of one program of a VTN, for one input.

    Parameters
    ----------
    folder : files of the site are relative to it.
    """

    def __init__(self, server: VtnServer, prices: VtnPrices, folder: Path) -> None:
        self._name, self._prices = server.id, prices
        self._folder = folder / prices.folder
        self.last: Sold | None = None
        self._fault = ""

    def sell(self, events: tuple[Event, ...], now: datetime) -> str:
        """Hand them on where they are others; why that cannot be done, told once. Waits for a disk.

        The time of issue is when the newest event with a price was made or changed. Where that is not newer
        than the issue before, as after an event was taken away, it is now.
        """
        fault = ""
        try:
            self._sell(events, now)
        except NoPrices as error:
            fault = str(error)
        except OSError as error:
            fault = f"the folder of input {self._prices.input} takes nothing: {error.strerror}"
        new, self._fault = fault if fault != self._fault else "", fault
        return new

    def _sell(self, events: tuple[Event, ...], now: datetime) -> None:
        """Raises NoPrices, OSError."""
        priced = [e for e in events if any(s.prices_per_kwh for s in e.steps)]
        version = version_of(priced, now.timestamp())
        if version is None:
            return
        content = hashlib.sha256(version.csv(0.0).encode()).hexdigest()
        if self.last is not None and content == self.last.sha256:
            return
        issued_s = max(e.made_s for e in priced)
        if self.last is not None and issued_s <= self.last.issued_s:
            issued_s = now.timestamp()
        text = version.csv(issued_s)
        file = f"{self._name}-{now:%Y%m%dT%H%M%SZ}.csv"
        put_whole(self._folder / file, text.encode(), mode=0o640)
        self.last = Sold(sha256=content, issued_s=issued_s, file=file, rows=text.count("\n") - 1)

    def status(self) -> dict[str, JsonValue]:
        """What was handed on last, and why nothing is."""
        last = self.last
        return {
            "program": self._prices.program,
            "input": self._prices.input,
            "issued_s": None if last is None else last.issued_s,
            "file": None if last is None else last.file,
            "rows": None if last is None else last.rows,
            "fault": self._fault,
        }
