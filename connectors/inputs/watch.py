"""How the inputs do, as the edge sees it: looked at by a thread, so that a slow disk costs no cycle."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from connectors.inputs.state import InputState
from connectors.inputs.store import QuietInputs, statuses
from connectors.sqlite_file import StoreError
from ems.announced import announced
from ems.inputs import SILENT_S, InputKind, InputParams
from ems.outage import OutageNotice
from ems.prices import DayPrices, day_prices
from ems.records import JsonValue, StatusRow
from ems.tariff import Tariff

LOOK_S = 5.0
PRICES_S = 60.0
NEXT_DAY = timedelta(minutes=15)  # so long before it begins its prices are at hand too
PREFIX = "input_"  # of the name of a status row, before that of the input
OVERALL = "inputs"


def input_row(state: InputState, trouble: str, *, taken_away: bool = False) -> dict[str, JsonValue]:
    """Fields of the status row of one input.

    Parameters
    ----------
    trouble : why what came cannot be kept.
    taken_away : nobody has a refused file to look after any more.
    """
    version, failed = state.version, state.failed
    refused = None if taken_away else state.refused
    return {
        "kind": str(state.params.kind),
        "version": None if version is None else version.id,
        "issued_at": None if version is None else version.issued_at.isoformat(),
        "age_s": state.age_s,
        "reaches": None if state.reaches is None else state.reaches.isoformat(),
        "late": state.late or state.ahead,
        "failed": "" if failed is None else failed.detail,
        "refused": "" if refused is None else f"{refused.file}: {refused.detail}",
        "trouble": trouble,
    }


class InputWatch:
    """Reads the status rows of the inputs every few seconds.

    Parameters
    ----------
    inputs : those of the site file; with none nothing is done.
    directory : of the file of the process that looks after them.
    now : record time.
    """

    def __init__(
        self, inputs: Sequence[InputParams], directory: Path, *, now: Callable[[], datetime]
    ) -> None:
        self._inputs, self._directory, self._now = tuple(inputs), directory, now
        self._began = now()
        self._told = ("", "", "")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="input watch", daemon=True)
        if self._inputs:
            self._thread.start()

    @property
    def told(self) -> tuple[str, str, str]:
        """What is late, what was refused, which outage overruns; empty texts where all is well."""
        return self._told

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                rows = statuses(self._directory)
            except StoreError as error:
                self._told = (str(error), *self._told[1:])
                continue
            self._told = troubles(self._inputs, rows, self._now(), self._began)


class _StoreWatch(ABC):
    """Looks into the file of the inputs now and then, in a thread of its own; without inputs never."""

    def __init__(self, name: str, inputs: Iterable[InputParams], directory: Path) -> None:
        self._name, self._inputs, self._directory = name, tuple(inputs), directory
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to look, in a thread."""
        if self._inputs:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _run(self) -> None:
        with closing(QuietInputs(self._directory)) as known:
            while not self._closing.is_set():
                self.look(known)
                self._closing.wait(LOOK_S if known.trouble else PRICES_S)

    @abstractmethod
    def look(self, known: QuietInputs) -> None:
        """Once; what was known stays known while the file cannot be read."""


class PriceWatch(_StoreWatch):
    """Keeps the prices of the local day at hand for the edge's rules; a file that hangs costs no cycle.

    Parameters
    ----------
    inputs : those of the site file; without one of prices nothing is done, and there are none.
    directory : of the file of the process that looks after them.
    now : record time.
    """

    def __init__(
        self, inputs: Sequence[InputParams], tariff: Tariff, directory: Path, *, now: Callable[[], datetime]
    ) -> None:
        super().__init__("price watch", (p for p in inputs if p.kind is InputKind.PRICE), directory)
        self._tariff, self._now = tariff, now
        self._prices: list[DayPrices] = []  # of today, and at its end of the next day

    def __call__(self, now: datetime) -> DayPrices | None:
        """Those of the day that holds `now`, as known at the last look; None: the tariff's alone."""
        return next((p for p in self._prices if p.quarter(now) is not None), None)

    def look(self, known: QuietInputs) -> None:
        """Once; what was known stays known while the file cannot be read."""
        now, failures = self._now(), known.failures
        found = {
            day.start: day
            for when in (now, now + NEXT_DAY)
            if (day := day_prices(self._inputs, self._tariff, known, now, when)) is not None
        }
        if known.failures == failures:
            self._prices = list(found.values())


class OutageWatch(_StoreWatch):
    """Keeps the announced outages of inputs at hand for the edge's rules; a file that hangs costs no cycle.

    Parameters
    ----------
    inputs : those of the site file; without one of outages nothing is done, and there are none.
    directory : of the file of the process that looks after them.
    now : record time.
    """

    def __init__(
        self, inputs: Sequence[InputParams], directory: Path, *, now: Callable[[], datetime]
    ) -> None:
        super().__init__("outage watch", (p for p in inputs if p.kind is InputKind.OUTAGES), directory)
        self._now = now
        self._outages: tuple[OutageNotice, ...] = ()

    def __call__(self) -> tuple[OutageNotice, ...]:
        """Those that are planned with, as known at the last look."""
        return self._outages

    def look(self, known: QuietInputs) -> None:
        """Once; what was known stays known while the file cannot be read."""
        failures = known.failures
        found = tuple(announced(self._inputs, known, self._now()))
        if known.failures == failures:
            self._outages = found


def troubles(
    inputs: Sequence[InputParams], rows: Mapping[str, StatusRow], now: datetime, began: datetime
) -> tuple[str, str, str]:
    """What is late, what was refused, which outage overruns; empty texts where all is well.

    Parameters
    ----------
    rows : status rows by name of the process.
    began : rows are not missed so soon after this.
    """
    late, refused = [], []
    for params in inputs:
        row = rows.get(PREFIX + params.id)
        if row is None or (now - row.at).total_seconds() > SILENT_S:
            if (now - began).total_seconds() > SILENT_S:
                late.append(f"{params.id}: nobody looks; see inputs.log")
            continue
        if row.fields.get("trouble"):
            late.append(f"{params.id}: cannot be kept: {row.fields['trouble']}")
        elif row.fields.get("late"):
            why = row.fields.get("failed")
            late.append(f"{params.id}: {row.fields['late']}" + (f" ({why})" if why else ""))
        if row.fields.get("refused"):
            refused.append(f"{params.id}: {str(row.fields['refused']).splitlines()[0]}")
    overall = rows.get(OVERALL)
    fresh = overall is not None and (now - overall.at).total_seconds() <= SILENT_S
    overrun = str(overall.fields.get("overrun", "")) if overall is not None and fresh else ""
    return "; ".join(late), "; ".join(refused), overrun
