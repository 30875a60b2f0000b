"""Who may come in to a server, and how much of it anybody gets. Pure, but for the clock."""

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from ems.northbound import Door


class Guard:
    """Counts connections of one server by address.

    Addresses of IPv4 clients on an IPv6 socket count as what they are.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._networks = tuple(ip_network(c) for c in door.clients)
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Connections that are open now, also those whose handshake is not over."""
        return self._open.total()

    def enter(self, address: str) -> str:
        """Count a connection in; why it may not come in, "": it may, and is counted until `leave`."""
        if self._networks and not any(ip_address(address) in n for n in self._networks):
            return "this address is not among the clients of the site file"
        if self._open[address] >= self._door.per_client_max:
            return f"this address has {self._door.per_client_max} connections already"
        if self.open >= self._door.connections_max:
            return f"there are {self._door.connections_max} connections already"
        self._open[address] += 1
        return ""

    def leave(self, address: str) -> None:
        """Count a connection out."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


def plain_address(address: str) -> str:
    """`::ffff:10.0.0.5` and `fe80::1%eth0` -> the address alone."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(found if mapped is None else mapped)


class Budget:
    """Requests that a connection may have served; they grow back with time."""

    def __init__(self, per_s: float, monotonic_s: Callable[[], float]) -> None:
        self._per_s, self._monotonic_s = per_s, monotonic_s
        self._burst = max(1.0, per_s)
        self._left, self._since_s = self._burst, monotonic_s()

    def spend(self) -> float:
        """0 where one more may be served now, and it is counted; else how long to wait [s]."""
        now_s = self._monotonic_s()
        self._left = min(self._burst, self._left + (now_s - self._since_s) * self._per_s)
        self._since_s = now_s
        if self._left < 1.0:
            return (1.0 - self._left) / self._per_s
        self._left -= 1.0
        return 0.0
