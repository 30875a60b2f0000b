"""Does what the historian recorded agree with what the simulated plant's own meters counted?"""

from cli.day import DayRun
from connectors.historian.energy import integrate
from connectors.historian.sqlite import SqliteHistoryReader
from ems.points import point_id
from sim.result import RunResult

LIMIT_RATIO = 0.005


def historian_check(day: DayRun, result: RunResult) -> list[str]:
    """One sentence: the largest difference in energy between historian and counters, and where it is."""
    counters, s = result.counters, day.scenario
    reader = SqliteHistoryReader(day.directory / "history.sqlite")
    meters = {(day.site.grid.id, "import"): counters.import_kwh}
    meters |= {(p, "PV"): kwh for p, kwh in counters.pv_kwh.items()}
    meters |= {(g, "genset"): kwh for g, kwh in counters.genset_kwh.items()}
    meters |= {
        (f, "served load"): kwh - counters.unserved_kwh.get(f, 0.0) for f, kwh in counters.demand_kwh.items()
    }
    turned_kwh = sum(counters.demand_kwh.values())
    rows = []
    for (asset, word), counted_kwh in meters.items():
        recorded = integrate(reader, point_id(asset, "p_kw"), s.start, s.end).positive_kwh
        ratio = abs(recorded - counted_kwh) / max(counted_kwh, 0.01 * turned_kwh)
        rows.append((ratio, f"{asset} ({word}): {recorded:.1f} against {counted_kwh:.1f} kWh"))
    ratio, text = max(rows)
    verdict = "agrees with" if ratio <= LIMIT_RATIO else "DIFFERS from"
    return [f"The historian {verdict} the plant's own meters within {ratio:.2%}; furthest apart is {text}."]
