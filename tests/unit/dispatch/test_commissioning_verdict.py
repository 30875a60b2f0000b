"""What a probe that ended early is said to have shown: a nudge alone is no proof against a unit."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatch.commissioning.probe import Hop, Probe
from dispatch.commissioning.rows import Verdict
from dispatch.commissioning.verdict import judge

POINT = "bess1.p_set_kw"


def hop(asked: float, own_kw: float, poi_kw: float, **changes: Any) -> Hop:
    fields: dict[str, Any] = {
        "before": 0.0, "asked": asked, "value": asked, "read_back": asked, "expected_kw": asked,
        "own_kw": own_kw, "poi_kw": poi_kw, "others_kw": {}, "noise_kw": 0.4, "cut_short": False,
        "is_nudge": False,
    }  # fmt: skip
    return Hop(**(fields | changes))


def row(*hops: Hop, refused: str = "") -> tuple[Verdict, str]:
    probe = SimpleNamespace(point=POINT, hops=list(hops), refused=refused, bipolar=False, start=0.0)
    found = judge(cast(Probe, probe))
    return found.verdict, found.text


def test_nudge_after_which_the_edge_refused_is_not_held_against_the_unit():
    """Of 2.8 kW the POI saw -0.3: on a busy machine that was told as a wrong scale."""
    nudge = hop(2.8, 2.0, -0.3, is_nudge=True)
    assert row(nudge, refused="the edge refused it (stale)") == (
        Verdict.NOT_SHOWN,
        "not ended: the edge refused it (stale)",
    )


@pytest.mark.parametrize(
    ("kw", "said"), [(28.0, "ten times too much is done"), (40.0, "scale (kW for W) or word order")]
)
def test_nudge_that_goes_far_too_far_still_fails(kw, said):
    verdict, text = row(hop(2.8, kw, kw, is_nudge=True, cut_short=True))
    assert verdict is Verdict.FAIL
    assert said in text


def test_step_is_judged_beside_a_nudge_that_noise_hides():
    nudge = hop(2.8, 2.0, -0.3, is_nudge=True)
    assert row(nudge, hop(28.0, 28.0, 27.5))[0] is Verdict.PASS
    verdict, text = row(nudge, hop(28.0, -28.0, -28.0))
    assert verdict is Verdict.FAIL
    assert "sign of the setpoint" in text
