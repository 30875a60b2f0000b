"""What `ems commission` asks about and what it says is checked by hand."""

import pytest

from cli.commission_ask import _agreed, _ask, _by_hand
from ems.errors import EmsError
from ems.site_schema import load_site
from tests.scenarios.commissioning import changed
from tests.scenarios.conftest import DEMO

PV = "pv1.p_limit_kw"
WORN = changed(load_site(DEMO), PV, writes_per_day=24)
WHY = "its register wears out, writes_per_day 24: never probed"


class Yes:
    """An engineer who says yes to everything."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def input(self, text: str) -> str:
        self.asked.append(text)
        return "y"


def test_consent_to_a_register_that_wears_out_is_refused_with_why():
    with pytest.raises(EmsError, match="writes_per_day 24"):
        _agreed(WORN, [PV])
    assert _agreed(load_site(DEMO), [PV]) == [PV]


def test_register_that_wears_out_is_not_asked_about_and_what_is_said_of_it_is_why():
    console = Yes()
    assert "bess1.p_set_kw" in _ask(console, WORN)  # type: ignore[arg-type]
    assert not any(PV in x for x in console.asked)
    assert f"not moved ({WHY}): {PV}; check by hand, then --accept POINT=how" in _by_hand(WORN, {})


def test_what_somebody_vouches_for_is_not_listed_as_left_to_do():
    assert any(PV in x for x in _by_hand(WORN, {}))
    assert not any(PV in x for x in _by_hand(WORN, {PV: "at its panel"}))
    assert not any(PV in x for x in _by_hand(load_site(DEMO), {}))
