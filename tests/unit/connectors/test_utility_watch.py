"""How the edge sees the servers of a utility, and which alarms come of it."""

from datetime import timedelta

import pytest

from cli.edge_records import bounded
from cli.run import MODULES, without
from connectors.utility.watch import UtilitySeen, look
from ems.records import StatusRow
from tests.builders import T0
from tests.builders import site as plain_site


def row(at=T0, **fields) -> StatusRow:
    return StatusRow(process="dnsp", pid=1, at=at, fields={"up": True, "door": "open", **fields})


LATER = T0 + timedelta(seconds=200)


@pytest.mark.parametrize(
    ("rows", "now", "expected"),
    [
        ({}, T0 + timedelta(seconds=59), UtilitySeen()),
        ({}, LATER, UtilitySeen(lost="dnsp: nobody asks it; see utility.log")),
        ({"dnsp": row()}, T0, UtilitySeen()),
        ({"dnsp": row()}, LATER, UtilitySeen(lost="dnsp: nobody asks it; see utility.log")),
        ({"dnsp": row(up=False, trouble="gone")}, T0, UtilitySeen(lost="dnsp: gone")),
        ({"dnsp": row(door="no role")}, T0, UtilitySeen(lost="dnsp: no role")),
        ({"dnsp": row(clock="off")}, T0, UtilitySeen(clock="dnsp: off")),
        ({"dnsp": row(certificates="ends")}, T0, UtilitySeen(ending="dnsp: ends")),
        (
            {"dnsp": row(refused_at=T0.isoformat(), refused_why="no such mode")},
            T0 + timedelta(seconds=50),
            UtilitySeen(refused="dnsp: no such mode"),
        ),
        ({"dnsp": row(at=LATER, refused_at=(T0 - timedelta(seconds=500)).isoformat())}, LATER, UtilitySeen()),
    ],
)
def test_servers_that_are_lost_off_or_refused_are_told(rows, now, expected):
    assert look(["dnsp"], rows, now, T0) == expected
    codes = {
        "lost": "utility.server.lost",
        "clock": "utility.clock",
        "ending": "utility.certificate.expires",
        "refused": "utility.refused",
    }
    wanted = [(code, getattr(expected, key)) for key, code in codes.items() if getattr(expected, key)]
    assert [(a.code, a.text) for a in bounded(expected)] == wanted


def test_process_runs_only_where_a_server_is_asked():
    assert "utility" in MODULES
    assert "utility" in without(plain_site())
