"""The service manager's notify protocol: datagrams to the socket that systemd names (sd_notify(3))."""

import contextlib
import socket


class Notifier:
    """Tells systemd how a service is. It never waits and never raises: control does not depend on it.

    Parameters
    ----------
    address : value of `NOTIFY_SOCKET`: a path, or an abstract name after an `@`; None: nobody listens.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self.failed = 0
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def tell(self, **fields: str) -> bool:
        """Send one message of assignments such as READY="1"; False when it could not be sent."""
        if self._socket is None or not self._address:
            return False
        text = "\n".join(f"{k}={v.replace(chr(10), ' ')}" for k, v in fields.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode(), address)
        except OSError:
            self.failed += 1
            return False
        return True

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
