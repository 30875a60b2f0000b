"""The section `inputs` of a site file, and providers of a site's own."""

import re
import textwrap
from pathlib import Path

import pytest

from ems.errors import ConfigError
from ems.inputs import Certainty, InputKind
from ems.site_schema import files_of
from ems.site_schema.providers import known_providers, read_provider, shipped_folder
from tests.unit.connectors.inputs_here import DEMO, site_with

GOOD = """
  market:
    kind: price
    provider: ours
    url: https://prices.example.org/day?zone=1
    token_file: secrets/market
    every_s: 30 min
    age_s_max: 30 h
    ahead_s_min: 8 h
    price_min_per_kwh: -500 USD/MWh
    price_max_per_kwh: 2
    import: {factor: 1.2, add_per_kwh: 0.11}
    export: {add_per_kwh: -0.01}
  sky: {kind: weather, provider: open_meteo, url: 'http://127.0.0.1:8000/v1'}
  sheds: {kind: outages, folder: inbox, certainty_min: possible, complete: true, mains_back_s: 10 min}
"""
OURS = """
provider: ours
source: https://prices.example.org/help
kind: price
body: json
rows: /rows
time: {at: from, zone: America/New_York, step_s: 1 h}
issued: /published
columns: {spot_per_kwh: {at: value, unit: USD/MWh}}
expect: {/currency: USD}
"""


