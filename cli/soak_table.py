"""What a soak prints: totals, evaluations by oracle, faults by grid mode, violations with their replay."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ems.site import Site
from sim.episodes import EpisodeOptions, EpisodeResult, episode_of, run_episode
from sim.episodes.draw import MODES, aims_of
from sim.faults import CATALOGUE
from sim.oracles import ORACLES
from sim.rig import Rig

VIOLATIONS_MAX = 40
TAIL_ROWS = 12


def print_table(
    console: Console, done: Sequence[EpisodeResult], options: EpisodeOptions, *, replay: str
) -> None:
    """Print everything; `replay` is the command that replays a seed, without the seed."""
    _totals(console, done, options)
    _oracles(console, done)
    _faults(console, done)
    _violations(console, done, replay)


def _totals(console: Console, done: Sequence[EpisodeResult], options: EpisodeOptions) -> None:
    ticks, wall_s = sum(r.ticks for r in done), sum(r.wall_s for r in done)
    controllers = Counter(r.controller for r in done)
    table = Table(title="Soak", show_header=False)
    table.add_row("episodes", f"{len(done)} of {options.length_s / 3600.0:g} h, cycle {options.dt_s:g} s")
    table.add_row("controllers", ", ".join(f"{n} x {c}" for c, n in sorted(controllers.items())))
    table.add_row(
        "plans", "mpc: by the production planner beside the edge, a new one every 30 min or on request"
    )
    table.add_row("ticks", f"{ticks:,}")
    table.add_row("writes", f"{sum(r.writes for r in done):,}")
    table.add_row("faults injected", f"{sum(sum(r.injected.values()) for r in done):,}")
    if wall_s > 0.0:
        rate = ticks * options.dt_s / wall_s
        table.add_row("speed", f"{rate:,.0f} x real time on one core, oracles and twins included")
    table.add_row("violations", str(sum(len(r.violations) for r in done)))
    console.print(table)


def _oracles(console: Console, done: Sequence[EpisodeResult]) -> None:
    evaluated, excused = Counter[str](), Counter[str]()
    broken = Counter(oracle for r in done for _, oracle, _ in r.violations)
    for r in done:
        evaluated.update(r.evaluations)
        excused.update(r.excused)
    table = Table(title="Oracles")
    for name, justify in (
        ("", "left"),
        ("what must hold", "left"),
        ("evaluated", "right"),
        ("excused", "right"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("violated", justify="right")
    for o in ORACLES:
        table.add_row(o.id, o.says, f"{evaluated[o.id]:,}", f"{excused[o.id]:,}", f"{broken[o.id]:,}")
    table.add_row("tick", "the edge completes its cycle", "", "", f"{broken['tick']:,}")
    console.print(table)


def _faults(console: Console, done: Sequence[EpisodeResult]) -> None:
    injected, compared, mattered = Counter[str](), Counter[str](), Counter[str]()
    for r in done:
        injected.update(r.injected)
        compared.update(r.compared)
        mattered.update(r.mattered)
    table = Table(
        title="Faults: injected / had a twin without it / differed from it: setpoint, alarm or mode"
    )
    table.add_column("fault", no_wrap=True)
    for mode in MODES:
        table.add_column(str(mode), justify="right")
    for name, entry in CATALOGUE.items():
        if any(injected[f"{name}|{m}"] for m in MODES):
            table.add_row(
                name, *(_cell(f"{name}|{m}", injected, compared, mattered, m in entry.modes) for m in MODES)
            )
    console.print(table)


def short_of(done: Sequence[EpisodeResult], times: int, entries: Sequence[str] = ()) -> dict[str, int]:
    """How often each fault mattered in a grid mode that it claims, where that is less than `times`."""
    mattered = Counter[str]()
    for r in done:
        mattered.update(r.mattered)
    wanted = [e for e in CATALOGUE.values() if not entries or e.name in entries]
    keys = [f"{entry.name}|{mode}" for entry, mode in aims_of(wanted)]
    return {key: mattered[key] for key in keys if mattered[key] < times}


def print_short(console: Console, short: Mapping[str, int], times: int) -> None:
    """Which faults mattered too seldom, and where."""
    console.print(f"mattered less than {times} times: {len(short)} of the pairs of fault and grid mode")
    for key, count in sorted(short.items(), key=lambda item: item[1]):
        console.print(f"  {key.replace('|', ', ')}: {count}", markup=False)


def _cell(
    key: str, injected: Counter[str], compared: Counter[str], mattered: Counter[str], claimed: bool
) -> str:
    text = f"{injected[key]} / {compared[key]} / {mattered[key]}"
    return text if claimed else f"({text})" if injected[key] else "-"


def _violations(console: Console, done: Sequence[EpisodeResult], replay: str) -> None:
    failing = [r for r in done if r.violations]
    for r in failing[:VIOLATIONS_MAX]:
        t_s, oracle, evidence = r.violations[0]
        console.print(
            f"seed {r.seed} ({r.controller}; {r.plant}): {len(r.violations)} violations, first at {t_s:g} s, "
            f"{oracle}: {evidence}",
            markup=False,
            soft_wrap=True,
        )
        console.print(f"  {replay} {r.seed}", markup=False, soft_wrap=True)
    if len(failing) > VIOLATIONS_MAX:
        console.print(f"... and {len(failing) - VIOLATIONS_MAX} more seeds")


def print_replay(console: Console, base: Site, seed: int, options: EpisodeOptions) -> int:
    """Run one seed; print its plant, its faults, the rows before each kind of violation, what was found."""
    episode = episode_of(base, seed, options)
    s = episode.site
    console.print(
        f"seed {seed}: {episode.controller}; {len(s.bess)} bess, {len(s.gensets)} gensets, {len(s.pv)} pv; "
        f"import {s.grid.p_import_kw_max:g} kW, export {s.grid.p_export_kw_max:g} kW; "
        f"mains away {episode.mains}",
        soft_wrap=True,
    )
    for f in sorted(episode.faults, key=lambda f: f.from_s):
        console.print(f"  {f.from_s:7.0f} to {f.until_s:7.0f} s  {f.kind} {f.target}", markup=False)
    shown: set[str] = set()

    def look(rig: Rig) -> None:
        fresh = [v for v in rig.violations if v.oracle not in shown and v.t_s >= rig.t_s - 2.0 * rig.dt_s]
        if fresh:
            shown.update(v.oracle for v in fresh)
            _tail(console, rig)
            for v in fresh:
                console.print(f"  {v.t_s:g} s  {v.oracle}: {v.evidence}", markup=False, soft_wrap=True)

    result = run_episode(episode, twins=False, each=look)
    assert result is not None
    console.print(f"{result.ticks} ticks, {result.writes} writes, {len(result.violations)} violations")
    console.print(f"log {result.digest}")
    return 1 if result.violations else 0


def _tail(console: Console, rig: Rig) -> None:
    """The last rows before now."""
    for row in list(rig.log)[-TAIL_ROWS:]:
        d, f = row.decisions, row.flows
        sent = ", ".join(f"{c.point}={c.value:.1f} ({c.cause})" for c in row.commands)
        console.print(
            f"  {row.t_s:7.0f} s  {d.mode}, {d.source}; grid {f.grid_p_kw:.0f}, "
            f"bess {_sum(f.bess_p_kw)}, gensets {_sum(f.genset_p_kw)}, pv {_sum(f.pv_p_kw)}, "
            f"load {_sum(f.feeder_p_kw)} kW; {sent}",
            markup=False,
            soft_wrap=True,
        )


def _sum(powers: Mapping[str, float]) -> str:
    return f"{sum(powers.values()):.0f}"


def print_again(console: Console, before: Sequence[EpisodeResult], now: Sequence[EpisodeResult]) -> int:
    """Say which episodes have another log than the stored one; 1 when there are any."""
    pairs = list(zip(before, now, strict=True))
    other = [(old, new) for old, new in pairs if old.digest != new.digest]
    for old, new in other:
        console.print(f"seed {new.seed}: log {old.digest[:12]} before, {new.digest[:12]} now", markup=False)
    console.print(f"{len(pairs) - len(other)} of {len(pairs)} episodes have the log that is stored")
    return 1 if other else 0


def print_catalogue(console: Console) -> None:
    """Every fault, what it does, where."""
    table = Table(title="Faults")
    for name in ("fault", "layer", "hits", "grid modes", "what it does"):
        table.add_column(name, no_wrap=name == "fault")
    for e in CATALOGUE.values():
        kinds = ", ".join(e.kinds) if e.kinds else "the plant"
        table.add_row(e.name, str(e.layer), kinds, ", ".join(m for m in MODES if m in e.modes), e.does)
    console.print(table)
