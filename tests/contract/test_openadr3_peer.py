"""A VTN of another make (toadr3's models over aiohttp) bounds the plant, or does not."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.input_doubts import doubts_of
from connectors.inputs.keeper import feeds_of
from connectors.inputs.store import InputReader, InputStore
from connectors.utility.kept import file_of
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.http_json import HttpJson
from ems.input_rules import house_provider
from ems.inputs import IMPORT as IMPORT_PRICE
from ems.inputs import InputKind, InputParams, InputVersion
from ems.site import Site
from ems.utility import VtnPrices
from tests.contract.openadr3_peer import (
    EXPORT,
    IMPORT,
    PROGRAM,
    SECRET,
    Vtn,
    at,
    event,
    living_ven,
    params,
    vtn_on,
)
from tests.contract.tls_pki import Authority

EVENTS = "/vtn/events"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with vtn_on(tmp_path_factory.mktemp("vtn")) as found:
        yield found


@pytest.fixture
def vtn(running) -> Vtn:
    one: Vtn = running[0]
    one.reset()
    return one


@pytest.fixture
def ours(running, vtn, tmp_path):
    own = tmp_path / "secret"
    own.touch(mode=0o600)
    own.write_text(SECRET + "\n")

    def of(secret: Path = own, **changes: Any):
        return params(vtn.port, running[1].file, secret, **changes)

    return of


def _from_now_s(ahead: dict[str, Any]) -> tuple[float, float]:
    """When a bound to come begins and ends, from now on [s]; 0: it holds already."""
    now = datetime.now(UTC)
    start, end = ((datetime.fromisoformat(ahead[k]) - now).total_seconds() for k in ("start", "end"))
    return max(0, round(start)), round(end)


async def test_events_bound_the_plant_from_their_start_to_their_end(tmp_path, vtn, ours):
    vtn.change(events=[event("now", at(-60), "PT10M", 40.0), event("later", at(900), "PT10M", 0.0)])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: (live.last("out"), live.last("into")) == (40.0, 500.0), "bounds are told")
        rows = {r["id"]: r for r in live.status()["events"]}
        assert (rows["now"]["now_kw"], rows["later"]["now_kw"]) == ({EXPORT: 40.0}, {})
        assert live.status()["peer"] == "CN=vtn"
        now, later = (a for a in live.status()["ahead"] if a["limit"] == "out")
        assert (now["kw"], later["kw"]) == (40.0, 0.0)
        assert _from_now_s(now) == pytest.approx((0, 540), abs=30)
        assert _from_now_s(later) == pytest.approx((900, 1500), abs=30)
        live.later(600.0)  # as if it was heard ten minutes ago, and is silent: what is known goes on
        assert EXPORT not in live.session.bounds()
        live.later(250.0)
        assert live.session.bounds()[IMPORT].kw == 500.0
        live.later(100.0)
        assert live.session.bounds() == {}, "it is too old"
        assert live.status()["trouble"].startswith("not heard since")


async def test_changed_and_deleted_events_count_as_they_are_now(tmp_path, vtn, ours):
    vtn.change(events=[event("a", at(-60), "PT1H", 40.0)])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        await live.until(lambda: live.last("out") == 40.0)
        vtn.change(events=[event("a", at(-60), "PT1H", 30.0)])
        await live.rounds()
        await live.until(lambda: live.last("out") == 30.0)
        vtn.change(events=[])
        await live.rounds()
        assert EXPORT not in live.session.bounds()
        assert live.session.bounds()[IMPORT].why == "otherwise_kw of the site file"


async def test_lowest_priority_number_goes_first_and_of_one_the_tightest(tmp_path, vtn, ours):
    events = [
        event("none", at(-60), "PT1H", 10.0),
        event("nine", at(-60), "PT1H", 20.0, priority=9),
        event("two", at(-60), "PT1H", 40.0, priority=2),
        event("two_too", at(-60), "PT1H", 35.0, priority=2),
    ]
    async with living_ven(tmp_path, ours()) as live:
        for expected in (35.0, 40.0, 20.0, 10.0):
            vtn.change(events=events)
            await live.rounds()
            assert live.session.bounds()[EXPORT].kw == expected
            won = live.session.bounds()[EXPORT].why.removeprefix("event ")
            events = [e for e in events if e["id"] != won]


async def test_only_events_that_are_meant_for_us_count(tmp_path, vtn, ours):
    def to(kind: str, *names: str) -> dict[str, Any]:
        return {"targets": [{"type": kind, "values": list(names)}]}

    program = PROGRAM | {"id": "p2", "programName": "others"} | to("GROUP", "south")
    vtn.change(
        programs=[PROGRAM, program],
        events=[
            event("all", at(-60), "PT1H", 90.0),
            event("ours", at(-60), "PT1H", 80.0, **to("VEN_NAME", "other", "plant")),
            event("north", at(-60), "PT1H", 70.0, **to("GROUP", "north")),
            event("south", at(-60), "PT1H", 1.0, **to("GROUP", "south")),
            event("of_others", at(-60), "PT1H", 2.0) | {"programID": "p2"},
        ],
    )
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        assert (live.session.bounds()[EXPORT].kw, live.status()["others"]) == (80.0, 3)
    async with living_ven(tmp_path, ours(targets=("north",))) as live:
        await live.rounds()
        assert (live.session.bounds()[EXPORT].kw, live.status()["others"]) == (70.0, 2)
    async with living_ven(tmp_path, ours(ven_name="", programs=("capacity",))) as live:
        vtn.change()
        await live.rounds()
        assert (live.session.bounds()[EXPORT].kw, live.status()["others"]) == (90.0, 3)
        asked = [a for a in vtn.change() if a.startswith("events")]
        assert {a.partition("&")[0] for a in asked} == {"events programID=p1"}, "no others are asked for"
    async with living_ven(tmp_path, ours(programs=("unknown",))) as live:
        await live.rounds()
        assert (EXPORT in live.session.bounds(), live.status()["asked_in_vain"]) == (False, "")


async def test_targets_are_put_into_questions_of_their_own_where_that_is_wanted(tmp_path, vtn, ours):
    async with living_ven(tmp_path, ours(targets=("a b", "c"), ask_targets=True)) as live:
        vtn.change()
        await live.rounds()
        asked = vtn.change()
    assert "events targets=a b&skip=0&limit=50" in asked
    assert "events targets=c&skip=0&limit=50" in asked


@pytest.mark.parametrize("page", [1, 2, 7, 50])
async def test_every_event_of_a_long_list_is_read_whatever_the_pages(tmp_path, vtn, ours, page):
    most = 5 if page == 1 else 23  # pages of one object say nothing of the next
    events = [event(f"e{i}", at(-60), "PT1H", 100.0 - i) for i in range(most)]
    vtn.change(events=events, page=page)
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        if page == 1:
            assert "pages are of one object" in live.status()["asked_in_vain"]
        else:
            assert live.session.bounds()[EXPORT].kw == 100.0 - (most - 1)


async def test_list_that_changes_while_it_is_read_counts_not_at_all(tmp_path, vtn, ours):
    whole = [event(f"e{i}", at(-60), "PT1H", 100.0 - i) for i in range(3)]
    vtn.change(events=whole)
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        pages = iter([whole[:2], whole[2:]])
        first = live.session._transport.get

        async def moved(path: str) -> Any:
            return next(pages) if "/events" in path else await first(path)

        live.session._transport.get = moved
        await live.rounds()
        assert "changed while it was read" in live.status()["asked_in_vain"]
        assert live.session.bounds()[EXPORT].kw == 98.0, "what was known stays"


async def test_what_cannot_be_done_is_shown_and_never_guessed(tmp_path, vtn, ours):
    both = event("both", at(-60), "PT1H", 40.0)
    both["intervals"][0]["payloads"].append({"type": "DISPATCH_SETPOINT", "values": [100.0]})
    both["reportDescriptors"] = [{"payloadType": "USAGE"}]
    wrong = event("amps", at(-60), "PT1H", 5.0, payloadDescriptors=[{"payloadType": EXPORT, "units": "AMPS"}])
    vtn.change(events=[both, wrong, event("minus", at(-60), "PT1H", -5.0)])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds(2)
        assert live.session.bounds()[EXPORT].kw == 40.0
        whys = sorted(r.why for r in live.refused())
        of = "intervals[0]: EXPORT_CAPACITY_LIMIT:"
        assert whys == [
            f"event amps: {of} found units 'AMPS'; allowed: KW, in payloadDescriptors",
            "event both: DISPATCH_SETPOINT: nothing here can do that",
            f"event minus: {of} found -5.0; allowed: one number from 0 to 1e+07 kW",
        ]
        row = next(r for r in live.status()["events"] if r["id"] == "both")
        assert (row["unmet"], row["reports"]) == (["DISPATCH_SETPOINT"], ["USAGE"])


async def test_event_that_is_spoilt_later_stays_as_it_was(tmp_path, vtn, ours):
    vtn.change(events=[event("a", at(-60), "PT1H", 40.0)])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        vtn.change(events=[event("a", at(-60), "PT1H", -1.0)])
        await live.rounds()
        assert live.session.bounds()[EXPORT].kw == 40.0
        assert live.refused()[0].why.endswith("it stays as it was told before")


async def test_what_is_known_goes_on_over_a_restart_while_it_is_young(tmp_path, vtn, ours):
    random = event("a", at(-600), "PT1H", 40.0)
    random["intervalPeriod"]["randomizeStart"] = "PT5M"
    vtn.change(events=[random])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        start_s = live.status()["events"][0]["start_s"]
    vtn.change(instead={EVENTS: {"status": 500}})
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        assert live.session.bounds()[EXPORT].kw == 40.0
        assert live.status()["events"][0]["start_s"] == start_s, "chance is not drawn again"
        assert "answers 500" in live.status()["asked_in_vain"]
    async with living_ven(tmp_path, ours(client_id="another")) as live:
        assert live.session.bounds() == {}
    file_of(tmp_path, "dso").write_text("{}")
    async with living_ven(tmp_path, ours()) as live:
        assert live.session.bounds() == {}


async def test_token_is_kept_renewed_and_asked_for_again_where_it_was_forgotten(tmp_path, vtn, ours):
    def tokens() -> list[str]:
        return [a for a in vtn.change() if a.startswith("token")]

    async with living_ven(tmp_path, ours(scope="read_all")) as live:
        tokens()
        await live.rounds(2)
        assert tokens() == ["token read_all"]
        vtn.change(token={"access_token": "second", "token_type": "bearer", "expires_in": 0})
        await live.rounds()
        assert live.status()["asked_in_vain"] == ""
        assert len(tokens()) >= 1
        vtn.change(instead={EVENTS: {"status": 401}})
        await live.rounds()
        assert "answers 401" in live.status()["asked_in_vain"]


WRONG_TOKENS = [
    ({"access_token": "a b", "token_type": "Bearer"}, "holds what no header may hold"),
    ({"access_token": "a\r\nHost: x", "token_type": "Bearer"}, "holds what no header may hold"),
    ({"access_token": "a", "token_type": "mac"}, "no Bearer token"),
    ({"access_token": "a", "token_type": "Bearer", "expires_in": -1}, "expires_in"),
    ({"access_token": "", "token_type": "Bearer"}, "gives no token"),
]


@pytest.mark.parametrize(("token", "why"), WRONG_TOKENS)
async def test_tokens_that_are_none_are_refused(tmp_path, vtn, ours, token, why):
    vtn.change(token=token)
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        assert why in live.status()["asked_in_vain"]
        assert live.session.bounds() == {}


BAD_ANSWERS = [
    ({"status": 302, "headers": {"Location": "https://elsewhere.example/vtn/events"}}, "not followed"),
    ({"status": 429, "headers": {"Retry-After": "600"}}, "answers 429"),
    ({"status": 500, "body": "<html>"}, "answers 500"),
    ({"body": "[", "type": "application/json"}, "no JSON that can be believed"),
    ({"body": '[{"id": "a", "id": "b"}]'}, "no JSON that can be believed"),
    ({"body": "[NaN]"}, "no JSON that can be believed"),
    ({"body": "[" * 100_000}, "no JSON that can be believed"),
    ({"body": "{}"}, "found no list"),
    ({"body": "[1]"}, "id: found nothing"),
    ({"body": '[{"id": "../a"}]'}, "id: found"),
    ({"body": "[]", "type": "text/html"}, "text/html"),
    ({"body": "[]", "headers": {"Content-Encoding": "gzip"}}, "packed"),
    ({"body": "[" + " " * 2_100_000 + "]"}, "longer than"),
    ({"body": "[" + " " * 50 + "]", "drip_s": 0.1}, "no whole answer within 1 s"),
]


@pytest.mark.parametrize(("answer", "why"), BAD_ANSWERS, ids=[w for _, w in BAD_ANSWERS])
async def test_answers_that_are_none_change_nothing(tmp_path, vtn, ours, answer, why):
    vtn.change(events=[event("a", at(-60), "PT1H", 40.0)])
    async with living_ven(tmp_path, ours(timeout_s=1.0)) as live:
        await live.rounds()
        vtn.change(instead={EVENTS: answer})
        await live.rounds()
        assert why in live.status()["asked_in_vain"]
        assert live.session.bounds()[EXPORT].kw == 40.0
        if answer.get("status") == 429:
            assert live.session._next_s - live.plant.clock.monotonic_s() > 500.0


async def test_clock_of_the_vtn_that_is_off_is_told_and_far_off_not_believed(tmp_path, vtn, ours):
    vtn.change(events=[event("a", at(-60), "PT1H", 40.0)], dated=120.0)
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        assert "s ahead of ours; its events go by ours" in live.status()["clock"]
        vtn.change(dated=-7200.0, events=[])
        await live.rounds()
        assert "its clock is -7" in live.status()["asked_in_vain"]
        assert live.session.bounds()[EXPORT].kw == 40.0
        vtn.change(dated=None)
        await live.rounds()
        assert (live.status()["asked_in_vain"], live.status()["clock"]) == ("", "")


async def test_clock_of_ours_that_jumps_moves_no_event_until_the_vtn_is_heard_again(tmp_path, vtn, ours):
    vtn.change(events=[event("a", at(-60), "PT10M", 40.0), event("b", at(5400), "PT1H", 1.0)])
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        for by_s in (7200.0, -7200.0):
            live.jumps.by_s = by_s
            assert live.session.bounds()[EXPORT].kw == 40.0
            await live.rounds()
            assert "s from ours; allowed: 3600 s" in live.status()["asked_in_vain"]
            assert live.session.bounds()[EXPORT].kw == 40.0
        live.jumps.by_s = 0.0
        await live.rounds()
        assert live.status()["asked_in_vain"] == ""


async def test_vtn_of_another_certificate_or_name_is_asked_nothing(tmp_path, running, vtn, ours):
    stranger = Authority(tmp_path / "other", "Other CA")
    pinned = HttpJson(protection="pinned", certificate=str(running[2].certificate))
    wrong = HttpJson(protection="pinned", certificate=str(stranger.signs("x").certificate))
    vtn.change()
    for http in (
        HttpJson(ca=str(stranger.file)),
        wrong,
        HttpJson(ca=str(running[1].file), server_name="x.example"),
    ):
        async with living_ven(tmp_path, replace(ours(), http=http)) as live:
            await live.rounds()
            assert live.status()["asked_in_vain"]
            assert live.session.bounds() == {}
    assert vtn.change() == []
    async with living_ven(tmp_path, replace(ours(), http=pinned)) as live:
        await live.rounds()
        assert live.status()["asked_in_vain"] == ""


async def test_secret_that_is_missing_open_or_wrong_is_told(tmp_path, vtn, ours):
    open_to_all = tmp_path / "open"
    open_to_all.write_text(SECRET)
    open_to_all.chmod(0o644)
    for file in (tmp_path / "none", open_to_all):
        with pytest.raises(EmsError):
            async with living_ven(tmp_path, ours(file)):
                pass
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("wrong")
    async with living_ven(tmp_path, ours(other)) as live:
        await live.rounds()
        why = "no token for plant: POST /vtn/auth/token: it answers 401, 'invalid_client'"
        assert live.status()["asked_in_vain"] == why
        assert Path(file_of(tmp_path, "dso")).exists()
        assert "wrong" not in file_of(tmp_path, "dso").read_text()


async def test_prices_of_a_vtn_are_versions_of_an_input(tmp_path, vtn, ours):
    units = [{"payloadType": "PRICE", "units": "KWH", "currency": "USD"}]
    day = event("day", at(-3600)[:14] + "00:00Z", "PT1H", 0.2, -0.05, 0.4, word="PRICE")
    vtn.change(programs=[PROGRAM | {"payloadDescriptors": units}], events=[day])
    (tmp_path / "inbox").mkdir()
    server = ours(prices=VtnPrices(program="capacity", input="retail", folder="inbox"), tellings=())
    params = InputParams(
        id="retail", kind=InputKind.PRICE, provider=house_provider(InputKind.PRICE), folder="inbox"
    )
    async with living_ven(tmp_path, server) as live:
        await live.rounds(2)
        assert live.status()["prices"]["rows"] == 4
        assert live.status()["events"][0]["unmet"] == []
        site = replace(live.site, inputs=(params,))
        version = _taken(site, tmp_path)
        assert version.series[IMPORT_PRICE].step_s == 3600.0
        assert [x for x in version.series[IMPORT_PRICE].values if x == x] == [0.2, -0.05, 0.4]
        assert version.issued_told
        vtn.change(events=[event("day", day["intervalPeriod"]["start"], "PT1H", 0.2, 0.5, 0.4, word="PRICE")])
        await live.rounds()
        newer = _taken(site, tmp_path)
        assert [x for x in newer.series[IMPORT_PRICE].values if x == x] == [0.2, 0.5, 0.4]
        assert newer.issued_at >= version.issued_at
        units[0]["currency"] = "EUR"
        vtn.change(programs=[PROGRAM | {"payloadDescriptors": units}])
        await live.rounds()
        assert "found currency 'EUR'; allowed: USD" in live.refused()[0].why
        assert list((tmp_path / "inbox").glob("*.csv")) == []
    async with living_ven(tmp_path, server) as live:
        assert live.status()["prices"]["rows"] == 4, "it is known what was handed on"


def _taken(site: Site, folder: Path) -> InputVersion:
    """What the store of inputs takes out of the folder."""
    (folder / "run").mkdir(exist_ok=True)
    clock = SystemClock()
    with closing(InputStore(folder / "run")) as store:
        (feed,) = feeds_of(site, store, folder, clock.now, lambda params: doubts_of(site, params))
        looks = [*feed.look(), *feed.look()]
        assert [x.outcome for x in looks if x.file] == ["taken"], looks
    version = InputReader(folder / "run").newest("retail", clock.now())
    assert version is not None
    return version


def _over(minutes: int = 30) -> dict[str, Any]:
    """An event of two intervals of five minutes that ended a while ago, and asks for the mean power."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    told = event("over", start.strftime("%Y-%m-%dT%H:%M:%SZ"), "PT5M", 40.0, 50.0)
    told["intervals"][1]["id"] = 7
    return told | {"reportDescriptors": [{"payloadType": "DEMAND", "units": "KW"}, {"payloadType": "USAGE"}]}


