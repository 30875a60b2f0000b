"""What a simulated device does with its setpoints when its controller falls silent: a lease on each of them.

A client that refreshes one setpoint does not keep another one alive.
"""

from dataclasses import dataclass, field

from ems.silence import silent_value
from ems.site import Site


def told_silence(site: Site) -> dict[str, float]:
    """What devices tell of their silence, where they have points for it: they are set as the file says."""
    out: dict[str, float] = {}
    for authority in site.authority.setpoints.values():
        b = authority.safety.behaviour
        if b.timeout_point is not None:
            out[b.timeout_point] = b.timeout_s
        if b.value_point is not None and b.value is not None:
            out[b.value_point] = b.value
    return out


@dataclass(slots=True)
class Setpoints:
    """The setpoints as the devices hold them. Times in seconds after the start of the run."""

    site: Site
    values: dict[str, float] = field(default_factory=dict)  # by point, its own unit
    written_s: dict[str, float] = field(default_factory=dict)
    lease_end_s: dict[str, float] = field(default_factory=dict)  # only of live leases
    expired: int = 0  # leases that ran out, over the run

    def write(self, point: str, value: float, now_s: float) -> bool:
        """Take a value and renew its lease; True if the value is another one than before."""
        changed = self.values.get(point) != value
        self.values[point] = value
        self.written_s[point] = now_s
        self.lease_end_s[point] = now_s + self._timeout_s(point)
        return changed

    def carry(self, now_s: float, until_s: float) -> None:
        """Take what is being refreshed at `now_s` as refreshed until `until_s`, as a real edge would do.

        A setpoint is being refreshed unless its last write is older than its refresh period: then the
        controller has just passed it over, and its lease runs out.
        """
        for point, at_s in self.written_s.items():
            if now_s - at_s < max(self.site.authority.setpoints[point].refresh_s, 1e-6):
                self.lease_end_s[point] = until_s + self._timeout_s(point)

    def next_expiry_s(self) -> float:
        """When the next lease runs out; infinity when none is live."""
        return min(self.lease_end_s.values(), default=float("inf"))

    def expire(self, now_s: float) -> list[str]:
        """Let leases run out; gives the points whose value changed by it."""
        over = [p for p, end_s in self.lease_end_s.items() if end_s <= now_s + 1e-6]
        changed = []
        for point in over:
            del self.lease_end_s[point]
            self.expired += 1
            value = silent_value(self.site.authority.setpoints[point])
            if value is not None and value != self.values[point]:
                self.values[point] = value
                changed.append(point)
        return changed

    def _timeout_s(self, point: str) -> float:
        return self.site.authority.setpoints[point].safety.behaviour.timeout_s
