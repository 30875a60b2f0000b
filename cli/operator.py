"""`ems operator`: ask a running edge for a mode, a setpoint, a limit, and see who commands what."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from cli.operator_desk import Outcome, ask_edge, edge_row
from cli.operator_screen import show_answer, show_status
from connectors.historian.live import LiveHistory
from ems.control import ControlMode
from ems.control_site import LimitKind
from ems.errors import BadValue, EmsError
from ems.requests import (
    Ask,
    Bypass,
    Confirm,
    Operate,
    Release,
    ReleaseHeldSafe,
    Select,
    SetLimit,
    SetSetpoint,
    SwitchMode,
    TellLimit,
)
from ems.units import parse_quantity

HELP = """Ask a running edge for something, or see who commands what. Who you are is your login, as owner of
the file that is handed in; what you may is in the site file (control.users). Exit codes: 0 done, 1 refused,
2 not asked, 3 waits for a second person, 4 no answer."""
CHOSEN = tuple(m.value for m in ControlMode if m is not ControlMode.LOCAL)  # local is a switch at the device
NONE = "none"
Parser = argparse.ArgumentParser


def configure(parser: Parser) -> None:
    """Add the arguments: one sub-command for each thing that may be asked."""
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True, title="acts")
    for name, (text, add) in ACTS.items():
        one = acts.add_parser(name, help=text, description=text)
        add(one)
        one.add_argument("--dir", type=Path, default=Path("ems-data"), help="folder of the plant (ems-data)")
        if name != "status":
            one.add_argument("--why", default="", help="the reason, for the record")


def run(args: argparse.Namespace) -> int:
    """Show, or ask and print the answer."""
    reader = LiveHistory(args.dir)
    if args.act == "status":
        return show_status(reader, args.dir)
    outcome: Outcome = ask_edge(reader, args.dir, ask_of(args), why=args.why, session=session())
    shadow = edge_row(reader, args.dir).fields.get("shadow") is True
    return show_answer(outcome, args.dir, shadow=shadow)


def session() -> str:
    """The login session: what is selected in one is operated in the same."""
    return f"sid{os.getsid(0)}"


def ask_of(args: argparse.Namespace) -> Ask:
    """What the arguments ask for.

    Raises
    ------
    EmsError : a number or a time is none.
    """
    match args.act:
        case "mode":
            return SwitchMode(device=args.device, mode=ControlMode(args.mode), for_s=_for_s(args))
        case "set":
            return SetSetpoint(point=args.point, value=_value(args, args.point), for_s=_for_s(args))
        case "release":
            return Release(point=args.point)
        case "limit":
            value = None if args.value == NONE else _value(args, args.subject)
            return SetLimit(
                subject=args.subject, value=value, break_glass=args.break_glass, for_s=_for_s(args)
            )
        case "bypass":
            for_s = _for_s(args)
            assert for_s is not None, "argparse asks for it"
            return Bypass(interlock=args.interlock, for_s=for_s, break_glass=args.break_glass)
        case "confirm":
            return Confirm(proposal=args.token)
        case "select":
            return Select(point=args.point, value=_value(args, args.point))
        case "operate":
            return Operate(token=args.token)
        case "tell":
            return TellLimit(limit=args.limit, value_kw=_number(args.value, "kW", "VALUE"))
        case "resume":
            return ReleaseHeldSafe()
    raise EmsError(f"ems operator: {args.act!r} is nothing to ask for")


def _for_s(args: argparse.Namespace) -> float | None:
    return None if args.length is None else _number(args.length, "s", "--for")


def _value(args: argparse.Namespace, about: str) -> float:
    """A value in the unit of a setpoint or a limit; both say in their name when it is kW."""
    name = about.removesuffix(".low").removesuffix(".high")
    is_kw = name.endswith("_kw") or name in {k.value for k in LimitKind}
    return _number(args.value, "kW" if is_kw else "", "VALUE")


def _number(text: str, unit: str, key: str) -> float:
    try:
        return parse_quantity(text, unit)
    except BadValue as error:
        allowed = f"a number, with or without a unit such as {unit}" if unit else "a number"
        raise EmsError(f"{key}: {error}; allowed: {allowed}") from None


# ---- arguments ------------------------------------------------------------------------------------------


def _mode(p: Parser) -> None:
    p.add_argument("mode", choices=CHOSEN, metavar="MODE", help=", ".join(CHOSEN))
    p.add_argument("device", nargs="?", metavar="DEVICE", help="left out: the plant")
    _time(p, "then as before; at most 24 h (default: until somebody chooses another)")


def _set(p: Parser) -> None:
    _point(p)
    _time(p, "at most 24 h (default: setpoint_expiry_s of the site file)")


def _point(p: Parser) -> None:
    p.add_argument("point", metavar="SETPOINT", help="such as bess1.p_set_kw")
    p.add_argument("value", metavar="VALUE", help="in its unit, or with one: -50, '50 kW'")


def _release(p: Parser) -> None:
    p.add_argument("point", metavar="SETPOINT", help="that you hold")


def _limit(p: Parser) -> None:
    kinds = ", ".join(k.value for k in LimitKind)
    p.add_argument("subject", metavar="SUBJECT", help=f"{kinds}, or a side, such as bess1.p_set_kw.high")
    p.add_argument("value", metavar="VALUE", help=f"in its unit, or with one; {NONE}: no limit")
    _time(p, "of a loosening; at most 4 h")
    _glass(p)


def _bypass(p: Parser) -> None:
    p.add_argument("interlock", metavar="INTERLOCK", help="by its id in the site file")
    _time(p, "at most 4 h", required=True)
    _glass(p)


def _token(p: Parser) -> None:
    p.add_argument("token", metavar="TOKEN", help="as the first answer showed it")


def _tell(p: Parser) -> None:
    p.add_argument("limit", metavar="LIMIT", help="by its id in the site file")
    p.add_argument("value", metavar="VALUE", help="kW, or with a unit")


def _nothing(p: Parser) -> None:
    return


def _time(p: Parser, text: str, *, required: bool = False) -> None:
    p.add_argument("--for", dest="length", metavar="TIME", required=required, help=f"30min, 2h; {text}")


def _glass(p: Parser) -> None:
    text = "alone and at once: for a time, with a reason, alarmed"
    p.add_argument("--break-glass", action="store_true", help=text)


ACTS: Mapping[str, tuple[str, Callable[[Parser], None]]] = {
    "status": ("who commands what, until when, and what limits it", _nothing),
    "mode": ("choose the mode of control of the plant or of a device", _mode),
    "set": ("hold a continuous setpoint for a time, in manual", _set),
    "release": ("give a setpoint of your own back", _release),
    "limit": ("tighten a limit at once, or propose to loosen it", _limit),
    "bypass": ("propose that an interlock does not count for a time", _bypass),
    "confirm": ("be the second person of what somebody else proposed", _token),
    "select": ("first step of a start, stop or breaker in manual, or of a probe in test", _point),
    "operate": ("second step, within 10 s", _token),
    "tell": ("tell the value of a limit of the site file, as a utility or plant controller", _tell),
    "resume": ("let an edge that is held safe decide again", _nothing),
}
