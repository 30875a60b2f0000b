"""The oracles I1 to I12: what must hold at every write and after every tick, with code of their own.

They share nothing with the edge: limits, ramps, ages, reserve and balances are worked out anew, and where the
edge has only what it is told, they judge by the truth of the simulated plant.
"""

from sim.oracles.base import Oracle, TickSeen, Violation, WriteSeen
from sim.oracles.watch import ORACLES, Watch

__all__ = ["ORACLES", "Oracle", "TickSeen", "Violation", "Watch", "WriteSeen"]
