"""What is believed of a file or an answer: times, zones, units, bounds; all of it, or nothing."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from connectors.inputs.convert import content_sha256, read_version
from connectors.inputs.store import InputReader, InputStore
from ems.announced import announced
from ems.errors import ConfigError
from ems.input_rules import series_rules
from ems.inputs import Certainty, InputParams, InputVersion, OutageColumns
from tests.builders import site
from tests.unit.connectors.inputs_here import NOW, params, site_with

VIENNA = ZoneInfo("Europe/Vienna")


def read(raw: str | bytes, given: InputParams, at: datetime = NOW) -> InputVersion:
    body = raw.encode() if isinstance(raw, str) else raw
    return read_version(body, "f.csv", given, series_rules(site(), given), at)


def refusal(raw: str | bytes, given: InputParams) -> str:
    with pytest.raises(ConfigError) as caught:
        read(raw, given)
    return str(caught.value)


PRICES = """time,issued_at,import_per_kwh,export_per_kwh
2026-03-02T13:00:00Z,2026-03-02T11:00:00Z,0.20,0.05
2026-03-02T15:00:00+01:00,2026-03-02T11:00:00Z,-0.05,
2026-03-02T16:00:00Z,2026-03-02T11:00:00Z,0.30,0.06
"""


def test_prices_of_our_own_form_are_series_with_gaps_and_time_of_issue():
    version = read(PRICES, params())
    assert version.issued_told
    assert version.issued_at == datetime(2026, 3, 2, 11, tzinfo=UTC)
    bought = version.series["import_per_kwh"]
    assert (bought.start, bought.step_s) == (datetime(2026, 3, 2, 13, tzinfo=UTC), 3600.0)
    np.testing.assert_allclose(bought.values, [0.20, -0.05, np.nan, 0.30])
    np.testing.assert_allclose(version.series["export_per_kwh"].values, [0.05, np.nan, np.nan, 0.06])
    assert version.span == (bought.start, bought.start + timedelta(hours=4))


ROW = "2026-03-02T13:00:00Z"
NEXT = "2026-03-02T14:00:00Z"
ISSUED = f"time,issued_at,import_per_kwh\n{ROW},2026-03-02T{{}}Z,1\n{NEXT},2026-03-02T{{}}Z,1\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "f.csv:1: time: found no such column"),
        ("when,import_per_kwh\n", "time: found no such column; allowed: one of when, import_per_kwh"),
        ("time,import_per_kwh\n", "rows: found none; allowed: at least two"),
        (f"time,import_per_kwh\n{ROW},0.2\n", "rows: found 1; allowed: at least two"),
        ("time,import_per_kwh\n0001-01-01T00:00:00+23:00,1\n", "a time of this century"),
        (f"time,price\n{ROW},1\n{NEXT},1\n", "price: found an unknown column; allowed: export_per_kwh"),
        (f"time,time\n{ROW},1\n", "time: found two columns of this name"),
        (f"time,import_per_kwh\n{ROW},0.2,1\n", "f.csv:2: row: found 3 columns; allowed: 2"),
        (f"time,import_per_kwh\n{ROW},cheap\n{NEXT},1\n", "f.csv:2: import_per_kwh: found 'cheap'"),
        (f"time,import_per_kwh\n{ROW},nan\n{NEXT},1\n", "found 'nan'; allowed: a finite number"),
        (f"time,import_per_kwh\n{ROW},0.2\n{NEXT},210\n", "import_per_kwh: found 210; allowed: -20 to 20"),
        (f"time,import_per_kwh\n{ROW},\n{NEXT},\n", "import_per_kwh: found no value at all"),
        (f"time,import_per_kwh\n{NEXT},1\n{ROW},1\n", "f.csv:3: time: found '2026-03-02T13:00:00Z'"),
        (f"time,import_per_kwh\n{ROW},1\n{ROW},2\n", "allowed: a time after the row before"),
        ("time,import_per_kwh\n2026-03-02T13:00,1\n", "a time with its zone: nobody says in which"),
        ("time,import_per_kwh\n2026-03-32T13:00Z,1\n", "allowed: a time in ISO 8601"),
        (f"time,import_per_kwh\n{ROW},1\n2026-03-02T13:00:20Z,1\n", "a step of 20 s; allowed: 60 to 3600 s"),
        (f"time,import_per_kwh\n{ROW},1\n2026-03-02T17:00:00Z,1\n", "found a step of 14400 s"),
        ("time,import_per_kwh\n2021-03-02T13:00Z,1\n2021-03-02T14:00Z,1\n", "another year, or seconds"),
        (ISSUED.format("12:10", "12:10"), "a time of issue that is over"),
        (ISSUED.format("11:10", "11:20"), "2 times of issue"),
        (b"time,import_per_kwh\n\xff\xfe", "encoding: found byte 0xff at 20; allowed: text in UTF-8"),
        (f'time,import_per_kwh\n{ROW},"1\n', "f.csv:"),
    ],
)  # fmt: skip
def test_price_file_that_is_wrong_is_refused_with_line_found_and_allowed(body: str | bytes, said: str):
    assert said in refusal(body, params())


def test_all_that_is_wrong_is_told_at_once_and_long_lists_are_cut():
    rows = "".join(f"{NOW + timedelta(hours=n):%Y-%m-%dT%H:%MZ},x\n" for n in range(60))
    told = refusal("time,import_per_kwh\n" + rows, params()).splitlines()
    assert len(told) == 51
    assert "f.csv:2: " in told[0]
    assert "10 more like these" in told[-1] or "11 more like these" in told[-1]


def test_price_bounds_of_the_site_file_count():
    given = params(price_min_per_kwh=0.0, price_max_per_kwh=0.25)
    told = refusal(PRICES, given)
    assert (
        "f.csv:3: import_per_kwh: found -0.05; allowed: 0 to 0.25 USD/kWh (another unit, or a wrong price?)"
        in told
    )
    assert "f.csv:4: import_per_kwh: found 0.3" in told


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (
            "weather",
            f"time,ghi_w_m2\n{ROW},0.5\n{NEXT},2500\n",
            "found 2500; allowed: 0 to 1500 W/m2",
        ),
        (
            "weather",
            f"time,cloud_ratio\n{ROW},40\n{NEXT},50\n",
            "found 40; allowed: 0 to 1 (percent?)",
        ),
        ("weather", f"time,temp_air_degc\n{ROW},290\n{NEXT},291\n", "temp_air_degc: found 290"),
        ("forecast", f"time,pv.pv1\n{ROW},400000\n{NEXT},1\n", "pv.pv1: found 400000; allowed: 0 to"),
        ("forecast", f"time,load.critical\n{ROW},-1\n{NEXT},1\n", "load.critical: found -1; allowed: 0 to"),
        ("forecast", f"time,load.kitchen\n{ROW},1\n{NEXT},1\n", "load.kitchen: found an unknown column"),
    ],
)
def test_another_unit_or_asset_is_refused(kind: str, body: str, said: str):
    assert said in refusal(body, params(kind))


def local() -> InputParams:
    given = params()
    return replace(given, provider=replace(given.provider, zone=VIENNA))


def test_hour_that_comes_twice_is_told_apart_by_order_and_a_day_of_25_hours_has_25():
    times = ["2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T02:00", "2026-10-25T03:00"]
    body = "time,import_per_kwh\n" + "".join(f"{t},{n}\n" for n, t in enumerate(times))
    version = read(body, local(), datetime(2026, 10, 24, 12, tzinfo=UTC))
    bought = version.series["import_per_kwh"]
    assert bought.start == datetime(2026, 10, 24, 23, tzinfo=UTC)
    assert bought.values.tolist() == [0.0, 1.0, 2.0, 3.0], "without a gap, an hour each"


@pytest.mark.parametrize(
    ("times", "start_h"),
    [(("02:00", "03:00", "04:00"), 1), (("02:00", "02:00", "03:00"), 0), (("02:30", "02:45", "03:00"), 1.5)],
)
def test_series_that_begins_in_the_hour_that_comes_twice_begins_in_the_second_unless_both_are_there(
    times: tuple[str, ...], start_h: float
):
    body = "time,import_per_kwh\n" + "".join(f"2026-10-25T{t},{n}\n" for n, t in enumerate(times))
    bought = read(body, local(), datetime(2026, 10, 24, 12, tzinfo=UTC)).series["import_per_kwh"]
    assert bought.start == datetime(2026, 10, 25, tzinfo=UTC) + timedelta(hours=start_h)
    assert bought.values.tolist() == [0.0, 1.0, 2.0], "no gap"


def test_series_that_lies_in_the_hour_that_comes_twice_is_refused():
    body = "time,import_per_kwh\n2026-10-25T02:00,1\n2026-10-25T02:15,2\n"
    with pytest.raises(ConfigError, match="a row outside of the hour that comes twice"):
        read(body, local(), datetime(2026, 10, 24, 12, tzinfo=UTC))


def test_hour_that_never_was_is_refused_and_the_day_of_23_hours_has_no_gap():
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    good = "time,import_per_kwh\n2026-03-29T01:00,1\n2026-03-29T03:00,2\n"
    assert read(good, local(), spring).series["import_per_kwh"].values.tolist() == [1.0, 2.0]
    with pytest.raises(ConfigError, match="its clock was put forward"):
        read("time,import_per_kwh\n2026-03-29T01:00,1\n2026-03-29T02:00,2\n", local(), spring)


OUTAGES = """id,issued_at,from,until,status,reason
a,2026-03-02T08:00Z,2026-03-03T08:00Z,2026-03-03T10:00Z,planned,works
b,2026-03-02T09:00Z,2026-03-04T08:00+01:00,2026-03-04T10:00+01:00,possible,
c,2026-03-02T09:30Z,2026-03-05T08:00Z,2026-03-05T10:00Z,cancelled,
"""


def test_outages_are_read_with_certainty_reason_and_what_is_cancelled():
    version = read(OUTAGES, params("outages"))
    a, b, c = version.outages
    assert (a.id, a.reason, a.certainty, a.cancelled) == ("a", "works", Certainty.PLANNED, False)
    assert (b.certainty, b.start) == (Certainty.POSSIBLE, datetime(2026, 3, 4, 7, tzinfo=UTC))
    assert c.cancelled
    assert version.issued_at == c.issued_at
    assert a.notice("utility").id == "utility.a"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",2026-03-02T08:00Z,2026-03-03T08:00Z,2026-03-03T10:00Z,planned,", "id: found ''"),
        ("a,,2026-03-03T10:00Z,2026-03-03T08:00Z,planned,", "'2026-03-03T08:00Z'; allowed: after its start"),
        ("a,,2026-03-03T10:00Z,2026-05-03T08:00Z,planned,", "at most 31 days (year or month mistyped?)"),
        ("a,,2024-03-03T10:00Z,2024-03-03T12:00Z,planned,", "from: found '2024-03-03T10:00Z'"),
        ("a,,2026-03-03T10:00Z,,planned,", "until: found ''; allowed: a time in ISO 8601"),
        ("a,,2026-03-03T10:00Z,2026-03-03T11:00Z,perhaps,", "'perhaps'; allowed: one of planned, likely"),
        ("a,2026-03-02T19:00Z,2026-03-03T10:00Z,2026-03-03T11:00Z,planned,", "a time of issue that is over"),
    ],
)  # fmt: skip
def test_outage_row_that_is_wrong_is_refused(row: str, said: str):
    assert said in refusal(f"id,issued_at,from,until,status,reason\n{row}\n", params("outages"))


def test_complete_list_without_its_last_issue_withdraws_it(tmp_path: Path):
    """Whose rows have a time of issue each: what is left is older than what is withdrawn."""
    given, head = params("outages", complete=True), OUTAGES.partition("\n")[0] + "\n"
    a, b = (
        f"{x},2026-03-02T0{n}:00Z,2026-03-03T08:00Z,2026-03-03T10:00Z,planned,\n"
        for n, x in ((7, "A"), (8, "B"))
    )
    store, reader = InputStore(tmp_path), InputReader(tmp_path)
    for hour, body, outcome, ids in (
        (0, a + b, "taken", ["A", "B"]),
        (1, a, "taken", ["A"]),
        (2, a, "same", ["A"]),
    ):
        at = NOW + timedelta(hours=hour)
        assert store.take(read(head + body, given, at), b"").outcome == outcome
        assert [n.id for n in announced([given], reader, at)] == [f"one.{x}" for x in ids]
    store.close()


def test_list_of_outages_may_tell_one_time_of_issue_beside_its_rows():
    given = params("outages", complete=True)
    given = replace(given, provider=replace(given.provider, body="json", rows="/rows", issued="/at"))
    row = {"id": "A", "from": "2026-03-03T10:00Z", "until": "2026-03-03T11:00Z"}
    version = read(json.dumps({"at": "2026-03-02T09:00Z", "rows": [row]}), given)
    assert (version.issued_told, version.issued_at) == (True, NOW - timedelta(hours=3))
    assert version.outages[0].issued_at == version.issued_at


@pytest.mark.parametrize("found", [["2026-03-02T09:00Z"], {"at": 1}])
def test_time_of_issue_that_is_neither_text_nor_number_is_refused(found: Any):
    given = params("outages")
    given = replace(given, provider=replace(given.provider, body="json", rows="/rows", issued="/at"))
    assert "/at: found" in refusal(json.dumps({"at": found, "rows": []}), given)


def test_one_outage_twice_in_one_issue_is_refused_unless_it_is_the_same():
    row = "a,2026-03-02T08:00Z,2026-03-03T08:00Z,2026-03-03T1{}:00Z,planned,\n"
    head = "id,issued_at,from,until,status,reason\n"
    assert len(read(head + row.format(0) * 2, params("outages")).outages) == 1
    assert "'a' twice with one time of issue" in refusal(
        head + row.format(0) + row.format(1), params("outages")
    )
    assert "an unknown column" in refusal("id,from,until,untill\n", params("outages"))


# Answers in the form that the providers' own pages document.
START = int(NOW.timestamp()) - 3600
OPEN_METEO: dict[str, Any] = {
    "latitude": 36.1, "longitude": -79.95, "generationtime_ms": 0.1, "utc_offset_seconds": 0,
    "hourly_units": {
        "time": "unixtime", "shortwave_radiation": "W/m²", "temperature_2m": "°C", "cloud_cover": "%",
    },
    "hourly": {
        "time": [START + 3600 * n for n in range(4)],
        "shortwave_radiation": [400.0, 500.0, None, 600.0],
        "temperature_2m": [10.0, 11.0, 12.0, 13.0],
        "cloud_cover": [20, 30, 40, 50],
    },
}  # fmt: skip
AWATTAR: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "start_timestamp": (START + 3600 * n) * 1000,
            "end_timestamp": (START + 3600 * (n + 1)) * 1000,
            "marketprice": price,
            "unit": "Eur/MWh",
        }
        for n, price in enumerate([42.09, -5.12, 102.49])
    ],
}
ENERGY_CHARTS = {
    "license_info": "CC BY 4.0", "unix_seconds": [START + 900 * n for n in range(4)],
    "price": [94.87, 90.31, None, 86.19], "unit": "EUR / MWh", "deprecated": False,
}  # fmt: skip
PROVIDED = """
  sky: {kind: weather, provider: open_meteo, url: 'https://api.open-meteo.com/v1/forecast'}
  day: {kind: price, provider: awattar, url: 'https://x.example/p', import: {factor: 1.2, add_per_kwh: 0.1}}
  too: {kind: price, provider: energy_charts, url: 'https://x.example/q', export: {}}
