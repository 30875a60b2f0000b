"""A GOOSE publisher made of libiec61850 at one end of a cable, in a network of their own."""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.libiec_plant import HERE, PATIENCE_S, PYTHON

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
THEIRS, OURS = "ems0", "ems1"
SETUP = (  # nothing speaks by itself there
    "for i in default all; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null; "
    f"ip link add {THEIRS} type veth peer name {OURS} && ip link set {THEIRS} up && ip link set {OURS} up && "
    "echo ready && exec cat"
)


@contextlib.contextmanager
def network() -> Iterator[int]:
    """A network with a cable in it, which this thread is in meanwhile; gives the process that holds it."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"the program '{program}' is not installed")
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", SETUP],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stderr is not None
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"no network of its own with a veth pair: {holder.stderr.read().strip()}")
        there = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        entered = libc.setns(there, NEW_NETWORK)
        os.close(there)
        if entered != 0:
            pytest.skip(f"may not enter a network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            yield holder.pid
        finally:
            assert libc.setns(own, NEW_NETWORK) == 0
    finally:
        os.close(own)
        holder.kill()
        holder.communicate()


class LibIecPublisher:
    """The process, and what is ordered of it."""

    def __init__(self, network_pid: int) -> None:
        if not PYTHON.is_file():
            pytest.skip(f"pyiec61850-ng is not installed (see .ci/run: {HERE / '.venv'})")
        self._pid = network_pid
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "nsenter", "-t", str(self._pid), "-n", str(PYTHON), str(HERE / "publisher.py"), THEIRS,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def ask(self, do: str, **more: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith("> "):
                    return json.loads(line[2:])
        raise AssertionError("the libiec61850 publisher has ended")

    def enter(self) -> None:
        """Bring this thread into its network."""
        there = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY)
        entered = ctypes.CDLL(None).setns(there, NEW_NETWORK)
        os.close(there)
        assert entered == 0

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


def sender() -> socket.socket:
    """The publisher's end of the cable, to send anything."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind((THEIRS, 0))
    return made
