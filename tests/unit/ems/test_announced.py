"""Outages that inputs announce, as a simulation asks for them: anew in each quarter of an hour."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.inputs.store import InputReader, InputStore
from ems.announced import AnnouncedOutages
from ems.inputs import AnnouncedOutage, InputKind
from tests.unit.connectors.inputs_here import params
from tests.unit.connectors.test_input_store import version

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_announced_outages_are_those_known_at_the_start_of_the_quarter(tmp_path: Path):
    now = [NOON]
    outage = AnnouncedOutage(
        id="work", issued_at=NOON + MINUTE, start=NOON + 60 * MINUTE, end=NOON + 90 * MINUTE
    )
    store = InputStore(tmp_path)
    store.take(replace(version(0.5, NOON + MINUTE, NOON + MINUTE), series={}, outages=(outage,)), b"1")
    asked = AnnouncedOutages((params(kind=InputKind.OUTAGES),), InputReader(tmp_path), lambda: now[0])
    assert list(asked()) == []
    now[0] = NOON + 14 * MINUTE
    assert list(asked()) == []
    now[0] = NOON + 15 * MINUTE
    assert [n.id for n in asked()] == ["one.work"]
    store.close()


def test_announced_outages_without_an_input_of_outages_nobody_is_asked(tmp_path: Path):
    assert AnnouncedOutages((params(),), InputReader(tmp_path), lambda: NOON)() == ()
