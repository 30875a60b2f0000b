"""The runbook of a plant as Markdown: made from the site file alone, so the same files give the same text."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from cli.check import asset_lines, open_wires
from cli.markdown import table
from cli.runbook_wire import map_sections, wire_section
from dispatch.supervision.ladder import ladder_table
from ems.alarm_table import alarm_table
from ems.alarms import AlarmRow, Priority
from ems.assets import GensetParams, OnSilence
from ems.control_site import InterlockEffect
from ems.points import POINTS
from ems.silence import silent_value
from ems.site import SetpointAuthority, Site

MODES = ("grid_tied", "islanded", "black")


def runbook(site: Site, hashes: Mapping[str, str]) -> str:
    """The whole document.

    Parameters
    ----------
    hashes : SHA-256 of the site file and of its maps, by name.
    """
    parts = (
        _title(site, hashes),
        _plant(site),
        wire_section(site),
        map_sections(site),
        _written(site),
        _failing(site),
        _limits(site),
        _people(site),
        _alarms(site),
        _time(site),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _title(site: Site, hashes: Mapping[str, str]) -> Iterator[str]:
    h = site.hierarchy
    yield f"# Runbook: {h.organisation} / {h.portfolio} / {h.plant}"
    yield ""
    yield (
        f"Site `{site.name}`, {site.latitude_deg:g}, {site.longitude_deg:g}, {site.altitude_m:g} m, "
        f"{site.timezone}. Made by hybrid-ems {_version()} from the files below; whoever holds other files "
        "holds the runbook of another plant. Powers are positive into the site's AC bus; only demand "
        "counts the "
        "other way."
    )
    yield from table(("file", "SHA-256"), ((f"`{name}`", f"`{digest}`") for name, digest in hashes.items()))


def _version() -> str:
    try:
        return version("hybrid-ems")
    except PackageNotFoundError:
        return "(not installed)"


def _plant(site: Site) -> Iterator[str]:
    yield from ("", "## Plant")
    rows = [(f"`{site.hierarchy.path(i)}`", kind, text) for kind, i, text in asset_lines(site)]
    yield from table(("asset", "kind", "what it is"), rows)
    yield ""
    yield (
        f"The bus is formed beside the grid by {_then(site.forming.grid_tied)}, in an island by "
        f"{_then(site.forming.islanded)}, the first that can. Reserve in an island: "
        f"{100 * site.reserve.load_ratio:g} % of "
        f"the load and {100 * site.reserve.pv_ratio:g} % of the PV in use; beside the grid the feeders up "
        "to tier "
        f"{site.reserve.critical_tier} live through its sudden loss and {site.reserve.failed_starts} failed "
        f"start{'' if site.reserve.failed_starts == 1 else 's'} of a genset."
    )
    shed = sorted((f for f in site.feeders if f.has_breaker), key=lambda f: -f.tier)
    kept = [f.id for f in site.feeders if not f.has_breaker]
    yield ""
    never = ", ".join(f"`{f}`" for f in kept) or "none"
    yield f"Feeders are opened in the order {_then([f.id for f in shed])}; never: {never}."


def _written(site: Site) -> Iterator[str]:
    yield from ("", "## What the EMS may write")
    yield ""
    yield (
        "Nothing else is ever written, and nothing at all without `--write` and a record of commissioning "
        "that fits "
        "these files. Every bound below is narrowed further by what the devices, the utility and people tell."
    )
    device = {p.point: c.id for c in site.connections for p in c.points}
    worn = {p.point: p.writes_per_day for c in site.connections for p in c.points}
    rows = [
        (
            f"`{s.point}`",
            device.get(s.point, "none"),
            f"{s.low:g} to {_told(site, s.point, s.high)}",
            "free" if s.ramp_per_s is None else f"{s.ramp_per_s:g} a second",
            f"{s.deadband:g}",
            f"{s.refresh_s:g} s",
            worn.get(s.point) or "as needed",
        )
        for s in site.authority.setpoints.values()
    ]
    head = ("setpoint", "connection", "bounds", "ramp", "deadband", "refreshed", "writes a day at most")
    yield from table(head, rows)
    yield ""
    yield "The ramp binds moves away from the safe side alone; the protective direction is free."


def _failing(site: Site) -> Iterator[str]:
    yield from ("", "## What happens when something fails", "", "### The safe value of each setpoint", "")
    yield (
        "Written while the edge holds the plant safe, and as the last thing it does when it ends. *Hold*: "
        "it is not "
        "written. The last columns are what the device does by itself when everything of ours is dead."
    )
    rows = []
    for s in site.authority.setpoints.values():
        safe = (getattr(s.safety, mode) for mode in MODES)
        told = ["hold" if v is None else _told(site, s.point, v) for v in safe]
        after = s.safety.behaviour.timeout_s
        rows.append((f"`{s.point}`", *told, f"{after:g} s", _by_itself(site, s)))
    yield from table(
        ("setpoint", *(m.replace("_", " ") for m in MODES), "silent for", "then the device"), rows
    )
    yield from ("", "### Who decides", "")
    yield from ladder_table()
    starts = [(g.id, f"{g.start_delay_s:g} s", g.start_attempts, _mains_failure(g)) for g in site.gensets]
    yield from ("", "### Gensets")
    head = ("genset", "on load after", "attempts", "by itself when the mains fail")
    yield from table(head, starts)
    if cut := [f"- {kind} {line}" for kind, line in open_wires(site)]:
        yield from ("", "### Cut wires that nobody would notice", "", *cut)


def _by_itself(site: Site, authority: SetpointAuthority) -> str:
    if authority.safety.behaviour.on_silence is OnSilence.STOP:
        return "stops"
    value = silent_value(authority)
    return "keeps its last value" if value is None else f"goes to {_told(site, authority.point, value)}"


def _mains_failure(genset: GensetParams) -> str:
    return (
        f"starts after {genset.mains_failure_delay_s:g} s" if genset.mains_failure_start else "does nothing"
    )


def _limits(site: Site) -> Iterator[str]:
    control, grid = site.control, site.grid
    yield from ("", "## Limits, interlocks, emergency stop", "")
    yield (
        f"At the POI: import at most {grid.p_import_kw_max:g} kW, export at most {grid.p_export_kw_max:g} "
        "kW, with "
        f"{grid.poi_bias_kw:g} kW kept from both; with its meter lost, {grid.load_guaranteed_kw:g} kW of "
        "load are "
        "counted on."
    )
    yield from ("", "### Told by others")
    limits = [
        (
            f"`{u.id}`",
            u.kind.value,
            u.point or ", ".join(f"{c.point} closed: {c.cap_kw:g} kW" for c in u.contacts) or "messages",
            f"{u.watchdog_s:g} s",
            "its last value" if u.on_loss_kw is None else f"{u.on_loss_kw:g} kW",
        )
        for u in control.limits
    ]
    yield from table(("limit", "of", "told by", "lost after", "then, if tighter"), limits)
    yield from ("", "### Interlocks")
    locks = [
        (
            f"`{x.id}`",
            f"`{x.point}` {_outside(x.low, x.high)}",
            x.cause,
            "; ".join(f"`{e.point}`: {_effect(e)}" for e in x.effects),
        )
        for x in control.interlocks
    ]
    yield from table(("interlock", "trips when", "cause", "then"), locks)
    yield from ("", "### The emergency stop demands")
    demands = [(f"`{p}`", _told(site, p, v)) for p, v in control.emergency_stop.items()]
    yield from table(("setpoint", "value"), demands)


def _effect(effect: InterlockEffect) -> str:
    return "not written" if effect.blocks else f"{effect.low:g} to {effect.high:g}"


def _outside(low: float | None, high: float | None) -> str:
    parts = ([f"is below {low:g}"] if low is not None else []) + (
        [f"is above {high:g}"] if high is not None else []
    )
    return " or ".join(parts) + ", or is not read"


def _people(site: Site) -> Iterator[str]:
    control = site.control
    yield from ("", "## People")
    rows = [(user, ", ".join(sorted(r.value for r in roles))) for user, roles in control.users.items()]
    yield from table(("login", "may act as"), rows)
    if not rows:
        yield ""
        yield "Nobody is named in the site file: the edge does what nobody asks for."
    yield ""
    yield (
        f"The plant starts in `{control.start_mode.value}` when the edge has never run there. A setpoint "
        "of a person "
        f"expires after {control.setpoint_expiry_s / 3600:g} h at most; whoever takes over, values move "
        "within "
        f"{control.transfer_ramp_s:g} s over their span. See who commands what with `ems operator status`, "
        "let go of the "
        "plant with `ems release --why REASON`, take it back with `ems release --take-back`."
    )


def _alarms(site: Site) -> Iterator[str]:
    kinds = {k.value for k in site.asset_kinds().values()} | {"site", "device", "setpoint", "control"}
    rank = {priority: i for i, priority in enumerate(Priority)}
    rows: list[AlarmRow] = [r for r in alarm_table().values() if r.tag in kinds]
    rows.sort(key=lambda r: (rank[r.priority], r.respond_s, r.id))
    yield from ("", "## Alarms", "", "`ems alarms` shows those that stand. The most urgent first:")
    told = [
        (f"`{r.id}`", r.priority.value, f"{r.respond_s / 60:g} min", r.consequence, r.response) for r in rows
    ]
    yield from table(("alarm", "priority", "respond within", "otherwise", "do"), told)


def _time(site: Site) -> Iterator[str]:
    yield from ("", "## Time", "")
    yield (
        f"A cycle is due every {site.cycle_s:g} s of the machine's monotonic clock: setting the time of "
        "day moves none. "
        f"Records are in UTC; days, tariffs and schedules are those of {site.timezone}. Without a time of "
        "day that can be "
        "trusted nothing is done by the clock: the rules decide. Which stamp a value carries is said at its "
        "connection."
    )


def _told(site: Site, point: str, value: float) -> str:
    """A value with the unit of its point."""
    asset, _, name = point.partition(".")
    unit = next((s.unit for s in POINTS[site.kind_of(asset)] if s.name == name), "")
    return f"{value:g} {unit}".strip()


def _then(names: Sequence[str]) -> str:
    return ", then ".join(f"`{n}`" for n in names) or "nothing"