def _reports(asked: list[str]) -> list[Any]:
    return [json.loads(a.removeprefix("report ")) for a in asked if a.startswith("report ")]


async def test_mean_power_is_told_once_where_an_event_asks_for_it(tmp_path, vtn, ours):
    told = _over()
    start = datetime.fromisoformat(told["intervalPeriod"]["start"])
    vtn.change(
        events=[told, event("runs", at(-60), "PT1H", 1.0, reportDescriptors=told["reportDescriptors"])]
    )
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds(2)
        (report,) = _reports(vtn.change())
        assert (report["eventID"], report["programID"], report["clientName"]) == ("over", "p1", "plant")
        assert (
            report["payloadDescriptors"][0] | {"readingType": "MEAN", "units": "KW"}
            == report["payloadDescriptors"][0]
        )
        rows = report["resources"][0]["intervals"]
        assert [r["id"] for r in rows] == [0, 7]
        minutes = [[(start.minute + 5 * i + j) % 60 for j in range(5)] for i in range(2)]
        expected = [40.0 + sum(m) / 5 for m in minutes]
        assert [r["payloads"][0]["values"][0] for r in rows] == expected
        rows = {r["id"]: r for r in live.status()["events"]}
        assert (rows["over"]["reported"], rows["runs"]["reported"]) == ("taken", None)
        assert rows["over"]["reports"] == ["USAGE"]
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds()
        assert _reports(vtn.change()) == [], "it is known what was told"


