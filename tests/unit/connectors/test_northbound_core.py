"""The image that servers show never looks younger than it is; the door lets bounds through and no more."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.edge_records import served
from cli.run import MODULES, without
from connectors import status_watch
from connectors.historian.live import LiveHistory
from connectors.northbound import records
from connectors.northbound.client import Client
from connectors.northbound.door import ANSWER_S, Answer, Code, without_role
from connectors.northbound.image import FRESH_S_MIN, Board
from connectors.northbound.records import FILE, MORE, WAITING_MAX, Records, RecordsReader, Refused
from connectors.northbound.watch import Seen, look, watch
from connectors.sqlite_file import DiskError, StoreError, open_writer
from ems.clock import VirtualClock
from ems.control import Role
from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.northbound import Door, ModbusServer, WriteRights
from ems.northbound_names import names
from ems.records import JsonValue, StatusRow
from ems.requests import TellLimit
from ems.site_schema import load_site
from ems.telemetry import Quality
from tests.builders import T0
from tests.unit.connectors.northbound_fake import PPC, RIGHTS, Plant

DEMO = Path(__file__).resolve().parents[3] / "sites" / "demo" / "site.yaml"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.close()


# --- the image --------------------------------------------------------------------------------------------


def test_image_shows_readings_limits_caps_and_the_edge_itself(plant):
    caps = [
        {"kind": "import", "cap_kw": 300.0, "layer": "utility", "reason": "dso says so"},
        {"kind": "import", "cap_kw": 200.0, "layer": "people", "reason": "hot"},
    ]
    plant.cycle(
        bess1__p_kw=-40.0,
        pv1__p_kw=None,
        fields={
            "limits_told_kw": {"dso": 300.0, "ppc": 100.0},
            "alarms": ["control.limit_lost.ppc"],
            "alarms_active": 1,
            "authority": {"caps": caps},
            "held_safe": True,
            "ladder_step": 2,
        },
    )
    image = plant.board.now()
    assert image.fresh
    assert (image.epoch, image.beat, image.at) == (7, 1, T0 + timedelta(seconds=1))
    good = {n: s.value for n, s in image.shown.items() if s.quality is Quality.GOOD}
    assert good == {
        "bess1.p_kw": -40.0,
        "ems.grid_mode": 1.0,
        "ems.ladder_step": 2.0,
        "ems.alarms_active": 1.0,
        "ems.held_safe": 1.0,
        "limit.dso": 300.0,
        "cap.import_kw": 200.0,
    }
    assert image.get("pv1.p_kw").quality is Quality.COMM_FAILED
    assert (image.get("limit.ppc").quality, image.get("limit.ppc").usable) == (Quality.STALE, None)
    assert image.get("nothing.of_the_kind").usable is None


def test_limit_whose_loss_is_hidden_behind_another_alarm_is_stale_as_all_are(tmp_path):
    """With all lines down the edge shows one alarm for many; it counts the lost limits all the same."""
    plant = Plant(tmp_path)
    told = {"limits_told_kw": {"dso": 300.0, "ppc": 200.0}, "limits_lost_count": 1}
    plant.cycle(fields={**told, "alarms": ["comms.lost"]})
    qualities = {plant.board.now().get(f"limit.{x}").quality for x in ("dso", "ppc")}
    assert qualities == {Quality.STALE}
    plant.cycle(fields={**told, "alarms": ["comms.lost", "control.limit_lost.ppc"]})
    assert plant.board.now().get("limit.dso").quality is Quality.GOOD
    plant.close()


def test_image_of_a_folder_without_an_edge_is_not_fresh(tmp_path):
    clock = VirtualClock(T0)
    board = Board(LiveHistory(tmp_path), now=clock.now, monotonic_s=clock.monotonic_s)
    assert board.look().why == "no edge has run here"
    assert board.now().beat == 0


def test_edge_that_stands_still_is_stale_and_its_beat_stops(plant):
    plant.cycle(bess1__p_kw=5.0)
    plant.cycle(bess1__p_kw=6.0)
    assert plant.board.now().beat == 2
    for _ in range(10):
        plant.clock.advance(1.0)
        plant.board.look()
    image = plant.board.now()
    assert image.beat == 2
    assert "told nothing for 10 s" in image.why
    assert (image.get("bess1.p_kw").value, image.get("bess1.p_kw").usable) == (6.0, None)
    plant.cycle(bess1__p_kw=7.0)
    assert plant.board.now().get("bess1.p_kw").usable == 7.0
    assert plant.board.now().beat == 3


def test_server_that_starts_beside_a_dead_edge_never_shows_its_last_values_as_new(plant):
    plant.cycle(bess1__p_kw=5.0)
    plant.clock.advance(60.0)
    late = Board(plant.reader, now=plant.clock.now, monotonic_s=plant.clock.monotonic_s)
    for _ in range(3):
        image = late.look()
        assert not image.fresh
        assert image.beat == 0
        plant.clock.advance(1.0)
    plant.cycle(bess1__p_kw=5.5)
    assert late.look().get("bess1.p_kw").usable == 5.5


def test_time_of_day_that_is_set_makes_a_living_edge_no_older(plant, monkeypatch):
    plant.cycle(bess1__p_kw=5.0)
    monkeypatch.setattr(plant.board, "_now", lambda: T0 + timedelta(hours=5))
    plant.cycle(bess1__p_kw=6.0)
    assert plant.board.now().get("bess1.p_kw").usable == 6.0


def test_image_that_nobody_could_renew_goes_stale_by_itself(plant):
    plant.cycle(bess1__p_kw=5.0)
    plant.clock.advance(FRESH_S_MIN + 1.0)  # the thread that looks waits for a disk
    assert "nothing could be read" in plant.board.now().why
    assert plant.board.now().get("bess1.p_kw").usable is None


def test_historian_that_is_no_historian_is_stale_and_says_why(plant, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    (folder / "history.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    board = Board(LiveHistory(folder), now=plant.clock.now, monotonic_s=plant.clock.monotonic_s)
    assert "history.sqlite" in board.look().why


def test_names_of_the_demo_site_are_each_there_once_and_in_the_same_order():
    site = load_site(DEMO)
    limits = (
        UtilityLimit(id="dso", kind=LimitKind.IMPORT, watchdog_s=60.0, on_loss_kw=0.0),
        UtilityLimit(id="read", kind=LimitKind.EXPORT, watchdog_s=60.0, on_loss_kw=0.0, point="grid1.p_kw"),
    )
    site = replace(site, control=replace(site.control, limits=limits))
    found = names(site)
    assert found == names(site)
    assert len({n.name for n in found}) == len(found)
    assert {n.name: n.limit for n in found if n.name.startswith("limit.")} == {
        "limit.dso": "dso",
        "limit.read": None,  # nobody tells what a point tells
    }
    assert {"ems.grid_mode", "cap.pv_kw", "bess1.p_kw", "bess1.p_set_kw"} <= {n.name for n in found}


# --- the door ---------------------------------------------------------------------------------------------


def test_bound_that_is_told_comes_to_the_edge_as_a_message_of_its_client(plant):
    plant.cycle()
    assert plant.door.tell(PPC, RIGHTS, "dso", 200.0).taken
    assert plant.door.answers == {"dso": Answer.WAITING}
    (one,) = plant.desk.collect()
    assert one.request.ask == TellLimit(limit="dso", value_kw=200.0)
    assert one.request.epoch == 7
    assert one.request.session == "ppc: CN=ppc,O=Utility, at 10.0.0.9"
    plant.event("authority.request.done", request_id=one.request.id, user="ems")
    plant.door.hear(plant.answers())
    assert plant.door.answers == {"dso": Answer.DONE}
    assert plant.records.count == 0


def test_bound_that_the_edge_refuses_is_shown_and_recorded(plant):
    plant.cycle()
    plant.door.tell(PPC, RIGHTS, "dso", 200.0)
    (one,) = plant.desk.collect()
    plant.event("authority.request.refused", request_id=one.request.id, code="no_right", text="not you")
    plant.door.hear(plant.answers())
    assert plant.door.answers == {"dso": Answer.REFUSED}
    assert (plant.records.last.code, plant.records.last.why) == ("no_right", "not you")


def test_bound_without_an_answer_is_taken_back(plant):
    plant.cycle()
    plant.door.tell(PPC, RIGHTS, "dso", 200.0)
    plant.clock.advance(ANSWER_S + 1.0)
    plant.door.hear([])
    assert plant.door.answers == {"dso": Answer.NO_ANSWER}
    assert plant.desk.collect() == []
    assert plant.records.last.code == "no_answer"


def test_newer_value_takes_the_place_of_one_that_the_edge_has_not_seen(plant):
    plant.cycle()
    for value_kw in (300.0, 200.0, 100.0):
        assert plant.door.tell(PPC, RIGHTS, "dso", value_kw).taken
    (one,) = plant.desk.collect()
    assert one.request.ask == TellLimit(limit="dso", value_kw=100.0)


PLAIN = Client(server="ppc", address="10.0.0.5")
STRANGER = Client(server="ppc", address="10.0.0.66")
OTHER_CN = replace(PPC, common_name="scada", name="CN=scada")


@pytest.mark.parametrize(
    ("client", "rights", "limit", "value_kw", "code"),
    [
        (PPC, None, "dso", 1.0, Code.NOT_WRITABLE),
        (PPC, RIGHTS, "other", 1.0, Code.NOT_WRITABLE),
        (STRANGER, RIGHTS, "dso", 1.0, Code.NOT_ALLOWED),
        (OTHER_CN, RIGHTS, "dso", 1.0, Code.NOT_ALLOWED),
        (replace(PPC, protected=False), RIGHTS, "dso", 1.0, Code.NOT_ALLOWED),
        (replace(OTHER_CN, address="10.0.0.5"), RIGHTS, "dso", 1.0, Code.NOT_ALLOWED),
        (PPC, replace(RIGHTS, subjects=()), "dso", 1.0, Code.NOT_ALLOWED),
        (PPC, RIGHTS, "dso", math.nan, Code.OUT_OF_BOUNDS),
        (PPC, RIGHTS, "dso", math.inf, Code.OUT_OF_BOUNDS),
        (PPC, RIGHTS, "dso", -0.5, Code.OUT_OF_BOUNDS),
        (PPC, RIGHTS, "dso", 0.0, Code.TAKEN),
        (replace(OTHER_CN, role="GridOperator"), RIGHTS, "dso", 1.0, Code.TAKEN),
        (PLAIN, RIGHTS, "dso", 1.0, Code.TAKEN),
    ],
)
def test_door_lets_in_whom_the_site_file_names_and_records_all_others(
    plant, client, rights, limit, value_kw, code
):
    plant.cycle()
    verdict = plant.door.tell(client, rights, limit, value_kw)
    assert verdict.code is code
    assert len(plant.desk.collect()) == (code is Code.TAKEN)
    assert plant.records.count == (code is not Code.TAKEN)
    if code is not Code.TAKEN:
        assert plant.records.last.client == client
        assert plant.records.last.why


def test_door_beside_an_edge_that_is_away_takes_nothing(plant):
    assert plant.door.tell(PPC, RIGHTS, "dso", 1.0).code is Code.EDGE_AWAY
    plant.cycle()
    plant.clock.advance(60.0)
    plant.board.look()
    assert plant.door.tell(PPC, RIGHTS, "dso", 1.0).code is Code.EDGE_AWAY
    assert plant.desk.collect() == []


def test_door_without_a_desk_says_so(plant, tmp_path):
    plant.cycle()
    (tmp_path / "requests").rename(tmp_path / "gone")
    verdict = plant.door.tell(PPC, RIGHTS, "dso", 1.0)
    assert (verdict.code, "desk" in verdict.why) == (Code.EDGE_AWAY, True)


def test_door_is_shut_where_the_user_that_serves_has_no_role(tmp_path):
    control = ControlParams(users={"gateway": frozenset({Role.UTILITY}), "ann": frozenset({Role.OPERATOR})})
    assert without_role(control, "gateway") == ""
    shut = without_role(control, "ann")
    plant = Plant(tmp_path, shut=shut)
    plant.cycle()
    verdict = plant.door.tell(PPC, RIGHTS, "dso", 1.0)
    assert (verdict.code, verdict.why) == (Code.NOT_ALLOWED, shut)
    plant.close()


def test_client_that_writes_too_often_is_refused_until_time_has_passed(plant):
    plant.cycle()
    rights = WriteRights(limits=("dso",), subjects=("ppc",), per_s=0.5)
    codes = [plant.door.tell(PPC, rights, "dso", 1.0).code for _ in range(50)]
    assert codes == [Code.TAKEN] * 3 + [Code.TOO_OFTEN] * 47
    other = replace(PPC, address="10.0.0.10")
    assert plant.door.tell(other, rights, "dso", 1.0).taken  # nobody else pays for it
    plant.cycle()
    plant.cycle()
    assert plant.door.tell(PPC, rights, "dso", 1.0).taken
    assert plant.door.tell(PPC, rights, "dso", 1.0).code is Code.TOO_OFTEN


# --- records ----------------------------------------------------------------------------------------------


def test_flood_of_refusals_is_counted_and_kept_in_few_rows(plant, tmp_path):
    for i in range(10 * WAITING_MAX):
        plant.door.refuse(STRANGER, f"holding {i}", "nobody writes there")
    assert plant.records.flush([])
    assert plant.records.flush([])  # nothing twice
    kept = RecordsReader(tmp_path / FILE).refusals(1000)
    assert len(kept) == WAITING_MAX + 1
    assert (kept[0].code, kept[0].why.split()[0]) == (MORE, str(9 * WAITING_MAX))
    first = kept[-1]
    assert (first.client.address, first.what, first.code) == ("10.0.0.66", "holding 0", "not_writable")


# --- what the edge is told of it --------------------------------------------------------------------------


def row(at: datetime, **fields: JsonValue) -> StatusRow:
    return StatusRow(process="ppc", pid=1, at=at, fields={"up": True, "trouble": "", **fields})


def test_servers_that_are_down_certificates_and_strangers_are_told():
    began, now = T0, T0 + timedelta(hours=1)
    assert served(look(["ppc"], {"ppc": row(now)}, now, began)) == ()
    told = row(
        now,
        up=False,
        trouble="cannot listen on 0.0.0.0:802: Permission denied",
        certificates="our certificate (CN=ems) ends on 2026-12-01 00:00 UTC",
        stranger_at=(now - timedelta(seconds=599)).isoformat(),
        stranger="limit.dso = 5 kW by ppc: no certificate, at 10.0.0.66: it may only read",
    )
    alarms = {a.code: a.text for a in served(look(["ppc"], {"ppc": told}, now, began))}
    assert set(alarms) == {"northbound.server.down", "northbound.certificate.expires", "northbound.refused"}
    assert "Permission denied" in alarms["northbound.server.down"]
    assert "10.0.0.66" in alarms["northbound.refused"]
    past = replace(told, fields={**row(now).fields, "stranger_at": (now - timedelta(hours=1)).isoformat()})
    assert served(look(["ppc"], {"ppc": past}, now, began)) == ()
    assert "nobody serves" in look(["ppc"], {"ppc": row(now - timedelta(minutes=5))}, now, began).down
    assert look(["ppc"], {}, began + timedelta(seconds=5), began) == Seen()


def test_only_who_has_no_business_there_is_a_stranger(plant):
    plant.cycle()
    assert plant.door.tell(PPC, RIGHTS, "dso", -1.0).code is Code.OUT_OF_BOUNDS
    assert plant.records.count == 1
    before: Refused | None = plant.records.stranger
    assert plant.door.tell(STRANGER, RIGHTS, "dso", 1.0).code is Code.NOT_ALLOWED
    after: Refused | None = plant.records.stranger
    assert (before, after and after.client) == (None, STRANGER)


def test_watch_sees_what_the_serving_process_wrote(plant, tmp_path, monkeypatch):
    monkeypatch.setattr(status_watch, "LOOK_S", 0.02)
    plant.records.flush([row(T0, up=False, trouble="gone")])
    looking = watch(["ppc"], tmp_path / FILE, now=lambda: T0)
    try:
        for _ in range(500):
            if looking.seen.down:
                break
            time.sleep(0.02)
        assert looking.seen == Seen(down="ppc: gone")
    finally:
        looking.close()


def test_knocking_for_a_year_wears_no_disk(plant, tmp_path):
    for _ in range(600):  # ten minutes, ten a second
        plant.clock.advance(1.0)
        for _ in range(10):
            plant.door.refuse(STRANGER, "holding 1", "nobody writes there")
        assert plant.records.flush([])
    kept = RecordsReader(tmp_path / FILE).refusals(10_000)
    more = [r for r in kept if r.code == MORE]
    assert WAITING_MAX + 590 <= len(kept) - len(more) <= WAITING_MAX + 610
    assert 9 <= len(more) <= 11
    plant.clock.advance(60.0)
    assert plant.records.flush([])
    told = [r for r in RecordsReader(tmp_path / FILE).refusals(10_000) if r.code == MORE]
    assert sum(int(r.why.split()[0]) for r in told) + len(kept) - len(more) == 6000


def test_servers_start_on_a_full_disk_and_what_they_refused_is_stored_when_it_has_room(tmp_path, monkeypatch):
    full = True
    opened = open_writer

    def on_a_disk(*args: Any, **options: Any) -> Any:
        if full:
            raise DiskError("northbound.sqlite: database or disk is full")
        return opened(*args, **options)

    monkeypatch.setattr(records, "open_writer", on_a_disk)
    kept = Records(tmp_path / FILE, now=lambda: T0)
    kept.refused(STRANGER, "holding 1", "not_writable", "nobody writes there")
    assert kept.flush([row(T0)]) is False
    full = False
    assert kept.flush([row(T0)])
    (one,) = RecordsReader(tmp_path / FILE).refusals(10)
    assert one.what == "holding 1"
    with pytest.raises(StoreError, match="another process"):
        Records(tmp_path / FILE, now=lambda: T0)
    kept.close()


def test_server_process_runs_where_the_site_has_servers():
    site = load_site(DEMO)
    assert "northbound" in without(site)
    server = ModbusServer(id="ppc", door=Door(host="127.0.0.1", port=502), unit_id=1)
    assert "northbound" not in without(replace(site, modbus_servers=(server,)))
    assert MODULES["northbound"] == "cli.northbound_process"
