"""What is seen while a day runs: progress, the plant now, who decides."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.day import DayRun
from connectors.historian.sqlite import SqliteHistoryReader
from ems.clock import wall_sleep
from ems.points import GensetState, point_id
from ems.telemetry import Reading

_REFRESH_S = 0.5
_GENSET_WORDS = tuple(str(s).replace("_", " ") for s in GensetState)


class DayScreen:
    """Live progress on a terminal; one line per plant hour where the output is no terminal."""

    def __init__(self, console: Console, day: DayRun) -> None:
        self._console, self._day = console, day
        self._zone = ZoneInfo(day.site.timezone)
        self._reader = SqliteHistoryReader(day.directory / "history.sqlite")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        self._task = self._progress.add_task("plant day", total=day.scenario.duration_s)
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._now_s = 0.0
        self._hour = -1

    def moved(self, now_s: float) -> None:
        """Plant time has moved [s after start]."""
        self._now_s = now_s

    async def refresh(self) -> None:
        """Redraw until cancelled."""
        while True:
            self._draw()
            await wall_sleep(_REFRESH_S)

    def _draw(self) -> None:
        local = self._day.scenario.at(self._now_s).astimezone(self._zone)
        self._progress.update(self._task, completed=self._now_s, description=f"{local:%H:%M:%S}")
        if self._console.is_terminal:
            self._live.update(Group(self._progress, Text(self._plant())))
        elif local.hour != self._hour:
            self._hour = local.hour
            self._console.print(f"{local:%H:%M} {self._plant()}", soft_wrap=True)

    def _plant(self) -> str:
        latest = self._reader.latest()
        status = self._reader.statuses().get("edge")
        site = self._day.site
        fields = {} if status is None else status.fields
        parts = [f"{fields.get('mode', 'starting')}".replace("_", "-"), f"by {fields.get('source', '-')}"]
        parts.append("load " + _kw(sum(_value(latest, f.id, "p_kw") for f in site.feeders)))
        parts.append("PV " + _kw(sum(_value(latest, p.id, "p_kw") for p in site.pv)))
        parts.append("grid " + _kw(_value(latest, site.grid.id, "p_kw")))
        for b in site.bess:
            soc, power = _value(latest, b.id, "soc"), _kw(_value(latest, b.id, "p_kw"))
            parts.append(f"{b.id} {power} at {soc:.0%}")
        for g in site.gensets:
            state = int(_value(latest, g.id, "state"))
            parts.append(f"{g.id} {_kw(_value(latest, g.id, 'p_kw'))} {_GENSET_WORDS[state]}")
        return ", ".join(parts)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._draw()
        self._live.stop()


def _value(latest: Mapping[str, Reading], asset: str, name: str) -> float:
    reading = latest.get(point_id(asset, name))
    return reading.value if reading is not None and reading.value is not None else 0.0


def _kw(value: float) -> str:
    return f"{value:.0f} kW"
