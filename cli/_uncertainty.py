"""Options that say how a plan reckons with forecasts being wrong."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ems.errors import EmsError

if TYPE_CHECKING:
    from optimizer.uncertainty import Uncertainty


def add_uncertainty_options(parser: argparse.ArgumentParser) -> None:
    """--scenarios, --outage-scenarios, --cvar, --cvar-level, --quantile."""
    parser.add_argument(
        "--scenarios",
        type=int,
        metavar="N",
        help="plan over N scenarios of load and sun, the expected one included (docs/uncertainty.md)",
    )
    parser.add_argument(
        "--outage-scenarios",
        type=int,
        default=0,
        metavar="K",
        help="and over K outages that nobody announced, where the site says outages_per_month (0)",
    )
    parser.add_argument(
        "--cvar",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the dearest scenarios in the objective, 0 to 0.95 (0: expected cost alone)",
    )
    parser.add_argument(
        "--cvar-level", type=float, default=0.8, metavar="L", help="where the tail begins, 0 to 1 (0.8)"
    )
    parser.add_argument(
        "--quantile",
        type=float,
        metavar="Q",
        help="robust: plan for this quantile of load, and of missing sun, 0.5 to 0.99",
    )


def uncertainty_of(args: argparse.Namespace) -> Uncertainty:
    """What the options of one planner say.

    Raises
    ------
    EmsError : a value outside what is allowed, scenarios and a quantile at once, a tail without scenarios.
    """
    from optimizer.uncertainty import UncertaintyKind

    if args.scenarios is not None and args.quantile is not None:
        raise EmsError("--scenarios and --quantile: found both; allowed: one of them")
    for option, value in (("--cvar", args.cvar), ("--outage-scenarios", args.outage_scenarios)):
        if value != 0.0 and args.scenarios is None:
            raise EmsError(f"{option} {value:g}: found no --scenarios; allowed: with --scenarios N")
    if args.scenarios is not None:
        return studied_uncertainty(args, UncertaintyKind.TWO_STAGE)
    return studied_uncertainty(
        args, UncertaintyKind.NONE if args.quantile is None else UncertaintyKind.ROBUST
    )


def studied_uncertainty(args: argparse.Namespace, kind: str = "none") -> Uncertainty:
    """The same for a study, in which the names of controllers say the kind.

    Raises
    ------
    EmsError : a value outside what is allowed.
    """
    from optimizer.uncertainty import Uncertainty, UncertaintyKind

    plain = Uncertainty()
    return Uncertainty(
        kind=UncertaintyKind(kind),
        scenarios=plain.scenarios if args.scenarios is None else args.scenarios,
        cvar_weight_ratio=args.cvar,
        cvar_level_ratio=args.cvar_level,
        quantile_ratio=plain.quantile_ratio if args.quantile is None else args.quantile,
        outages=args.outage_scenarios,
    )
