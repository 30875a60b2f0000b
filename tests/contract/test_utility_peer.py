"""A utility's server of another make (BSGIP's envoy_schema on the wire) bounds the plant, or does not."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from connectors.ieee2030_5.events import Code
from connectors.ieee2030_5.identity import identity_of
from connectors.ieee2030_5.kept import Known
from connectors.utility import session
from connectors.utility.kept import file_of, read
from ems.utility import Share, Telling
from tests.contract.tls_pki import Authority
from tests.contract.utility_peer import EXPORT, IMPORT, TELLINGS, Live, Pki, living, params
from tests.contract.utility_server import Answer, Event, Program, UtilityServer, watts

A, B = "A1" * 16, "B2" * 16


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(pki):
    one = pki.serves()
    one.programs["site"] = Program(primacy=1, default={EXPORT: watts(5000), IMPORT: watts(2, 4)})
    one.start()
    yield one
    one.stop()
    assert not one.bugs


@pytest.fixture
def ours(pki, server):
    def of(**changes: Any):
        return params(server, pki.own, pki.authority.file, **changes)

    return of


def codes(server: UtilityServer, mrid: str) -> list[int]:
    return [status for subject, status in server.responses if subject == mrid]


def is_answered(server: UtilityServer, mrid: str, wanted: list[Code]) -> bool:
    return codes(server, mrid) == wanted


def event(live: Live, mrid: str) -> dict[str, Any]:
    return next(e for e in live.status()["events"] if e["mrid"] == mrid)


async def test_defaults_are_told_and_an_event_takes_over_to_its_end(tmp_path, server, ours):
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: (live.last("out"), live.last("into")) == (5.0, 20.0), "defaults are told")
        server.programs["site"].events.append(Event(A, server.now_s(), 600, {EXPORT: watts(15, 3)}))
        await live.rounds()
        await live.until(lambda: live.last("out") == 15.0, "the event is told")
        await live.until(lambda: codes(server, A) == [Code.RECEIVED, Code.STARTED], "the server is answered")
        server.ahead_s += 700
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0, "the default again")
        await live.until(lambda: codes(server, A)[2:] == [Code.COMPLETED], "the end is answered")
        assert live.last("into") == 20.0
        status = live.status()
        assert (status["trouble"], status["asked_in_vain"], status["peer"]) == ("", "", "CN=utility")
        assert event(live, A)["state"] == "completed"


async def test_event_to_come_is_shown_and_begins_though_the_server_is_gone(tmp_path, server, ours):
    start_s = server.now_s() + 300
    server.programs["site"].events.append(Event(A, start_s, 600, {EXPORT: watts(0)}))
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        assert event(live, A)["state"] == "scheduled"
        (coming,) = [a for a in live.status()["ahead"] if a["limit"] == "out" and a["kw"] == 0.0]
        lasts = datetime.fromisoformat(coming["end"]) - datetime.fromisoformat(coming["start"])
        assert lasts.total_seconds() == pytest.approx(600.0)
        assert live.last("out") in (None, 5.0)
        await live.until(lambda: codes(server, A) == [Code.RECEIVED])
        server.stop()
        await live.rounds()
        live.later(301.0)
        await live.until(lambda: live.last("out") == 0.0, "the event is told without the server")
        status = live.status()
        assert (status["trouble"], "cannot connect" in status["asked_in_vain"]) == ("", True)
        assert {b["why"] for b in status["bounds"] if b["mode"] == EXPORT} == {f"event {A}"}
        await live.until(lambda: event(live, A)["held"], "the edge holds it")
        server.ahead_s += 302
        server.start()
        await live.rounds()
        await live.until(lambda: codes(server, A) == [Code.RECEIVED, Code.STARTED], "told once it is back")


async def test_nothing_is_told_from_what_is_older_than_allowed(tmp_path, server, ours):
    async with living(tmp_path, ours(age_s_max=900.0)) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)
        server.stop()
        told_before = len(live.told)
        live.later(901.0)
        live.session._teller.last.clear()  # everything is due
        live.session._teller._tried_s.clear()
        for _ in range(5):
            live.turn()
        assert len(live.told) == told_before
        assert live.session.bounds() == {}
        await live.rounds()
        assert "cannot connect" in live.status()["trouble"]
        server.start()
        await live.rounds()
        await live.until(lambda: len(live.told) > told_before, "told again once it is heard")


async def test_restart_in_the_middle_of_an_event_goes_on_with_it_and_with_its_chances(tmp_path, server, ours):
    now_s = server.now_s()
    one = Event(A, now_s - 10, 600, {EXPORT: watts(7, 3)}, random_duration_s=3000)
    server.programs["site"].events.append(one)
    async with living(tmp_path, ours(), seed=1) as live:
        await live.rounds()
        await live.until(lambda: codes(server, A) == [Code.RECEIVED, Code.STARTED])
        before = event(live, A)
    assert before["end_s"] > now_s - 10 + 600
    server.stop()
    async with living(tmp_path / "again", ours(), seed=2) as stranger:
        assert stranger.status()["trouble"] == "not heard yet"
        assert stranger.session.bounds() == {}
    file_of(tmp_path / "again", "dnsp").write_bytes(file_of(tmp_path, "dnsp").read_bytes())
    async with living(tmp_path / "again", ours(), seed=3) as live:
        await live.until(lambda: live.last("out") == 7.0, "the event is told from what was kept")
        after = event(live, A)
        assert (after["end_s"], after["state"], after["held"]) == (before["end_s"], "active", True)
    server.start()
    async with living(tmp_path / "again", ours(), seed=4) as live:
        await live.rounds()
        assert event(live, A)["end_s"] == before["end_s"]
        assert codes(server, A) == [Code.RECEIVED, Code.STARTED]


async def test_contact_alone_is_not_worth_a_write_of_all_events_each_time(tmp_path, server, ours):
    async with living(tmp_path, ours()) as live:
        await live.rounds(2)
        await live.until(lambda: live.last("out") == 5.0)
        kept = file_of(tmp_path, "dnsp").read_bytes()
        await live.rounds(2)
        assert file_of(tmp_path, "dnsp").read_bytes() == kept
        live.session._kept_s -= session.KEEP_S
        await live.rounds()
        assert file_of(tmp_path, "dnsp").read_bytes() != kept


async def test_what_is_kept_of_another_server_or_of_a_time_to_come_is_not_told(tmp_path, server, ours):
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)
    file = file_of(tmp_path, "dnsp")
    known = read(Known, file)
    assert known is not None
    server.stop()
    for name, text in (("host", '"127.0.0.1:1"'), ("spoilt", "")):
        folder = tmp_path / name
        folder.mkdir()
        raw = json.loads(file.read_bytes())
        raw["body"] = raw["body"].replace("127.0.0.1:", "127.0.0.1:1") if text else raw["body"][:-9]
        file_of(folder, "dnsp").write_text(json.dumps(raw))
        async with living(folder, ours()) as live:
            assert live.session.bounds() == {}


async def test_cancelled_removed_and_superseded_events_end(tmp_path, server, ours):
    now_s, site = server.now_s(), server.programs["site"]
    site.events += [
        Event(A, now_s - 5, 600, {EXPORT: watts(1, 3)}, created_s=now_s - 9),
        Event(B, now_s - 5, 600, {IMPORT: watts(1, 3)}, created_s=now_s - 9),
    ]
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: (live.last("out"), live.last("into")) == (1.0, 1.0))
        site.events[0].status = 2
        del site.events[1]
        await live.rounds()
        await live.until(lambda: (live.last("out"), live.last("into")) == (5.0, 20.0))
        await live.until(lambda: codes(server, A)[-1:] == codes(server, B)[-1:] == [Code.CANCELLED])
        site.events[:] = [Event("C3" * 16, now_s - 5, 600, {EXPORT: watts(3, 3)}, created_s=now_s - 9)]
        await live.rounds()
        await live.until(lambda: live.last("out") == 3.0)
        newer = Event("D4" * 16, now_s - 1, 600, {EXPORT: watts(9, 3)}, created_s=now_s - 1)
        site.events.append(newer)
        await live.rounds()
        await live.until(lambda: live.last("out") == 9.0, "the newer event of the program holds")
        await live.until(lambda: codes(server, "C3" * 16)[-1:] == [Code.SUPERSEDED])
        server.programs["grid"] = Program(
            primacy=0, events=[Event("E5" * 16, now_s - 60, 600, {EXPORT: watts(2, 3)})]
        )
        await live.rounds()
        await live.until(lambda: live.last("out") == 2.0, "the program with the lower primacy holds")
        await live.until(lambda: codes(server, "D4" * 16)[-1:] == [Code.SUPERSEDED])


async def test_what_cannot_be_done_is_refused_and_only_tightens(tmp_path, server, ours):
    now_s, site = server.now_s(), server.programs["site"]
    site.events += [
        Event(A, now_s - 5, 600, {EXPORT: watts(8, 3), "opModConnect": False}),
        Event(B, now_s - 5, 600, {IMPORT: watts(7, 3), "opModFixedW": 100}),
        Event("C3" * 16, now_s - 5, 600, {"opModGenLimW": watts(7, 3)}),
        Event("D4" * 16, now_s - 5, 600, {EXPORT: watts(-7, 3)}),
        Event("E5" * 16, now_s - 900, 60, {EXPORT: watts(7, 3)}),
    ]
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: (live.last("out"), live.last("into")) == (5.0, 7.0))
        for mrid in (A, B, "C3" * 16):
            await live.until(partial(is_answered, server, mrid, [Code.NOT_APPLICABLE]))
        await live.until(lambda: codes(server, "D4" * 16) == [Code.INVALID])
        await live.until(lambda: codes(server, "E5" * 16) == [Code.EXPIRED])
        said = " ".join(r.why for r in live.refused())
        for words in ("opModConnect false", "opModFixedW", "opModGenLimW", "found -7;"):
            assert words in said


async def test_default_that_cannot_be_done_whole_holds_as_far_as_it_can_and_is_told_once(
    tmp_path, server, ours
):
    server.programs["site"].default = {EXPORT: watts(5000), "opModConnect": False}
    async with living(tmp_path, ours()) as live:
        await live.rounds(2)
        await live.until(lambda: live.last("out") == 5.0)
        (one,) = live.refused()
        assert one.why == "default of /derp/site: opModConnect false: nothing here can do that"
        server.programs["site"].default = {EXPORT: watts(-1)}
        await live.rounds()
        assert "found -1" in live.status()["asked_in_vain"]
        assert live.session.bounds()[EXPORT].kw == 5.0


async def test_event_is_held_where_something_tighter_is(tmp_path, server, ours):
    now_s, site = server.now_s(), server.programs["site"]
    site.events += [
        Event(A, now_s - 5, 600, {EXPORT: watts(8, 3), "opModFixedW": 5}),
        Event(B, now_s - 5, 600, {EXPORT: watts(9, 3)}),
    ]
    site.default = None
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: codes(server, B) == [Code.RECEIVED, Code.STARTED])
        assert live.last("out") == 8.0
        assert codes(server, A) == [Code.NOT_APPLICABLE]


async def test_door_that_is_shut_is_not_knocked_at(tmp_path, server, ours):
    async with living(tmp_path, ours()) as live:
        live.plant.door.shut = "user ems has not the role utility"
        await live.rounds(2)
        live.turn()
        assert (live.told, live.refused(), bool(live.session.bounds())) == ([], [], True)
        live.plant.door.shut = ""
        await live.until(lambda: live.last("out") == 5.0)


async def test_disk_that_takes_nothing_is_told_and_costs_no_bound(tmp_path, server, ours, monkeypatch):
    def full(*about: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "write", full)
    async with living(tmp_path, ours()) as live:
        await live.rounds(2)
        await live.until(lambda: live.last("out") == 5.0)
        (one,) = [r for r in live.refused() if r.code == "not_kept"]
        assert "No space left" in one.why


async def test_edge_that_refuses_is_not_told_as_started(tmp_path, server, ours):
    server.programs["site"].events.append(Event(A, server.now_s() - 5, 600, {EXPORT: watts(8, 3)}))
    async with living(tmp_path, ours()) as live:
        live.obeys = False
        await live.rounds()
        await live.until(lambda: codes(server, A) == [1, Code.NOT_APPLICABLE])
        server.ahead_s += 700
        await live.rounds()
        await live.until(lambda: codes(server, A) == [1, Code.NOT_APPLICABLE, Code.NO_PARTICIPATION])
        assert {r.code for r in live.refused()} == {"no_right"}


async def test_wrong_pin_unknown_device_and_a_list_that_is_cut_short_tell_nothing(tmp_path, server, ours):
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)
        server.pin = 222220
        live.session._places = None
        await live.rounds()
        assert "another PIN" in live.status()["trouble"]
        assert live.session.bounds() == {}
        server.pin, server.lfdi = 111115, "BB" * 20
        await live.rounds()
        assert "knows no device of our LFDI" in live.status()["trouble"]
        server.lfdi = live.status()["lfdi"]
        await live.rounds()
        await live.until(lambda: bool(live.session.bounds()))
        rows = [Event(f"{i:032X}", server.now_s() + 600, 60, {EXPORT: watts(1)}) for i in range(7)]
        server.programs["site"].events += rows
        server.page = 3
        await live.rounds()
        assert len(live.session._book.events) == 7
        short = server.document("/derp/site/derc", 0, 2).to_xml(skip_empty=True)
        server.instead["/derp/site/derc"] = Answer(short)
        await live.rounds()
        assert len(live.session._book.events) == 7, "nothing is cancelled by a list that is not whole"
        assert "opModExpLimW" in live.session.bounds()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("stranger", "not believed"),
        ("name", "not believed"),
        ("lfdi", "its LFDI is"),
        ("ours", "no TLS with"),
        ("ciphers", "no TLS with"),
        ("key", "others may read it"),
    ],
)
async def test_server_that_is_not_who_it_must_be_is_not_asked(tmp_path, pki, what, words):
    other = Authority(tmp_path / "other", "Another CA")
    server, changes, own = pki.serves(), {}, pki.own
    if what == "stranger":
        server.party = other.signs("utility", hosts=("127.0.0.1",))
    elif what == "name":
        server.party = pki.authority.signs("elsewhere", hosts=("10.9.9.9",))
    elif what == "lfdi":
        changes["server_lfdi"] = "AB" * 20
    elif what == "ours":
        own = other.signs("ems")
    elif what == "key":
        own = pki.authority.signs("open")
        own.key.chmod(0o644)
    else:
        server.ciphers = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
    server.programs["site"] = Program(primacy=1, default={EXPORT: watts(5000)})
    server.start()
    try:
        async with living(tmp_path, params(server, own, pki.authority.file, **changes)) as live:
            await live.rounds()
            assert words in live.status()["trouble"]
            assert (live.session.bounds(), server.asked) == ({}, [])
    finally:
        server.stop()


async def test_cipher_of_the_standard_and_a_server_known_by_its_lfdi(tmp_path, pki):
    server = pki.serves(ciphers="ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
    server.party = pki.authority.signs("device without a host")
    server.programs["site"] = Program(primacy=1, default={EXPORT: watts(5000)})
    server.start()
    try:
        lfdi = identity_of(server.party.certificate).lfdi
        ours = params(server, pki.own, pki.authority.file, server_lfdi=lfdi, ccm8=True)
        async with living(tmp_path, ours) as live:
            await live.rounds()
            await live.until(lambda: live.last("out") == 5.0)
            peer = live.session._transport.peer
            assert peer is not None
            assert peer.cipher == "ECDHE-ECDSA-AES128-CCM8"
    finally:
        server.stop()


async def test_redirects_are_not_followed_and_links_lead_nowhere_else(tmp_path, server, ours, pki):
    elsewhere = pki.serves().start()
    try:
        async with living(tmp_path, ours()) as live:
            away = {"Location": f"https://127.0.0.1:{elsewhere.port}/dcap"}
            server.instead["/dcap"] = Answer(status=301, headers=away)
            await live.rounds()
            assert "it answers 301, moved to" in live.status()["trouble"]
            root = server.document("/dcap", 0, 1)
            root.TimeLink.href = f"https://127.0.0.1:{elsewhere.port}/tm"
            server.instead["/dcap"] = Answer(root.to_xml(skip_empty=True, exclude_none=True))
            await live.rounds()
            assert "a link to another host" in live.status()["trouble"]
            assert (elsewhere.asked, live.told) == ([], [])
    finally:
        elsewhere.stop()


async def test_server_that_drips_or_sends_too_much_is_left_after_its_time(tmp_path, server, ours):
    async with living(tmp_path, ours(timeout_s=0.3)) as live:
        server.instead["/tm"] = Answer(b"<Time>" * 100, drip_s=0.05)
        await live.rounds()
        assert "no whole answer within 0.3 s" in live.status()["trouble"]
        server.instead["/tm"] = Answer(b"x" * 2_000_001)
        await live.rounds()
        assert "longer than 2000000 bytes" in live.status()["trouble"]
        server.instead["/tm"] = Answer(b"<html/>", kind="text/html")
        await live.rounds()
        assert "found text/html" in live.status()["trouble"]
        del server.instead["/tm"]
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28"])
async def test_somebody_who_speaks_no_tls_is_left_after_its_time(tmp_path, server, ours, says):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    try:
        async with living(tmp_path, ours(port=port, timeout_s=0.3)) as live:
            await live.rounds()
            trouble = live.status()["trouble"]
            assert "no whole answer within 0.3 s" in trouble or "no TLS with" in trouble
            assert live.session.bounds() == {}
    finally:
        mute.close()
        await mute.wait_closed()


async def test_server_that_closes_after_each_answer_is_asked_all_the_same(tmp_path, server, ours):
    server.closes = True
    server.programs["site"].events.append(Event(A, server.now_s() - 5, 600, {EXPORT: watts(8, 3)}))
    async with living(tmp_path, ours(post_device=True)) as live:
        await live.rounds()
        await live.until(lambda: codes(server, A) == [1, 2])
        await live.until(lambda: len(server.puts) >= 2)


async def test_server_that_is_slow_with_everything_keeps_nothing_from_being_asked_again(
    tmp_path, server, ours
):
    def slow() -> Answer:
        time.sleep(0.4)
        return Answer(status=201)

    event = Event(A, server.now_s() - 5, 600, {EXPORT: watts(8, 3)})
    async with living(tmp_path, ours(age_s_max=0.9)) as live:
        server.instead["/tm"] = slow
        await live.rounds()
        assert "a round takes longer than 0.3 s" in live.status()["asked_in_vain"]
        del server.instead["/tm"]
        server.programs["site"].events.append(event)
        server.instead["/rsp"] = slow
        await live.rounds()
        await live.until(lambda: "they take longer than 0.3 s" in " ".join(r.why for r in live.refused()))
        await live.rounds()
        assert live.status()["asked_in_vain"] == ""


async def test_clock_of_the_server_counts_and_one_that_is_far_off_is_none(tmp_path, server, ours):
    server.ahead_s = 120
    server.programs["site"].events.append(Event(A, server.now_s() - 1, 600, {EXPORT: watts(1, 3)}))
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 1.0, "it has begun by the server's clock")
        assert "s ahead of ours" in live.status()["clock"]
        server.ahead_s = 7200
        await live.rounds()
        assert "its clock is +7" in live.status()["asked_in_vain"]
        assert live.status()["trouble"] == ""
        assert live.last("out") == 1.0


async def test_share_of_a_bound_and_what_is_told_otherwise(tmp_path, server, ours):
    server.programs["site"].default = None
    tellings = (
        Telling(word=EXPORT, shares=(Share("out", 0.25),), otherwise_kw=400.0),
        replace(TELLINGS[1], otherwise_kw=None),
    )
    async with living(tmp_path, ours(tellings=tellings)) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 100.0)
        server.programs["site"].default = {EXPORT: watts(2, 4)}
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)
        assert live.last("into") is None


async def test_bounds_are_told_again_before_the_watchdog_ends_and_at_once_to_a_new_edge(
    tmp_path, server, ours
):
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: live.last("into") == 20.0 and live.last("out") == 5.0)
        count = len(live.told)
        teller = live.session._teller
        assert max(teller._period_s.values()) * 3.0 <= 60.0
        await live.until(lambda: not live.plant.door.waiting)
        live.turn()
        assert len(live.told) == count
        last = teller.last["out"]
        teller.last["out"] = replace(last, at_s=last.at_s - 20.0)
        teller._tried_s["out"] = last.at_s - 20.0
        await live.until(lambda: len(live.told) == count + 1)
        assert live.told[-1] == ("out", 5.0)
        live.plant.cycle(fields={"epoch": 8, "shadow": False, "cycle_s": 200.0})
        await live.until(lambda: len(live.told) == count + 3)


async def test_shadow_holds_nothing_and_says_so(tmp_path, server, ours):
    server.programs["site"].events.append(Event(A, server.now_s() - 5, 600, {EXPORT: watts(8, 3)}))
    async with living(tmp_path, ours()) as live:
        live.plant.cycle(fields={"shadow": True, "cycle_s": 200.0})
        await live.rounds()
        await live.until(lambda: live.last("out") == 8.0 and not live.plant.door.waiting)
        live.turn()
        assert codes(server, A) in ([], [1])
        server.ahead_s += 700
        await live.rounds()
        await live.until(lambda: codes(server, A) == [1, Code.NO_PARTICIPATION])
