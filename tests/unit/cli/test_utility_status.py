"""`ems utility status` of a VTN: what it tells, what is done with it, and what nothing here can do."""

from typing import Any

from cli.utility import lines_of
from ems.records import StatusRow
from tests.builders import T0

EVENT: dict[str, Any] = {
    "id": "e1", "state": "running", "title": "noon", "program": "capacity", "priority": 3, "start_s": 1.0,
    "end_s": None, "intervals": 2, "now_kw": {"EXPORT_CAPACITY_LIMIT": 40.0}, "unmet": ["SIMPLE"],
    "reports": ["USAGE"], "wants_demand": True, "reported": None,
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "up": True, "protocol": "openadr3", "where": "vtn:443", "peer": "CN=vtn", "client_id": "plant-7",
    "heard_at": T0.isoformat(), "age_s": 3.0, "ahead_s": 0.0, "image": "fresh", "door": "open",
    "programs": [{"id": "p1", "name": "capacity"}], "others": 2, "bounds": [], "events": [EVENT],
}  # fmt: skip
PRICES = {"program": "tou", "input": "retail", "issued_s": 0.0, "file": "a.csv", "rows": 25, "fault": ""}


def shown(**changes: Any) -> str:
    row = StatusRow(process="dso", pid=1, at=T0, fields=FIELDS | changes)
    return "\n".join(lines_of("dso", row, silent=False))


def test_events_of_a_vtn_are_shown_with_what_cannot_be_done():
    text = shown()
    assert "server vtn:443 (CN=vtn), we are plant-7" in text
    assert "programs 'capacity' (p1); events that are meant for others: 2" in text
    assert "event e1 'noon' of capacity, priority 3: running, 1970-01-01 00:00:01 UTC without end" in text
    assert "now EXPORT_CAPACITY_LIMIT 40 kW; nothing here can do that: SIMPLE" in text
    assert "reports that nobody gives: USAGE; mean power at the POI: not told yet" in text
    later = EVENT | {"start_s": None, "reported": "taken", "priority": None, "unmet": [], "now_kw": {}}
    assert "without priority: running, without times, 2 intervals, now no bound" in shown(events=[later])
    assert "mean power at the POI: taken" in shown(events=[later])


def test_prices_of_a_vtn_are_shown_with_where_they_went():
    assert "prices of program 'tou' -> input retail: 25 steps, issued 1970-01-01" in shown(prices=PRICES)
    none = shown(prices=PRICES | {"file": None, "fault": "found two"})
    assert "input retail: nothing yet; NOT NOW: found two" in none
