"""`ems run SITE`: edge, planner and service against a site file, in shadow, or writing where commissioned."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cli._sites import find_site
from cli._uncertainty import add_uncertainty_options, uncertainty_of
from cli.day import STOP_ORDER
from cli.process_config import ProcessConfig, write_config
from cli.sign import TRUST
from cli.small_files import with_room
from cli.supervisor import ChildSpec, Supervisor
from cli.writing_permit import kept_copy, vouched
from connectors.historian.live import LiveHistory
from connectors.problems import connection_problems
from connectors.sqlite_file import StoreError
from connectors.stores.commissioning import read_record
from connectors.stores.permit import require_commissioned
from ems.clock import TIMESYNC, synchronised, wall_s, wall_sleep
from ems.errors import ConfigError, EmsError, Problem
from ems.northbound_names import servers
from ems.site import Site
from ems.site_schema import load_site

HELP = """Run the EMS against a site. In shadow it reads, plans and decides, and writes nothing to any device.
With --write it commands the plant, if the whole site was commissioned as it is now (ems commission), and site
file and record are signed by people who are trusted with it (ems sign)."""
SILENT_S = 180.0  # a planner that gives no sign of life for so long hangs; a plan takes a third of it at most
MODULES = {
    "edge": "cli.edge_process",
    "planner": "cli.planner_process",
    "api": "cli.api_process",
    "telemetry": "cli.telemetry_process",
    "northbound": "cli.northbound_process",
    "utility": "cli.utility_process",
    "archive": "cli.archive_process",
    "inputs": "cli.inputs_process",
}
REPORT_S = 10.0
EXPLAIN_H_MAX = 24.0
CYCLE_S_MIN, CYCLE_S_MAX = 0.1, 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems run`."""
    add = parser.add_argument
    add("site", help="name of a shipped site, or the path of a site file")
    add("--dir", type=Path, default=Path("ems-data"), help="folder of historian, plans and logs (ems-data)")
    add("--write", action="store_true", help="command the plant; needs the record of its commissioning")
    add("--record", type=Path, help="that record (commissioning.json in --dir)")
    add("--trust", type=Path, help=f"folder of the public keys that may vouch for site and record ({TRUST})")
    add(
        "--unsigned",
        action="store_true",
        help="with --write: command the plant though nobody vouches for its files",
    )
    add("--api-port", type=int, default=8080, help="port of the service on 127.0.0.1 (8080)")
    add("--cycle", type=float, help="length of the control cycle [s] (that of the site file)")
    add_uncertainty_options(parser)
    add("--explain", type=float, default=2.0, metavar="HOURS",
        help="how far ahead each plan is explained, for the page and the service (2); 0: not")  # fmt: skip
    add("--utc", choices=("kernel", "trusted"), default="trusted",
        help="kernel: nothing is done by the clock unless it says that its clock is synchronised; trusted: "
        "whatever it shows (trusted)")  # fmt: skip
    add("--minutes", type=float, help="stop after so long (default: at Ctrl-C)")


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C."""
    path = find_site(args.site)
    site = load_site(path)
    refuse_without_connections(site, str(path))
    if refused := connection_problems(site):
        raise ConfigError([replace(p, file=str(path)) for p in refused])
    if args.record is not None and not args.write:
        raise EmsError("--record: only with --write; in shadow nothing is written")
    record = None
    if args.write:
        record = (args.dir / "commissioning.json" if args.record is None else args.record).resolve()
        require_commissioned(record, read_record(record), site)
    trust = trusted_folder(args, write=record is not None)
    if record is not None and trust is not None:
        vouched(path, record, trust)
    uncertainty_of(args)  # refuses what the planner would
    console = Console()
    args.dir.mkdir(parents=True, exist_ok=True)
    config = ProcessConfig(
        site=with_room(args.dir.resolve(), lambda folder: kept_copy(path, folder)),
        site_folder=path.parent.resolve(),
        directory=args.dir.resolve(),
        shadow=record is None,
        record=record,
        trust=trust,
        ask_kernel=args.utc == "kernel",
        cycle_s=cycle_length(args.cycle, site),
        api_port=args.api_port,
        scenarios=0 if args.scenarios is None else args.scenarios,
        outage_scenarios=args.outage_scenarios,
        cvar_weight_ratio=args.cvar,
        cvar_level_ratio=args.cvar_level,
        quantile_ratio=args.quantile,
        explain_h=explain_hours(args.explain),
        historian=site.historian,
    )
    said = "shadow: nothing is written to any device"
    if record is not None:
        said = f"writing to {site.name}, as commissioned in {record}"
        said += ", UNSIGNED: nobody vouches for these files" if trust is None else ""
    if args.utc == "kernel" and (why := unsynchronised()):
        console.print(why, soft_wrap=True)
    console.print(f"{said}; http://127.0.0.1:{args.api_port}/; Ctrl-C ends it", soft_wrap=True)
    seconds = None if args.minutes is None else 60.0 * args.minutes
    asyncio.run(_run(config, console, seconds, without=without(site)))
    return 0


def unsynchronised() -> str:
    """Why nothing is done by the clock now, and what to do about it; "": it is synchronised."""
    told = synchronised()
    if told:
        return ""
    if told is None:
        return (
            "--utc kernel: nobody says whether the clock is synchronised: the kernel may not be asked, and "
            f"systemd-timesyncd has left no {TIMESYNC}. No plan is followed. Run systemd-timesyncd; with "
            "chrony, ntpd or PTP add the drop-in of docs/modes.md (Who says that the clock is right); start "
            "with --utc trusted where somebody keeps it right by hand"
        )
    return (
        "--utc kernel: the clock is not synchronised. No plan is followed until it is: see timedatectl or "
        "chronyc tracking; start with --utc trusted where nothing synchronises it and somebody keeps it right"
    )


def without(site: Site) -> list[str]:
    """Processes that this site has no use for."""
    used = {
        "telemetry": bool(site.links),
        "northbound": bool(servers(site)),
        "utility": bool(site.utilities),
        "inputs": bool(site.inputs),
    }
    return [name for name, wanted in used.items() if not wanted]


def trusted_folder(args: argparse.Namespace, *, write: bool) -> Path | None:
    """Keys whose signatures are asked for; None: nobody's. Needed to write, unless that is waived in words.

    In shadow they are asked for, and told, where there is such a folder.
    """
    if args.unsigned and not write:
        raise EmsError("--unsigned: only with --write; in shadow nothing is written")
    if args.unsigned and args.trust is not None:
        raise EmsError("--unsigned: found --trust too; allowed: one of them")
    if args.unsigned or (args.trust is None and not write and not TRUST.is_dir()):
        return None
    return (TRUST if args.trust is None else args.trust).resolve()


def cycle_length(value: float | None, site: Site) -> float:
    """Checked: what was asked for, or what the site file says [s]."""
    if value is not None and not CYCLE_S_MIN <= value <= CYCLE_S_MAX:
        raise EmsError(f"--cycle: found {value:g}; allowed: {CYCLE_S_MIN:g} to {CYCLE_S_MAX:g} s")
    return site.cycle_s if value is None else value


def explain_hours(value: float) -> float:
    """Checked: from 0 to the 24 h in which commitment is whole."""
    if not 0.0 <= value <= EXPLAIN_H_MAX:
        raise EmsError(f"--explain: found {value:g}; allowed: 0 to {EXPLAIN_H_MAX:g} h")
    return value


def refuse_without_connections(site: Site, file: str) -> None:
    """A site that is only simulated cannot be run.

    Raises
    ------
    ConfigError : there is no connection.
    """
    if not site.connections:
        problem = Problem(
            file=file, line=None, key="connections", found="none", allowed="one for each device"
        )
        raise ConfigError([problem])


async def _run(
    config: ProcessConfig, console: Console, seconds: float | None, *, without: Sequence[str] = ()
) -> None:
    path = with_room(config.directory, lambda folder: write_config(config, folder / "process.json"))
    supervisor, stop = Supervisor(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks: list[asyncio.Task[None]] = []
    try:
        for name in [n for n in MODULES if n not in without]:
            log = config.directory / f"{name}.log"
            sign = config.planner_sign if name == "planner" else None
            supervisor.start(
                ChildSpec(
                    name=name, module=MODULES[name], config=path, log=log, sign=sign, silent_s_max=SILENT_S
                )
            )
        tasks = [
            asyncio.create_task(supervisor.watch()),
            asyncio.create_task(_report(config, console, supervisor)),
        ]
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        console.print("time is up")
    finally:  # whatever broke on the way: no process of the plant goes on with nobody over it
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await supervisor.stop(STOP_ORDER)


async def _report(config: ProcessConfig, console: Console, supervisor: Supervisor) -> None:
    """One line every ten seconds, and at once when the source of decisions or a trouble changes."""
    reader = LiveHistory(config.directory)
    shown, at_s = "", 0.0
    while True:
        now, line = _state_line(reader, supervisor)
        if line and (now != shown or wall_s() - at_s > REPORT_S):
            shown, at_s = now, wall_s()
            with contextlib.suppress(OSError):  # a terminal that has gone away ends nothing
                console.print(line)
        await wall_sleep(0.5)


def _state_line(reader: LiveHistory, supervisor: Supervisor) -> tuple[str, str]:
    """(what is worth a line when it changes, the line); nothing before the edge has told anything."""
    if supervisor.unstarted:
        now = "; ".join(f"{name} cannot be started: {why}" for name, why in supervisor.unstarted.items())
        return now, now
    try:
        row = reader.statuses().get("edge")
    except StoreError as error:
        return str(error), str(error)
    if row is None:
        return "", ""
    now = f"{row.fields['mode']} by {row.fields['source']}"
    alarms = row.fields["alarms"]
    return now, f"{row.at:%H:%M:%S} UTC {now}, plan {row.fields['plan_id']}, alarms {alarms}"
