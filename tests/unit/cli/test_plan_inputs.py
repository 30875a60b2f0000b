"""What a plan's page and the operator's screen say of inputs from elsewhere."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from cli.operator_screen import input_lines
from cli.plan_inputs import inputs_beside
from cli.plan_page import plan_html
from connectors.inputs.store import InputStore
from ems.inputs import Certainty, InputLook
from ems.plan import Plan
from ems.prices import use_of
from ems.records import StatusRow
from ems.site import Site
from tests.builders import site
from tests.unit.api.fakes import NOW, plan
from tests.unit.forecasting.knowing import Known, outage
from tests.unit.forecasting.test_inputs import one

HOUR = timedelta(hours=1)
AT = NOW - timedelta(minutes=5)  # when the plan of the fakes was issued, an hour long


def plant() -> Site:
    return replace(site(), inputs=(one("price", age_s_max=7200.0), one("outages"), one("weather")))


def told() -> tuple[Known, Plan]:
    known = Known()
    version = known.add("price", AT - HOUR, NOW - HOUR, {"import_per_kwh": [0.5, 0.5, -0.1]})
    unsure = outage("y", AT - HOUR, AT - HOUR, certainty=Certainty.POSSIBLE, reason="<storm>")
    known.add("outages", AT - HOUR, AT, {}, outages=[outage("x", AT - HOUR, AT + HOUR / 2), unsure])
    return known, plan(inputs=(use_of(version, ["import_per_kwh"]),))


def figure(page: str, name: str) -> Any:
    drawn = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert drawn is not None
    return json.loads(drawn[1])[name]


def test_page_of_a_plan_says_of_each_input_what_it_was_and_draws_what_it_told(tmp_path: Path):
    known, made = told()
    beside = inputs_beside(
        plant(), made, known, tmp_path, ["outage outages.x was until then, the mains are not back"]
    )
    assert {x.params.id: (x.state, x.used) for x in beside.inputs} == {
        "price": ("fresh", ("import_per_kwh",)), "outages": ("overrun", ()), "weather": ("late", ()),
    }  # fmt: skip
    page = plan_html(plant(), made, None, beside)
    text = re.sub(r"<[^>]+>", "|", page)
    assert "late: nothing came yet" in text
    assert "prices of plans, of rules by the clock, and of the bill; here: import_per_kwh" in text
    assert "60 min" in text
    assert "&lt;storm&gt;" in json.dumps(figure(page, "told")), "what others write is text"
    drawn = go.Figure(figure(page, "told"))
    assert [t.name for t in drawn.data] == ["export, nobody told it: the tariff's", "import, told"]
    assert set(drawn.data[1].y) == {0.5}
    assert len(drawn.layout.shapes) == 2


def test_page_of_a_plan_without_inputs_has_no_such_section():
    page = plan_html(site(), plan(), None)
    assert "Inputs from elsewhere" not in page
    assert "told" not in page.split('id="figures">')[1].split("</script>")[0]


def test_price_is_drawn_dotted_where_nobody_told_it(tmp_path: Path):
    known = Known()
    known.add("price", AT - HOUR, NOW, {"import_per_kwh": [0.5]}, step_s=900.0)
    beside = inputs_beside(plant(), plan(), known, tmp_path, [])
    traces = {t["name"]: t for t in figure(plan_html(plant(), plan(), None, beside), "told")["data"]}
    assert traces["import, told"]["y"][1:4] == [0.5, 0.5, None], "it holds to the end of its quarter"
    assert traces["import, nobody told it: the tariff's"]["line"]["dash"] == "dot"


def test_looks_that_failed_are_known_of_a_store(tmp_path: Path):
    store = InputStore(tmp_path)
    store.tell(InputLook(input="outages", at=AT - HOUR / 60, outcome="failed", detail="nobody listens there"))
    store.close()
    beside = inputs_beside(plant(), plan(), Known(), tmp_path, [])
    assert {x.params.id: x.state for x in beside.inputs}["outages"] == "failed"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"kind": "price", "version": 7, "issued_at": "2026-03-02T11:00:00+00:00", "age_s": 3600.0},
            "input one: price, version 7, issued 2026-03-02 11:00 UTC, 60 min old",
        ),
        (
            {"kind": "weather", "version": None, "late": "nothing came yet", "failed": "nobody\nlistens"},
            "input one: weather, nothing came yet; LATE: nothing came yet; FAILED: nobody",
        ),
    ],
)
def test_operator_sees_a_line_for_each_input(fields: dict, line: str):
    rows = {"input_one": StatusRow(process="input_one", pid=1, at=NOW, fields=fields)}
    assert list(input_lines(rows)) == [line]
    rows["inputs"] = StatusRow(
        process="inputs", pid=1, at=NOW, fields={"overrun": "x was announced until then"}
    )
    assert list(input_lines(rows))[1:] == [
        "OUTAGE OVERRUNS: x was announced until then, the mains are not back"
    ]
