"""The fault catalogue: what can go wrong with a plant, its devices and the edge's own inputs.

One entry says what a fault does, to which kinds of asset, and in which grid modes it means something. Entries
compose: any number may hold at the same time. Every entry is a small function of its own memory and of time.
"""

from sim.faults.base import ANY_MODE, EPSILON_S, Entry, Fault, Layer
from sim.faults.catalogue import CATALOGUE, entry_of

__all__ = ["ANY_MODE", "CATALOGUE", "EPSILON_S", "Entry", "Fault", "Layer", "entry_of"]