"""


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputParams]:
    """Inputs with the shipped providers, of a site whose money is EUR."""
    plant = site_with(tmp_path_factory.mktemp("site"), PROVIDED, currency="EUR")
    return {p.provider.name: p for p in plant.inputs}


def test_open_meteo_answer_radiation_is_of_the_hour_before_its_time(of: dict[str, InputParams]):
    version = read(json.dumps(OPEN_METEO), of["open_meteo"])
    ghi, air, cloud = (version.series[n] for n in ("ghi_w_m2", "temp_air_degc", "cloud_ratio"))
    assert ghi.start == datetime.fromtimestamp(START - 3600, UTC)
    assert air.start == datetime.fromtimestamp(START, UTC)
    np.testing.assert_allclose(ghi.values, [400.0, 500.0, np.nan, 600.0])
    np.testing.assert_allclose(cloud.values, [0.2, 0.3, 0.4, 0.5])
    assert not version.issued_told
    assert version.issued_at == NOW


def test_awattar_and_energy_charts_answers_are_per_kwh(of: dict[str, InputParams]):
    version = read(json.dumps(AWATTAR), of["awattar"])
    np.testing.assert_allclose(version.series["spot_per_kwh"].values, [0.04209, -0.00512, 0.10249])
    assert version.series["spot_per_kwh"].step_s == 3600.0
    version = read(json.dumps(ENERGY_CHARTS), of["energy_charts"])
    np.testing.assert_allclose(version.series["spot_per_kwh"].values, [0.09487, 0.09031, np.nan, 0.08619])
    assert version.series["spot_per_kwh"].step_s == 900.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hourly_units": {**OPEN_METEO["hourly_units"], "shortwave_radiation": "J/m²"}}, "allowed: 'W/m²'"),
        ({"hourly_units": {**OPEN_METEO["hourly_units"], "time": "iso8601"}}, "allowed: 'unixtime'"),
        ({"hourly": {**OPEN_METEO["hourly"], "cloud_cover": [1]}}, "cloud_cover: found 1 values; allowed: 4"),
        ({"hourly": []}, "/hourly/time: found nothing; allowed: a list"),
        ({"hourly": {**OPEN_METEO["hourly"], "time": [True, 1, 2, 3]}}, "seconds since 1970"),
    ],
)  # fmt: skip
def test_answer_that_is_not_what_the_provider_documents_is_refused(
    of: dict[str, InputParams], change: dict, said: str
):
    assert said in refusal(json.dumps({**OPEN_METEO, **change}), of["open_meteo"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<html>busy</html>", "body: found"),
        ('{"data": [], "data": []}', "a key comes twice"),
        ('{"data": [NaN]}', "NaN is no number of JSON"),
        ('{"data": {}}', "/data: found a record; allowed: a list of records"),
        ('{"data": [3]}', "row 1: found a number; allowed: a record"),
        ('{"data": [{"marketprice": 1}]}', "row 1: found no start_timestamp"),
        ("[" * 100_000, "body: found"),
    ],
)
def test_answer_that_is_no_json_of_the_form_is_refused(of: dict[str, InputParams], body: str, said: str):
    assert said in refusal(body, of["awattar"])


def test_record_with_another_unit_is_refused_by_its_row(of: dict[str, InputParams]):
    body = {"data": [{**row, "unit": "Eur/kWh"} if n == 1 else row for n, row in enumerate(AWATTAR["data"])]}
    assert "row 2, unit: found 'Eur/kWh'; allowed: 'Eur/MWh'" in refusal(json.dumps(body), of["awattar"])


def test_same_content_in_other_bytes_has_the_same_hash(of: dict[str, InputParams]):
    given = of["open_meteo"]
    one = read(json.dumps(OPEN_METEO), given)
    two = read(json.dumps({**OPEN_METEO, "generationtime_ms": 0.7}), given)
    assert one.sha256 != two.sha256
    assert content_sha256(one) == content_sha256(two)


def test_half_a_character_in_a_reason_can_be_kept_and_printed(of: dict[str, InputParams]):
    given = params("outages")
    columns = OutageColumns(id="id", start="from", end="until", reason="why")
    json_given = replace(given, provider=replace(given.provider, body="json", outage=columns))
    row = {"id": "a\ud800", "from": "2026-03-03T10:00Z", "until": "2026-03-03T11:00Z", "why": "\udfff works"}
    (found,) = read(json.dumps([row]), json_given).outages
    assert (found.id, found.reason) == ("a?", "? works")
