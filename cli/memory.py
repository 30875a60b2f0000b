"""How a process that decides on time collects its garbage."""

import gc

YOUNG_COUNT = 50_000  # objects made before the youngest are looked through; two cycles of 200 devices


def settle() -> None:
    """Call when everything of a long-lived process is there: what exists is not looked through again.

    A full collection over the imports of the edge cost tens of milliseconds in the middle of a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_COUNT, 10, 10)
