"""`ems listen`: what is said on a wire where everybody is told and nobody asks."""

import argparse

from ems.errors import EmsError

HELP = """Listen to GOOSE (IEC 61850) on a network interface, or to J1939 on a CAN interface or a serial
adapter (slcan), and list who says what, as a site file names it, with the last values. Nothing is sent.
GOOSE takes the capability CAP_NET_RAW. An adapter that the running EMS holds is refused. Exit code 0:
something was heard; 1: nothing; 2: refused."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("what", choices=("goose", "j1939"), help="goose or j1939")
    parser.add_argument("where", help="interface, such as eth1 or can0; j1939: or /dev/ttyACM0")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for how long [s] (10)")
    parser.add_argument("--only", default="", metavar="TEXT", help="control blocks, PGNs that hold this text")
    parser.add_argument("--bitrate", type=int, default=250000, help="of a serial adapter (250000)")


def run(args: argparse.Namespace) -> int:
    """Listen and print."""
    if not 0.0 < args.seconds <= 86400.0:
        raise EmsError(f"--seconds: found {args.seconds:g}; allowed: more than 0, up to 86400 s")
    if args.what == "j1939":
        return _j1939(args.where, args.bitrate, args.seconds, args.only)
    return _goose(args.where, args.seconds, args.only)


def _j1939(where: str, bitrate: int, for_s: float, only: str) -> int:
    from connectors.j1939.listen import Tally, described, listen
    from connectors.link import LinkError
    from ems.j1939 import BITRATES

    if bitrate not in BITRATES:
        raise EmsError(f"--bitrate: found {bitrate}; allowed: {', '.join(map(str, BITRATES))}")
    tally = Tally()
    try:
        listen(where, bitrate, for_s, tally, lambda: False)
    except LinkError as error:
        raise EmsError(str(error)) from None
    except KeyboardInterrupt:
        pass
    lines = list(described(tally, only))
    print("\n".join(lines))
    return 0 if lines else 1


def _goose(interface: str, for_s: float, only: str) -> int:
    from connectors.iec61850.package import package_fault
    from connectors.link import LinkError

    if fault := package_fault():
        raise EmsError(f"GOOSE {fault}")
    from connectors.iec61850.goose_listen import Tally, described, listen

    tally = Tally({})
    try:
        listen(interface, for_s, tally, lambda: False)
    except LinkError as error:
        raise EmsError(f"{interface}: {error}") from None
    except KeyboardInterrupt:
        pass
    found = [h for h in tally.blocks.values() if only in h.message.control_block]
    for heard in sorted(found, key=lambda h: (h.message.control_block, h.source)):
        m = heard.message
        print(f"{m.control_block}  from {heard.source}")
        print(f"  app_id {heard.app_id:#06x}, destination {heard.destination}, conf_rev {m.conf_rev}")
        print(f"  go_id {m.go_id}, data_set {m.data_set}, timeAllowedToLive {m.alive_s:g} s")
        marks = ["SIMULATED"] * m.is_simulated + ["ndsCom"] * m.needs_commissioning
        counted = f"{heard.messages} messages, {heard.changes} changes, stNum {m.state}, sqNum {m.sequence}"
        print("  " + ", ".join([counted, *marks]))
        for index, value in enumerate(m.values):
            print("\n".join(f"  {index:>3} {line}" for line in described(value)))
    if tally.malformed or tally.more:
        print(f"{tally.malformed} frames that are none, {tally.more} of more control blocks than are kept")
    return 0 if found else 1
