"""What a VTN is told where an event asks for it: the mean active power at the POI in each of its intervals.

Nothing else is told: no other report is one that the plant can answer for. The means are those of the
historian, of whole minutes that were all read well; an interval that has another one is left out.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.openadr3.told import Event, Window
from connectors.openadr3.transport import Transport
from connectors.utility.asker import NoAnswer
from ems.records import Bucket
from ems.utility import VtnServer

MINUTE_S = 60
SETTLE_S = 120.0  # after the end of an event: its last minute is in the historian by then
LATE_S = 24 * 3600.0  # nothing is told later than this after the end
ALREADY = 409  # it has this report
Means = Callable[[datetime, datetime], Sequence[Bucket]]  # of power at the POI [kW], by the minute; blocks
Note = Callable[[str, str, str], None]  # what, code, why


class Reporter:
    """Reports of one plant to one VTN.

    Parameters
    ----------
    resource : what is reported of, for the VTN.
    """

    def __init__(self, server: VtnServer, transport: Transport, resource: str, means: Means) -> None:
        self._server, self._transport = server, transport
        self._resource, self._means = resource, means
        self.told: dict[str, str] = {}  # by id of an event, what became of its report
        self.taken = 0  # since the start

    async def report(self, events: Sequence[Event], now_s: float, seed: str, note: Note) -> None:
        """Tell what is due; one that has no answer is told at the next round."""
        self.told = {i: w for i, w in self.told.items() if i in {e.id for e in events}}
        for event in events:
            if not event.wants_demand or event.id in self.told:
                continue
            _, end_s = event.span(seed)
            if end_s is None or not end_s + SETTLE_S <= now_s <= end_s + LATE_S:
                continue
            body = await asyncio.to_thread(self._body, event, event.windows(seed))
            if body is None:
                self.told[event.id] = "nothing of it was read well"
                note("report", "not_taken", f"event {event.id}: nothing of it was read well")
                continue
            try:
                await self._transport.post("reports", body)
            except NoAnswer as error:
                if not 400 <= error.status < 500 or error.status in (401, 408, 429):
                    note("report", "no_answer", f"event {event.id}: {error}")
                    return
                known = error.status == ALREADY
                self.told[event.id] = "known there" if known else str(error)
                if not known:
                    note("report", "not_taken", f"event {event.id}: {error}")
            else:
                self.told[event.id] = "taken"
                self.taken += 1

    def _body(self, event: Event, windows: tuple[Window, ...]) -> bytes | None:
        """The report; None: nothing of it is known. Blocks for as long as the historian takes."""
        rows = []
        for step, window in zip(event.steps, windows, strict=True):
            mean_kw = self._mean_kw(window)
            if mean_kw is None or window.end_s is None:
                continue
            length_s = window.end_s - window.start_s
            rows.append(
                {
                    "id": step.number,
                    "intervalPeriod": {"start": _time(window.start_s), "duration": f"PT{length_s:g}S"},
                    "payloads": [{"type": "DEMAND", "values": [round(mean_kw, 3)]}],
                }
            )
        if not rows:
            return None
        descriptor = {
            "objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "DEMAND", "readingType": "MEAN",
            "units": "KW",
        }  # fmt: skip
        report: dict[str, Any] = {
            "programID": event.program,
            "eventID": event.id,
            "clientName": self._server.ven_name or self._server.client_id,
            "reportName": f"{event.id}_demand"[:128],
            "payloadDescriptors": [descriptor],
            "resources": [{"resourceName": self._resource, "intervals": rows}],
        }
        return json.dumps(report, allow_nan=False).encode()

    def _mean_kw(self, window: Window) -> float | None:
        """Mean power at the POI, import positive; None: not all of it was read well."""
        if window.end_s is None:
            return None
        first = math.ceil(window.start_s / MINUTE_S)
        count = math.floor(window.end_s / MINUTE_S) - first
        if count < 1:
            return None
        start, end = (datetime.fromtimestamp(x * MINUTE_S, UTC) for x in (first, first + count))
        good = [b.mean for b in self._means(start, end) if b.mean is not None and b.good == b.count]
        return math.fsum(good) / count if len(good) == count else None


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
