"""Explains one plan and ends: what it was made from comes in on standard input, the explanation goes out.

It is started by the planner for each plan, so that explaining costs the planner neither time nor memory, and
it gives way to everything else. Standard input is a pickle of our own making, from our own parent.
"""

import os
import pickle
import sys

from connectors.json_codec import dumps
from ems.errors import EmsError
from optimizer.explain import explain


def main() -> None:
    """Read, explain, write; status 2 with the reason where a plan cannot be explained."""
    hours, nice = float(sys.argv[1]), int(sys.argv[2])
    os.nice(nice)
    posed, plan = pickle.load(sys.stdin.buffer)  # noqa: S301  written by Explaining, see there
    try:
        sys.stdout.write(dumps(explain(posed, plan, hours, search=False)))
    except EmsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
