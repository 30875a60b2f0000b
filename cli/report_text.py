"""The sentences of a report. Each is computed from the runs and says the losses too."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from cli.report_data import ReportInput
from cli.result_table import Compared, number, result_rows
from ems.kpi import STORED_RULE, savings_split
from sim.result import GensetEvent, RunResult

# Rows that count as a loss when the EMS is worse; parts of a sum and what has no good direction are left out.
_COUNTED = (
    "Cost, all cash and stored energy",
    "Value of lost load",
    "Bus without voltage",
    "Peak import",
    "Renewable share",
    "PV curtailed",
    "Diesel",
    "Genset hours",
    "Genset starts",
    "Physics steps in violation",
)

LEAVES_OUT = (
    "Electrical events faster than a second: frequency and voltage transients, protection, harmonics, "
    "unbalance between phases. The transfer to the island is a fixed time.",
    "Losses inside the site: cables and transformers. All feeders and sources share one bus voltage.",
    "Ageing and temperature of the battery; its capacity and its losses stay what the site file says. "
    "Wear is shown, not paid.",
    "Temperature, altitude and maintenance of the gensets; their fuel curve is fixed, and the tank is filled "
    "up before it runs dry.",
    "Load that changes because it is shed or because prices change: what is not served is lost, not shifted.",
    "Loads that draw more when they are switched back on (inrush, cold-load pickup).",
    "Any cost of buying, financing, operating or licensing the plant or this software.",
)


def headline(data: ReportInput) -> str:
    """One true sentence or two: what the EMS cost against the better baseline, and where it lost."""
    ems, better = data.compared()[0], data.better()
    money = ems.costs.currency
    mine, theirs = ems.costs.total_with_voll_cost, better.costs.total_with_voll_cost
    text = (
        f"{_period(data)} at {data.site.name}, the EMS cost {money} {number(mine, 0)} with lost load valued "
        f"({number(ems.costs.total_cost, 0)} without), {_against(mine, theirs, money)} the better of "
        f"{len(data.baselines)} baseline{'s' if len(data.baselines) > 1 else ''}, {better.name} "
        f"({number(theirs, 0)} with, {number(better.costs.total_cost, 0)} without)."
    )
    lost = losses(ems, better)
    if lost:
        return f"{text} It did worse on {_join(lost)}."
    return f"{text} On no counted figure did it do worse."


def _period(data: ReportInput) -> str:
    zone = ZoneInfo(data.site.timezone)
    first, last = data.ems.start.astimezone(zone), data.ems.end.astimezone(zone)
    days = (last - first).total_seconds() / 86400.0
    if days <= 1.1:
        return f"On {first.day} {first:%B %Y}"
    return f"From {first.day} {first:%B %Y} on, over {number(days, 0)} days"


def _against(mine: float, theirs: float, money: str) -> str:
    difference = theirs - mine
    share = f" ({number(100.0 * abs(difference) / theirs, 1)} %)" if theirs > 0.0 else ""
    if abs(difference) < 0.005:
        return "exactly as much as"
    word = "less" if difference > 0.0 else "MORE"
    return f"{money} {number(abs(difference), 0 if abs(difference) >= 10 else 2)}{share} {word} than"


def losses(ems: Compared, rival: Compared) -> list[str]:
    """Figures on which the EMS did worse, each with both values."""
    out = []
    for row in result_rows((ems, rival)):
        mine, theirs = row.values
        counted = row.label in _COUNTED or row.label.startswith("Unserved")
        if counted and mine is not None and theirs is not None and row.best() == frozenset({1}):
            unit = f" {row.unit}" if row.unit else ""
            label = row.label[0].lower() + row.label[1:] if row.label[1].islower() else row.label
            out.append(f"{label} ({number(mine, row.digits)} against {number(theirs, row.digits)}{unit})")
    return out


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def savings_parts(ems: Compared, rival: Compared) -> list[tuple[str, float]]:
    """Where the money was saved, by cause; positive is saved [money]."""
    split = savings_split(rival.costs, ems.costs)
    parts = [
        ("energy and stored energy", split.energy_money),
        ("demand", split.demand_money),
        ("diesel", split.diesel_money),
        ("genset starts and hours", split.starts_money),
        ("lost load", split.voll_money),
    ]
    if abs(split.carbon_money) > 0.005:
        parts.append(("carbon", split.carbon_money))
    if abs(split.fixed_money) > 0.005:
        parts.append(("fixed charge", split.fixed_money))
    return [*parts, ("total", split.total_money)]


def genset_sentences(run: RunResult, timezone: str) -> list[tuple[str, str, str]]:
    """(local time, genset, sentence) of each start and stop."""
    zone = ZoneInfo(timezone)
    return [(local_text(e.at, zone), e.genset, _sentence(e)) for e in run.gensets]


def _sentence(event: GensetEvent) -> str:
    what = {"start": "came on load", "stop": "came off load", "locked_out": "locked itself out"}[event.kind]
    reason = event.reason.strip().rstrip(".")
    return (
        f"{event.genset} {what}: {reason}." if reason else f"{event.genset} {what}; no reason was recorded."
    )


def decided_sentence(run: RunResult) -> str:
    """Who decided, as shares of the time."""
    edge = run.edge
    if "source" not in edge.columns or not len(edge):
        return ""
    words = {
        "plan": "the plan",
        "last_plan": "the last plan",
        "rules": "its rules",
        "hold_safe": "the safe table",
    }
    codes, whole_s = edge.column("source"), float(edge.dt_s.sum())
    shares = [
        (words.get(name, name), 100.0 * float(edge.dt_s[codes == i].sum()) / whole_s)
        for i, name in enumerate(run.edge_sources)
    ]
    said = [f"{name} {number(share, 1)} %" for name, share in shares if share > 0.0]
    return f"The edge followed {_join(said)} of the time." if said else ""


def local_text(at: datetime, zone: ZoneInfo) -> str:
    """Local time of a moment, to the second."""
    return f"{at.astimezone(zone):%a %H:%M:%S}"


def footnotes(data: ReportInput) -> list[str]:
    """What must be said beside the table."""
    return [
        f"Stored energy: {STORED_RULE}.",
        "All figures are the plant simulator's own counters, added up at each physics step.",
        *(f"{c.name}: {note}" for c in data.compared() for note in c.run.notes),
        *data.remarks,
    ]
