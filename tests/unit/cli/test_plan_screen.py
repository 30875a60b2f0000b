"""A plan in the terminal."""

import io
from dataclasses import replace

from rich.console import Console

from cli.plan_screen import show
from tests.unit.optimizer.posing import Pose, feeder, ideal_bess, small_genset, small_site


def test_a_plan_can_be_read_in_eighty_columns_and_says_each_thing_once():
    gensets = [small_genset("gen1"), small_genset("gen2")]
    site = small_site(bess=[ideal_bess()], gensets=gensets, feeders=[feeder("load", 10.0)])
    pose = Pose(site=site, load_kw={"load": 320.0}, import_per_kwh=[0.09, 0.16, 0.28, 0.16])
    plan = replace(pose.plan(), notes=("load: no history", "another"))
    out = io.StringIO()
    show(Console(file=out, width=80), site, plan, ("load: no history",))
    text = out.getvalue()
    assert all(price in text for price in ("0.090", "0.160", "0.280"))
    steps = text[text.index("plan of") : text.index("objective")]
    assert "\u2026" not in steps
    assert steps.count("tied") == 4
    assert text.count("note: load: no history") == 1
    assert "note: another" in text