async def test_minutes_that_were_not_read_well_are_not_told(tmp_path, vtn, ours):
    told = _over()
    minute = datetime.fromisoformat(told["intervalPeriod"]["start"]).minute
    vtn.change(events=[told])
    async with living_ven(tmp_path, ours()) as live:
        live.bad = frozenset([(minute + 2) % 60])
        await live.rounds()
        (report,) = _reports(vtn.change())
        assert [r["id"] for r in report["resources"][0]["intervals"]] == [7]
    vtn.change(events=[told | {"id": "other"}])
    async with living_ven(tmp_path, ours()) as live:
        live.bad = frozenset(range(60))
        await live.rounds()
        assert _reports(vtn.change()) == []
        assert live.status()["events"][0]["reported"] == "nothing of it was read well"


async def test_vtn_that_takes_no_report_bounds_the_plant_all_the_same(tmp_path, vtn, ours):
    vtn.change(
        events=[_over(), event("runs", at(-60), "PT1H", 12.0)], instead={"/vtn/reports": {"status": 500}}
    )
    async with living_ven(tmp_path, ours()) as live:
        await live.rounds(2)
        assert (live.status()["asked_in_vain"], live.session.bounds()[EXPORT].kw) == ("", 12.0)
        assert "answers 500" in live.refused()[0].why
        vtn.change(instead={"/vtn/reports": {"status": 403}})
        await live.rounds()
        assert "answers 403" in next(r for r in live.status()["events"] if r["id"] == "over")["reported"]
    async with living_ven(tmp_path / "..", ours(post_meter=False)) as live:
        vtn.change(instead={})
        await live.rounds()
        assert _reports(vtn.change()) == []
