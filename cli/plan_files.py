"""A plan as files: JSON with its columns named, CSV, and a page with figures. The form has a version.

`plan.json` holds the whole of it; `plan.csv` is the table of its steps with one header line; the meaning,
unit and sign of each column are in `plan.columns.csv` and in the JSON.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from cli.plan_inputs import InputsBeside
from ems.errors import DataError
from ems.explanation import Explanation
from ems.plan import Plan
from ems.site import Site

SCHEMA, SCHEMA_VERSION = "ems-plan", 1
INTO_THE_BUS = "positive into the site's bus"
DEMAND = "positive is demand"
NONE = "none"
Values = tuple[float | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column of the table of steps means."""

    name: str
    unit: str
    sign: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """What plan.json holds. Sequences of the plan have one entry per step, in the order of `step_starts`."""

    schema: str
    schema_version: int
    currency: str
    timezone: str
    step_starts: tuple[datetime, ...]
    columns: tuple[Column, ...]
    plan: Plan
    forecast_repairs: tuple[str, ...]
    explanation: Explanation | None


def table(site: Site, plan: Plan) -> list[tuple[Column, Values]]:
    """The steps of a plan, column by column; each name is `<asset>_<quantity>_<unit>`."""
    out: list[tuple[Column, Values]] = []

    def put(name: str, unit: str, sign: str, meaning: str, values: Iterable[float | str]) -> None:
        out.append((Column(name=name, unit=unit, sign=sign, meaning=meaning), tuple(values)))

    put("start_utc", "ISO 8601", NONE, "start of the step", (t.isoformat() for t in plan.grid.starts()))
    put("step_s", "s", NONE, "length of the step; powers are means over it", plan.grid.step_s)
    put("grid_mode", "", NONE, "mode of the bus the plan assumes", (str(m) for m in plan.grid_mode))
    put("forming", "", NONE, "asset that forms the bus", plan.forming)
    price = f"{site.currency}/kWh"
    put("import_per_kwh", price, "positive is paid", "energy price of import", plan.import_per_kwh)
    put("grid_p_kw", "kW", INTO_THE_BUS, "import, negative export", plan.grid_p_kw)
    power = (INTO_THE_BUS, "planned power")
    groups: tuple[tuple[str, str, str, str, Mapping[str, tuple[float, ...]]], ...] = (
        ("load_kw", "kW", DEMAND, "demand expected", plan.load_kw),
        ("shed_kw", "kW", DEMAND, "demand that is not served", plan.shed_kw),
        ("work_kw", "kW", DEMAND, "demand of a deferrable device, as planned", plan.deferrable_kw),
        ("available_kw", "kW", INTO_THE_BUS, "power the sun offers", plan.pv_available_kw),
        ("p_kw", "kW", *power, plan.pv_p_kw),
        ("p_kw", "kW", INTO_THE_BUS, "discharge, negative charge", plan.bess_p_kw),
        ("soc_end", "1", NONE, "state of charge at the end of the step, 0 to 1", plan.bess_soc_end),
        ("on", "1", NONE, "1 on load, 0 off; between them only where relaxed", plan.genset_on),
        ("p_kw", "kW", *power, plan.genset_p_kw),
    )
    for suffix, unit, sign, meaning, by_asset in groups:
        for asset, values in by_asset.items():
            put(f"{asset}_{suffix}", unit, sign, meaning, values)
    for asset, values in {**plan.bess_q_kvar, **plan.pv_q_kvar, **plan.genset_q_kvar}.items():
        put(f"{asset}_q_kvar", "kvar", INTO_THE_BUS, "planned reactive power", values)
    if plan.grid_q_kvar:
        put("grid_q_kvar", "kvar", INTO_THE_BUS, "reactive power drawn from the grid", plan.grid_q_kvar)
        put("poi_v_pu", "1", NONE, "expected voltage at the interconnection, per unit", plan.poi_v_pu)
    if plan.contingency:
        put("contingency", "", NONE, "the contingency with the least margin", plan.contingency)
        lost, cover = plan.contingency_lost_kw, plan.contingency_cover_kw
        put("contingency_lost_kw", "kW", INTO_THE_BUS, "what it would take away", lost)
        put("contingency_cover_kw", "kW", INTO_THE_BUS, "what the rest can give", cover)
        put("contingency_by", "", NONE, "by which sources", plan.contingency_by)
    for what, values in (
        ("required", plan.reserve_up_required_kw),
        ("held", plan.reserve_up_held_kw),
        ("short", plan.reserve_up_short_kw),
    ):
        put(f"reserve_up_{what}_kw", "kW", INTO_THE_BUS, f"upward reserve {what}", values)
    return out


def write_files(
    folder: Path,
    site: Site,
    plan: Plan,
    repairs: tuple[str, ...],
    explanation: Explanation | None,
    beside: InputsBeside | None = None,
) -> list[Path]:
    """Write plan.json, plan.csv, plan.columns.csv and plan.html; the paths written.

    `beside`: how inputs from elsewhere did when the plan was made, for the page.
    """
    from cli.plan_page import plan_html

    folder.mkdir(parents=True, exist_ok=True)
    columns = table(site, plan)
    paths = [folder / name for name in ("plan.json", "plan.csv", "plan.columns.csv", "plan.html")]
    paths[0].write_bytes(_ADAPTER.dump_json(plan_file(site, plan, repairs, explanation), indent=2))
    _write(paths[1], [c.name for c, _ in columns], zip(*[v for _, v in columns], strict=True))
    _write(paths[2], ["name", "unit", "sign", "meaning"], (asdict(c).values() for c, _ in columns))
    paths[3].write_text(plan_html(site, plan, explanation, beside), encoding="utf-8")
    return paths


def plan_file(site: Site, plan: Plan, repairs: tuple[str, ...], explanation: Explanation | None) -> PlanFile:
    """What goes into plan.json."""
    return PlanFile(
        schema=SCHEMA,
        schema_version=SCHEMA_VERSION,
        currency=site.currency,
        timezone=site.timezone,
        step_starts=tuple(plan.grid.starts()),
        columns=tuple(c for c, _ in table(site, plan)),
        plan=plan,
        forecast_repairs=repairs,
        explanation=explanation,
    )


def plan_json_schema() -> dict[str, object]:
    """JSON Schema of plan.json."""
    out: dict[str, object] = json.loads(json.dumps(_ADAPTER.json_schema(mode="serialization")))
    return out


def read_plan_file(path: Path) -> PlanFile:
    """Read a plan.json of this version.

    Raises
    ------
    DataError : another form or version.
    """
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = (raw.get("schema"), raw.get("schema_version")) if isinstance(raw, dict) else (None, None)
    if found != (SCHEMA, SCHEMA_VERSION):
        raise DataError(
            f"{path}: schema, schema_version: found {found[0]}, {found[1]}; "
            f"allowed: {SCHEMA}, {SCHEMA_VERSION}"
        )
    return _ADAPTER.validate_python(raw)


def _write(path: Path, head: list[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(head)
        writer.writerows(rows)


_ADAPTER = TypeAdapter(PlanFile)