def test_inputs_of_a_site_file_are_read_with_their_own_providers(tmp_path: Path):
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "ours.yaml").write_text(OURS)
    market, sky, sheds = site_with(tmp_path, GOOD).inputs
    assert (market.kind, market.every_s, market.age_s_max, market.protection) == (
        InputKind.PRICE, 1800.0, 108000.0, "verified",
    )  # fmt: skip
    assert (market.price_min_per_kwh, market.price_max_per_kwh) == (-0.5, 2.0)
    assert market.import_terms is not None
    assert (market.import_terms.factor_ratio, market.import_terms.add_per_kwh) == (1.2, 0.11)
    (column,) = market.provider.columns
    assert (column.scale, column.unit) == (0.001, "USD/kWh")
    assert str(market.provider.zone) == "America/New_York"
    assert (sky.protection, sky.every_s, sky.age_s_max, sky.aged_out) == ("plain", 900.0, 43200.0, True)
    assert (sheds.certainty_min, sheds.complete, sheds.every_s) == (Certainty.POSSIBLE, True, 10.0)
    assert sheds.age_s_max is None
    assert "providers/ours.yaml" in files_of(tmp_path / "site.yaml"), "it is signed and kept as maps are"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {kind: price}", "inputs.a.url: found neither `folder` nor `url`"),
        ("a: {kind: price, folder: x, url: 'https://x.example'}", "found both `folder` and `url`"),
        ("a: {kind: price, folder: x}\n  b: {kind: weather, folder: x}", "another folder than that of 'a'"),
        ("a: {kind: price, url: 'ftp://x.example'}", "allowed: https://host/path"),
        ("a: {kind: price, url: 'https://[x'}", "allowed: https://host/path"),
        ("a: {kind: price, url: 'https://a..b/x'}", "allowed: https://host/path"),
        ("a: {kind: price, url: 'https://x.example/ä'}", "other letters as %C3%A4"),
        ("a: {kind: price, url: 'https://x.example/a b'}", "other letters as %C3%A4"),
        ("a: {kind: price, url: 'https://x.example/', auth_header: 'X: Y'}", "such as X-Api-Key"),
        ("a: {kind: price, url: 'https://x.example/', auth_scheme: ä}", "a word such as Bearer"),
        ("a: {kind: price, url: 'https://u:p@x.example/'}", "found a user in it"),
        ("a: {kind: price, url: 'http://x.example/'}", "or protection: plain"),
        ("a: {kind: price, url: 'http://x.example/', protection: plain, token_env: T}", "in the open"),
        ("a: {kind: price, url: 'https://x.example/', protection: plain}", "found plain, with https"),
        ("a: {kind: price, url: 'https://x.example/', token_env: T, token_file: t}", "or token_env"),
        ("a: {kind: price, url: 'https://x.example/', every_s: 5}", "30 s or more with `url`"),
        ("a: {kind: price, folder: x, ca: x.pem}", "inputs.a.ca: found a value; allowed: nothing"),
        ("a: {kind: weather, folder: x, price_max_per_kwh: 1}", "nothing with kind: weather"),
        ("a: {kind: price, folder: x, complete: true}", "inputs.a.complete: found a value"),
        ("a: {kind: price, folder: x, price_min_per_kwh: 1, price_max_per_kwh: 1}", "more than price_min"),
        ("a: {kind: price, folder: x, provider: awatar}", "did you mean 'awattar'?"),
        ("a: {kind: price, provider: open_meteo, folder: x}", "inputs.a.kind: found price; allowed: weather"),
        ("a: {kind: price, provider: awattar, folder: x, import: {}}", "spot_per_kwh in EUR/MWh"),
        ("a: {kind: price, provider: awattar, folder: x}", "a.import: found nothing; allowed: `import`"),
        ("a: {kind: prices, folder: x}", "inputs.a.kind: found 'prices'"),
        ("a: {kind: price, folder: x, agee_s_max: 1}", "did you mean 'age_s_max'?"),
    ],
)  # fmt: skip
def test_input_that_cannot_work_is_refused_with_line_found_and_allowed(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError) as caught:
        site_with(tmp_path, f"  {text}\n")
    assert said in str(caught.value)
    assert "site.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("provider: ours", "provider: others", "allowed: 'ours' (the name of its file)"),
        ("/rows", "rows", "allowed: a JSON pointer such as /data"),
        ("America/New_York", "America/Old_York", "an IANA time zone"),
        ("{at: from,", "{at: from, form: dd.mm,", "a form of strptime"),
        ("body: json\nrows: /rows", "body: csv\nrows: /rows", "nothing with csv"),
        ("body: json\nrows: /rows", "body: csv\nshape: columns", "records with body: csv"),
        ("rows: /rows", "shape: columns", "a JSON pointer to a list"),
        ("spot_per_kwh:", "spot_per_mwh:", "one of spot_per_kwh, import_per_kwh"),
        ("kind: price", "kind: outages", "where the parts of an announcement stand"),
        ("columns: {spot_per_kwh: {at: value, unit: USD/MWh}}\n", "", "where each series stands"),
        ("USD/MWh", "kW", "is a unit of active power"),
    ],
)
def test_provider_that_cannot_work_is_refused(tmp_path: Path, old: str, new: str, said: str):
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "ours.yaml").write_text(OURS.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        site_with(tmp_path, "  a: {kind: price, provider: ours, folder: x, import: {}}\n")
    assert said in str(caught.value)


def test_examples_of_the_page_are_right(tmp_path: Path):
    page = (DEMO.parents[1] / "docs" / "inputs.md").read_text()
    section, provider = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "regional.yaml").write_text(provider)
    more = "  own: {kind: price, provider: regional, folder: x, import: {}}\n"
    found = site_with(tmp_path, section.split("inputs:\n")[1] + more, currency="EUR").inputs
    assert [p.provider.name for p in found] == ["awattar", "open_meteo", "", "regional"]


@pytest.mark.parametrize("name", known_providers(Path("nowhere")))
def test_shipped_provider_is_right_and_says_where_it_was_looked_up(name: str):
    document, form = read_provider(shipped_folder() / f"{name}.yaml")
    assert not document.problems
    assert form is not None
    assert form.source.startswith("https://")


def test_csv_of_a_utility_with_words_of_its_own(tmp_path: Path):
    (tmp_path / "providers").mkdir()
    text = """
        provider: grid
        source: the utility's letter of 2026-01-09
        kind: outages
        body: csv
        delimiter: ;
        time: {form: "%d.%m.%Y %H:%M", zone: Europe/Vienna}
        outage: {id: Nr, from: Von, until: Bis, status: Art, words: {geplant: planned, abgesagt: cancelled}}
    """
    (tmp_path / "providers" / "grid.yaml").write_text(textwrap.dedent(text))
    (one,) = site_with(tmp_path, "  a: {kind: outages, provider: grid, folder: x}\n").inputs
    assert one.provider.outage is not None
    assert one.provider.outage.words == {"geplant": "planned", "abgesagt": "cancelled"}
