"""`ems soak SITE`: many seeded episodes of random faults on random plants, with every oracle on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cli._period import seconds, seeds
from cli._sites import find_site
from ems.errors import EmsError
from ems.site_schema import load_site

if TYPE_CHECKING:
    from sim.episodes import EpisodeOptions

HELP = "run seeded episodes of random faults against the edge, with every oracle on"
EXIT_INTERRUPTED = 130
DAY_S = 86400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems soak`."""
    parser.add_argument(
        "site", help="name of a shipped site, or the path of a site file; plants are drawn like it"
    )
    parser.add_argument("--episodes", type=_count, default=20, help="episodes to run, from --first on (20)")
    parser.add_argument("--first", type=_count, default=0, help="seed of the first episode (0)")
    parser.add_argument("--seeds", type=seeds, help="run these seeds instead: 7, 1..20 or 1,5,9")
    parser.add_argument("--length", type=seconds, default=7200.0, help="plant time of an episode (2h)")
    parser.add_argument("--days", action="store_true", help="whole days instead: --length 24h")
    parser.add_argument("--step", type=seconds, default=1.0, help="cycle of the edge (1s)")
    parser.add_argument(
        "--beside", type=_count, default=1, help="faults beside the aimed one in each slot (1)"
    )
    parser.add_argument("--faults", type=_faults, default=(), help="only these, comma-separated")
    parser.add_argument(
        "--aims", type=_aims, default=(), help="aim at these alone: fault:grid_mode, comma-separated"
    )
    parser.add_argument(
        "--mattered",
        type=_count,
        default=0,
        help="fail unless each fault mattered so often where it claims; one that did has no twin any more",
    )
    parser.add_argument(
        "--counting", type=Path, help="folder of another soak: what mattered there counts for --mattered too"
    )
    parser.add_argument("--jobs", type=int, default=1, help="episodes side by side, in processes (1)")
    parser.add_argument("--out", type=Path, help="folder for one line per finished episode")
    parser.add_argument("--resume", action="store_true", help="leave out what --out has already")
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="run one seed and print its end, tick by tick"
    )
    parser.add_argument(
        "--again",
        type=_count,
        metavar="N",
        help="run N episodes of --out anew, spread over them; is the log of each the same on this code?",
    )
    parser.add_argument("--list", action="store_true", help="print the catalogue of faults")


def run(args: argparse.Namespace) -> int:
    """Run the episodes, print the table; 1 when an oracle did not hold, or a fault mattered too seldom."""
    from cli.soak_jobs import again, run_all, stored
    from cli.soak_table import print_again, print_catalogue, print_replay, print_short, print_table, short_of

    console = Console()
    if args.list:
        print_catalogue(console)
        return 0
    if (args.resume or args.again) and args.out is None:
        option = "--resume" if args.resume else "--again"
        raise EmsError(f"{option}: found no --out; allowed: the folder of the episodes to go on with")
    site_file, options = find_site(args.site), _options(args)
    if args.replay is not None:
        return print_replay(console, load_site(site_file), args.replay, options)
    if args.again:
        before, now, whole = again(
            site_file, options, console, workers=args.jobs, out=args.out, count=args.again
        )
        code = print_again(console, before, now)
        return code if whole else EXIT_INTERRUPTED
    wanted = args.seeds if args.seeds is not None else range(args.first, args.first + args.episodes)
    counted = () if args.counting is None else stored(args.counting)
    done, whole = run_all(
        site_file,
        wanted,
        options,
        console,
        workers=args.jobs,
        out=args.out,
        resume=args.resume,
        times=args.mattered,
        counted=counted,
    )
    print_table(console, done, options, replay=_replay(args))
    if not whole:
        return EXIT_INTERRUPTED
    short = short_of((*counted, *done), args.mattered, options.entries)
    if short:
        print_short(console, short, args.mattered)
    return 1 if short or any(r.violations for r in done) else 0


def _options(args: argparse.Namespace) -> EpisodeOptions:
    from sim.episodes import EpisodeOptions

    return EpisodeOptions(
        length_s=DAY_S if args.days else args.length,
        dt_s=args.step,
        beside=args.beside,
        entries=args.faults,
        aims=args.aims,
    )


def _replay(args: argparse.Namespace) -> str:
    """The command that replays a seed, but for the seed."""
    out = [f"ems soak {args.site}"]
    if args.days:
        out.append("--days")
    elif args.length != 7200.0:
        out.append(f"--length {args.length:g}s")
    out += [f"--step {args.step:g}s"] if args.step != 1.0 else []
    out += [f"--beside {args.beside}"] if args.beside != 1 else []
    out += [f"--faults {','.join(args.faults)}"] if args.faults else []
    out += [f"--aims {','.join(args.aims).replace('|', ':')}"] if args.aims else []
    return " ".join([*out, "--replay"])


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number, 0 or more")
    return int(text)


def _faults(text: str) -> tuple[str, ...]:
    from sim.faults import CATALOGUE

    names = tuple(n.strip() for n in text.split(","))
    wrong = [n for n in names if n not in CATALOGUE]
    if wrong:
        raise argparse.ArgumentTypeError(f"found {', '.join(wrong)}; allowed: {', '.join(sorted(CATALOGUE))}")
    return names


def _aims(text: str) -> tuple[str, ...]:
    from sim.episodes import CLAIMED

    keys = tuple(n.strip().replace(":", "|") for n in text.split(","))
    wrong = [k.replace("|", ":") for k in keys if k not in CLAIMED]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"found {', '.join(wrong)}; allowed: fault:grid_mode of a fault that claims it, see --list"
        )
    return keys
