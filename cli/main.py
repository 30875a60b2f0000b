"""The command line `ems`: finds the sub-command, loads its module alone, and turns errors into plain text."""

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Protocol, cast

from ems.errors import EmsError

# name -> what it does, in one line; the module is cli.<name>, or that of MODULES where the name is a word of
# Python. Only the chosen one is ever imported.
COMMANDS: Mapping[str, str] = {
    "demo": "run a whole plant day, end to end, and write its report",
    "check": "check site files and report every problem at once",
    "runbook": "write what is deployed at a plant as one document",
    "families": "list device families, show what one knows, check one",
    "read": "read devices of a site file, finished or not, and show registers and values",
    "scan": "ask devices on the wire who they are; reads only",
    "browse": "list what an IEC 61850 device or DNP3 outstation holds, as a point map names it; reads only",
    "listen": "list what is said on a wire where nobody asks: GOOSE, J1939; sends nothing",
    "wire": "keep the bytes on the wire of a device of a running edge, for a while",
    "schema": "print the JSON Schema of a site file, for editors",
    "plan": "make one plan and print it",
    "simulate": "run a period on a virtual clock, with any controller",
    "soak": "run seeded episodes of random faults against the edge, with every oracle on",
    "commission": "commission a plant over the wire, or run the matrices on its simulated plant",
    "report": "write the HTML report of a stored run",
    "operator": "ask a running edge for a mode, a setpoint, a limit; see who commands what",
    "import": "take over the history of another historian, from CSV or by SQL",
    "run": "run the EMS against a site: in shadow, or writing where it was commissioned",
    "sign": "sign a site file or a record of commissioning; check who signed",
    "release": "let go of a running plant for work on its controllers, and take it back",
    "certificate": "make and trust the certificates of OPC UA connections",
    "inputs": "show prices, weather, forecasts and announced outages that came from elsewhere",
    "bill": "bill a month by what was measured, and say which prices it rests on",
    "historian": "show what the historian of a run holds, how large it is, and whether it is whole",
    "northbound": "show the registers of our own servers, how they do, what they refused",
    "utility": "show who we are to a utility's server, what it tells, what was refused",
    "alarms": "show the alarms of a running plant; acknowledge, reset, shelve them",
}
MODULES: Mapping[str, str] = {"import": "importing"}
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Command(Protocol):
    """What every module under `cli` that is a sub-command offers."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""
        ...


def available() -> dict[str, str]:
    """The sub-commands whose module is installed."""
    return {n: text for n, text in COMMANDS.items() if importlib.util.find_spec(_module(n)) is not None}


def _module(name: str) -> str:
    return f"cli.{MODULES.get(name, name)}"


def _version() -> str:
    try:
        return version("hybrid-ems")
    except PackageNotFoundError:
        return "(not installed)"


def _parser(chosen: str | None) -> tuple[argparse.ArgumentParser, Command | None]:
    parser = argparse.ArgumentParser(
        prog="ems", description="Energy management for hybrid plants: PV, batteries, gensets, weak grids."
    )
    parser.add_argument("--version", action="version", version=f"ems {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    command: Command | None = None
    for name, text in available().items():
        if name == chosen:
            command = cast(Command, importlib.import_module(_module(name)))
            command.configure(commands.add_parser(name, help=text, description=command.HELP))
        else:
            commands.add_parser(name, help=text)
    return parser, command


@contextmanager
def _terminated_as_interrupted() -> Iterator[list[int]]:
    """Let SIGTERM do what Ctrl-C does, so that whatever was begun is ended and no process stays behind.

    Gives the list in which it is noted.
    """
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):
            on_interrupt(number, frame)
        else:  # a shell script's "&" has Ctrl-C ignored
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one may say what a signal does
        yield told
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 good, 1 found something, 2 refused, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    with _terminated_as_interrupted() as told:
        code = _main(list(sys.argv[1:] if argv is None else argv))
    return EXIT_TERMINATED if told and code == EXIT_INTERRUPTED else code


def _main(arguments: list[str]) -> int:
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    try:
        parser, command = _parser(chosen)
        args = parser.parse_args(arguments)
        if command is None:
            parser.print_help()
            return EXIT_ERROR
        code = command.run(args)
        sys.stdout.flush()  # a reader that is gone is noticed here, not while the interpreter ends
        return code
    except EmsError as error:
        print(f"ems: {error}", file=sys.stderr)
        return EXIT_ERROR
    except BrokenPipeError:
        # The reader (head, less) is gone. Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        print(f"ems: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
