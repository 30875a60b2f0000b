"""Ports of this machine that nothing holds, for runs beside others."""

import contextlib
import random
import socket

from ems.errors import EmsError

# Below what kernels give to connections that go out (32768 on Linux, 49152 elsewhere): between the choice and
# the server that binds it, no client can be given one of these.
RANGE = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """So many different ports of the loopback, drawn anew with each call.

    Raises
    ------
    EmsError : all of them are taken.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(RANGE, len(RANGE)):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < count:
        raise EmsError(
            f"{count} ports of {RANGE.start} to {RANGE.stop - 1} are needed, {len(found)} are free"
        )
    return found
