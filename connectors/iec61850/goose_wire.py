"""Frames from a network interface: a raw socket that takes the wanted APPIDs alone (packet(7), socket(7)).

The kernel leaves out everything else before it costs us anything, and drops what comes faster than it is
fetched. Nothing is ever sent.
"""

import contextlib
import ctypes
import errno
import fcntl
import select
import socket
import struct
from collections.abc import Iterable, Iterator

from connectors.iec61850.goose_frame import ETHERTYPE, FRAME_MAX, TAGS
from connectors.link import LinkError
from connectors.listening import SO_TIMESTAMPNS, waited_s

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, MULTICAST, ALL_MULTICAST = 263, 1, 6, 0, 2
SO_ATTACH_FILTER = 26
SIOCGIFFLAGS, IS_UP, IS_RUNNING = 0x8913, 0x1, 0x40
BUFFER_BYTES = 262144  # kept by the kernel; the rest of a flood is dropped
BATCH = 64  # frames between two looks at whether to end
LOAD_HALF, JUMP, JUMP_IF, RETURN = 0x28, 0x05, 0x15, 0x06  # of the classic packet filter
DOC = "docs/goose.md"


class Wire:
    """One interface.

    Parameters
    ----------
    interface : its name.
    addresses : multicast addresses to be let in; none: all.
    app_ids : of the messages to be let in; none: all of GOOSE.
    """

    def __init__(self, interface: str, addresses: Iterable[bytes], app_ids: Iterable[int]) -> None:
        self.interface = interface
        self._addresses, self._app_ids = frozenset(addresses), sorted(set(app_ids))
        self._socket: socket.socket | None = None
        self._dropped = 0

    def open(self) -> None:
        """Begin to listen. Raises LinkError."""
        try:
            index = socket.if_nametoindex(self.interface)
        except OSError:
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise LinkError(f"no network interface {self.interface!r} here; there are: {known}") from None
        try:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # nothing comes before it is bound
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT):
                raise LinkError(f"cannot listen to {self.interface}: {error}") from None
            raise LinkError(
                f"not allowed to listen to {self.interface}: it takes the capability CAP_NET_RAW "
                f"and the address family AF_PACKET ({DOC})"
            ) from None
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES // 2)  # the kernel doubles it
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            _filter(made, self._app_ids)
            made.bind((self.interface, ETHERTYPE))
            for address in self._addresses or (b"",):
                kind = MULTICAST if address else ALL_MULTICAST
                request = struct.pack("iHH8s", index, kind, len(address), address)
                made.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            made.setblocking(False)
        except OSError as error:
            made.close()
            raise LinkError(f"cannot listen to {self.interface}: {error}") from None
        self._socket = made

    def frames(self, wait_s: float) -> Iterator[tuple[bytes, float]]:
        """What has come, each with how long ago [s]; waits so long for the first. Raises LinkError."""
        made = self._socket
        if made is None:
            raise LinkError("not listening")
        poller = select.poll()
        poller.register(made, select.POLLIN)
        if not poller.poll(1000.0 * wait_s):
            return
        for _ in range(BATCH):
            try:
                frame, more, _, _ = made.recvmsg(FRAME_MAX + 1, 64)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkError(f"cannot listen to {self.interface} any more: {error}") from None
            yield frame, _age_s(more)

    @property
    def dropped(self) -> int:
        """Frames that came faster than they were fetched, since it was opened."""
        if (made := self._socket) is not None:
            with contextlib.suppress(OSError):  # it is closed by the thread that listens
                told = made.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
                self._dropped += int(struct.unpack("II", told)[1])  # since asked last
        return self._dropped

    @property
    def trouble(self) -> str:
        """What is wrong with the interface itself; "": nothing."""
        if (made := self._socket) is None:
            return "not listening"
        asked = struct.pack("16sH14x", self.interface.encode(), 0)
        try:
            flags = struct.unpack("16sH14x", fcntl.ioctl(made, SIOCGIFFLAGS, asked))[1]
        except OSError as error:
            return f"{self.interface}: {error}"
        if not flags & IS_UP:
            return f"{self.interface} is down"
        return "" if flags & IS_RUNNING else f"{self.interface} has no link: is its cable in?"

    def close(self) -> None:
        """End to listen."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()


def _age_s(more: list[tuple[int, int, bytes]]) -> float:
    stamps = (data for level, kind, data in more if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS))
    return next(map(waited_s, stamps), 0.0)


def _filter(made: socket.socket, app_ids: list[int]) -> None:
    """Let the kernel leave out other APPIDs, with a VLAN tag that it has not taken off or without."""
    wanted = app_ids[:200]  # jumps are of one byte; more are sorted out here
    if not wanted or len(wanted) < len(app_ids):
        return
    steps = [
        (LOAD_HALF, 0, 0, 12),
        (JUMP_IF, 1, 0, TAGS[0]),
        (JUMP_IF, 0, 2, TAGS[1]),
        (LOAD_HALF, 0, 0, 18),
        (JUMP, 0, 0, 1),
        (LOAD_HALF, 0, 0, 14),
        *((JUMP_IF, len(wanted) - i, 0, app_id) for i, app_id in enumerate(wanted)),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, 0xFFFFFFFF),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    made.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    )
