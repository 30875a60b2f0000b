"""`dispatch.rules`: thresholds in the windows of the batteries, given or scaled; what contradicts itself."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cli.check import summary
from cli.tuned import site_block, thresholds_text, tuned_options
from connectors.stores.permit import sections
from dispatch.controllers.build import follower_of, rules_of, rules_params, rules_tou_of
from dispatch.controllers.rules_tou import RulesTou
from ems.errors import ConfigError
from ems.rules import (
    RulesParams,
    TouParams,
    Window,
    fitted,
    fitted_all,
    fitted_tou,
    into_window,
    soc_faults,
)
from ems.site import Site
from ems.site_schema import load_site, site_json_schema
from sim.steps import SIMULATE_STEPS
from sim.tune import load_tuned
from tests.builders import battery, bess, site

GOOD = Path(__file__).parent / "broken_sites"
WHOLE, NARROW = ("10 %", "95 %"), ("20 %", "60 %")
DEMO = Path(__file__).resolve().parents[3] / "sites" / "demo" / "site.yaml"


@pytest.fixture
def loaded(tmp_path: Path):
    def load(rules: str, window: tuple[str, str] = WHOLE) -> Site:
        if not (tmp_path / "maps").exists():
            (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text()
        for key, new, old in (("soc_min", window[0], "10 %"), ("soc_max", window[1], "95 %")):
            text = text.replace(f"{key}: {old}", f"{key}: {new}", 1)
        if window == NARROW:
            for key, new in (("soc_taper_low", "25 %"), ("soc_taper_high", "55 %"), ("above_soc", "50 %")):
                text = re.sub(rf"{key}: [0-9.]+ ?%?", f"{key}: {new}", text, count=1)
        (tmp_path / "site.yaml").write_text(f"{text}\ndispatch: {{rules: {rules}}}\n")
        return load_site(tmp_path / "site.yaml")

    return load


def test_rules_left_out_are_the_defaults_of_before():
    """Numbers that sites, demo and recorded soak logs rest on."""
    demo = load_site(DEMO)
    assert demo.rules is None
    params = rules_params(demo)
    assert params == TouParams(base=RulesParams())
    p = params.base
    assert (p.soc_floor, p.soc_recharge, p.grid_charge_ratio) == (0.40, 0.50, 0.3)
    assert (p.soc_start, p.soc_stop, p.load_start_ratio, p.load_stop_ratio) == (0.25, 0.65, 0.85, 0.60)
    assert (p.genset_load_ratio, p.charge_with_genset, p.genset_prime, p.confirm_s) == (
        0.80,
        True,
        False,
        10.0,
    )
    assert (params.charge_soc, params.discharge_soc, params.mid_soc) == (0.80, 0.40, 0.60)
    assert (params.peak_soc, params.outage_soc, params.outage_lead_h) == (0.25, 0.90, 6.0)
    assert (params.charge_price_share, params.discharge_price_share) == (0.25, 0.75)
    assert (params.charge_power_ratio, params.peak_shave_kw) == (0.4, None)
    for b in demo.bess:
        assert fitted_tou(params, b.battery) is params
        assert fitted(p, b.battery) is p


def test_rules_given_reach_every_controller(loaded):
    given = loaded(
        "{soc_start: 30 %, soc_stop: 0.7, genset_prime: true, confirm_s: 1 min, tou: {outage_soc: 0.8}}"
    )
    assert given.rules == TouParams(
        base=RulesParams(soc_start=0.3, soc_stop=0.7, genset_prime=True, confirm_s=60.0), outage_soc=0.8
    )
    assert rules_of(given).params is given.rules.base
    assert rules_tou_of(given).params is given.rules
    assert follower_of(given).fallback == RulesTou(params=given.rules)


def test_rules_absent_section_and_one_without_thresholds_take_any_window(loaded):
    assert loaded("{genset_prime: true}", NARROW).rules is not None


def test_rules_scaled_into_a_window_keep_their_places():
    narrow = battery(soc_min=0.2, soc_max=0.6)
    p = fitted(RulesParams(), narrow)
    assert (p.soc_start, p.soc_stop) == pytest.approx((0.2 + 0.15 / 0.85 * 0.4, 0.2 + 0.55 / 0.85 * 0.4))
    assert (p.soc_floor, p.soc_recharge) == (0.40, 0.50)  # their group fits as it is
    tou = fitted_tou(TouParams(), narrow)
    assert tou.outage_soc == pytest.approx(0.2 + 0.8 / 0.85 * 0.4)
    assert tou.base.soc_floor == tou.discharge_soc == pytest.approx(0.2 + 0.3 / 0.85 * 0.4)
    assert tou.base.soc_start == p.soc_start


@pytest.mark.parametrize(
    ("low", "high", "start"), [(0.3, 0.95, 0.3 + 0.15 / 0.85 * 0.65), (0.25, 0.95, None), (0.05, 0.65, 0.25)]
)
def test_rules_minimum_at_or_above_the_start_is_scaled(low, high, start):
    expected = low + 0.15 / 0.85 * (high - low) if start is None else start
    assert fitted(RulesParams(), battery(soc_min=low, soc_max=high)).soc_start == pytest.approx(expected)


@pytest.mark.parametrize("low", [0.0, 0.1, 0.35, 0.6, 0.9])
@pytest.mark.parametrize("width", [0.03, 0.1, 0.4, 1.0])
def test_rules_defaults_fit_every_window(low, width):
    window = Window("bess1", low, min(1.0, low + width))
    own = battery(soc_min=window.low, soc_max=window.high)
    p = fitted_tou(TouParams(), own)
    assert window.low < p.base.soc_start < p.base.soc_stop <= window.high
    assert window.low <= p.base.soc_floor < p.base.soc_recharge <= window.high
    assert all(
        window.low <= soc <= window.high
        for soc in (p.charge_soc, p.discharge_soc, p.mid_soc, p.peak_soc, p.outage_soc)
    )
    assert fitted_all(TouParams(), [window]) == p


def test_rules_of_batteries_without_a_common_window_are_left_to_each():
    windows = [Window("bess1", 0.1, 0.4), Window("bess2", 0.5, 0.9)]
    assert fitted_all(TouParams(), windows) == TouParams()
    assert into_window(0.525, 0.1, 0.4) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("rules", "window", "key", "found", "allowed"),
    [
        ("{soc_start: 0.1}", WHOLE, "soc_start", "0.1", "more than soc_min of bess1, 0.1"),
        ("{soc_start: 0.7}", WHOLE, "soc_start", "0.7", "less than soc_stop, 0.65"),
        ("{soc_stop: 0.96}", WHOLE, "soc_stop", "0.96", "up to its soc_max, 0.95"),
        ("{soc_start: 0.3}", NARROW, "soc_stop", "0.65", "up to its soc_max, 0.6"),
        ("{soc_floor: 0.05}", WHOLE, "soc_floor", "0.05", "from soc_min of bess1, 0.1"),
        ("{soc_floor: 0.5}", WHOLE, "soc_floor", "0.5", "less than soc_recharge, 0.5"),
        ("{tou: {outage_soc: 1}}", WHOLE, "tou.outage_soc", "1", "up to its soc_max, 0.95"),
        ("{tou: {peak_soc: 5 %}}", WHOLE, "tou.peak_soc", "0.05", "from soc_min of bess1, 0.1"),
        ("{load_stop_ratio: 0.8}", WHOLE, "load_stop_ratio", "0.8", "less than load_start_ratio"),
        ("{genset_load_ratio: 0.2}", WHOLE, "genset_load_ratio", "0.2", "the minimum load of gen1"),
        (
            "{tou: {charge_price_share: 0.8}}", WHOLE, "tou.charge_price_share", "0.8",
            "less than discharge_price_share, 0.75",
        ),
    ],
)  # fmt: skip
def test_rules_that_contradict_are_refused_with_file_key_and_value(
    loaded, rules, window, key, found, allowed
):
    with pytest.raises(ConfigError) as caught:
        loaded(rules, window)
    mine = [p for p in caught.value.problems if p.key == f"dispatch.rules.{key}"]
    assert len(mine) == 1, str(caught.value)
    assert Path(mine[0].file).name == "site.yaml"
    assert mine[0].line is not None
    assert mine[0].found == found
    assert allowed in mine[0].allowed


def test_rules_default_that_does_not_go_with_what_is_given_is_said_to_be_left_out(loaded):
    with pytest.raises(ConfigError, match="left out"):
        loaded("{soc_start: 0.3}", NARROW)


@pytest.mark.parametrize(
    "rules", ["{soc_stat: 0.3}", "{soc_start: 1.3}", "{genset_prime: 1}", "{confirm_s: -1}"]
)
def test_rules_of_a_wrong_form_are_refused(loaded, rules):
    with pytest.raises(ConfigError, match=r"dispatch\.rules\."):
        loaded(rules)


def test_genset_prime_without_a_genset_is_refused(tmp_path):
    (tmp_path / "maps").symlink_to(DEMO.parent / "maps")
    text = DEMO.read_text()
    head, rest = text.split("\ngensets:\n", 1)
    lines = rest.splitlines()
    ends = next(i for i, line in enumerate(lines) if line and not line.startswith((" ", "#")))
    rules = "dispatch: {rules: {genset_prime: true}}"
    (tmp_path / "site.yaml").write_text("\n".join([head, rules, *lines[ends:]]))
    with pytest.raises(ConfigError, match=r"dispatch\.rules\.genset_prime"):
        load_site(tmp_path / "site.yaml")


def test_rules_are_in_the_schema_for_editors():
    text = json.dumps(site_json_schema())
    assert '"RulesForm"' in text
    assert all(f'"{name}"' in text for name in ("genset_prime", "soc_start", "soc_recharge", "outage_soc"))


def test_rules_are_told_by_the_check(loaded):
    lines = [line for line in summary(loaded("{genset_prime: true}", NARROW)) if "rules" in line]
    assert "genset prime in an island (given)" in lines[0]
    assert "bess1: gensets start at SoC 0.27 and stop at 0.46" in lines[1]


def test_rules_need_no_new_commissioning(loaded):
    plain = loaded("{}")
    assert sections(plain) == sections(replace(plain, rules=TouParams(outage_soc=0.8)))


def test_block_of_a_search_is_taken_by_the_site_file(loaded, tmp_path):
    found = load_tuned(DEMO.parent / "baselines.json").tou
    text = site_block(replace(found, peak_shave_kw=320.0), loaded("{}"))
    good = (GOOD / "good.yaml").read_text()
    (tmp_path / "pasted.yaml").write_text(f"{good}\n{text}\n")
    assert load_site(tmp_path / "pasted.yaml").rules == replace(found, peak_shave_kw=320.0)


def test_block_leaves_out_what_no_number_tells_for_all_batteries():
    two = (bess(), replace(bess(), id="bess2", battery=battery(soc_min=0.1, soc_max=0.5)))
    text = site_block(TouParams(), replace(site(), bess=two))
    assert "soc_s" not in text
    assert "outage_soc" not in text
    assert "genset_prime: false" in text


def test_thresholds_of_the_site_file_go_before_those_of_a_search(tmp_path):
    plain = load_site(DEMO)
    given = replace(plain, rules=TouParams(outage_soc=0.7))
    assert thresholds_text(DEMO, given) == "dispatch.rules of the site file"
    assert "baselines.json" in thresholds_text(DEMO, plain)
    assert thresholds_text(tmp_path / "site.yaml", plain) == "defaults"
    assert tuned_options(DEMO, given, steps=SIMULATE_STEPS).tou is None
    tuned = load_tuned(DEMO.parent / "baselines.json")
    options = tuned_options(DEMO, plain, steps=SIMULATE_STEPS)
    assert (options.rules, options.tou) == (tuned.rules, tuned.tou)


def test_faults_of_thresholds_are_those_of_the_first_battery_that_they_do_not_fit():
    windows = [Window("bess1", 0.1, 0.95), Window("bess2", 0.3, 0.95), Window("bess3", 0.4, 0.9)]
    faults = list(soc_faults(TouParams(), windows, ["soc_start"]))
    assert [f.allowed for f in faults] == ["more than soc_min of bess2, 0.3, up to its soc_max, 0.95"]
