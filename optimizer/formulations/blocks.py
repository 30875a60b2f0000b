"""Energy blocks: what the month's import pays on top of the price of the hour, block by block.

    import_t = in_t,m                            in the steps of month m, the other one zero
    sum of D_t in_t,m = sum_k y_k,m,             0 <= y_k,m <= r_k,m,    cost sum_k add_k y_k,m

r_k,m is what is left of block k after `used_m`: the month's import so far and what it is expected to import
after the window (without an outlook: nothing). So a kWh costs what it costs at the end of the month, not what
it costs in the block the month has reached today.

Blocks that grow dearer fill in order by themselves. Where a block is cheaper than one before it, order needs
binaries z (later block entered), with M = the most that the window can import:

    y_k+1 <= M z_k,   y_k >= r_k - M (1 - z_k)

Source: order binaries as in block tariffs of REopt (electric_utility_constraints.jl, energy tiers).
"""

from itertools import pairwise

import numpy as np

from ems.tariff import EnergyBlock
from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def declining(blocks: tuple[EnergyBlock, ...]) -> bool:
    """Whether a block is cheaper than the one before."""
    return any(b.add_per_kwh < a.add_per_kwh for a, b in pairwise(blocks))


def _most_kwh(s: Structure) -> float:
    return float(s.site.grid.p_import_kw_max * s.step_h.sum())


def left_kwh(blocks: tuple[EnergyBlock, ...], used_kwh: float, most_kwh: float) -> FloatArray:
    """(K,) what is left of each block after `used_kwh`, at most `most_kwh` [kWh]."""
    ends = np.array([np.inf if b.up_to_kwh is None else b.up_to_kwh for b in blocks])
    begins = np.concatenate([[0.0], ends[:-1]])
    out: FloatArray = np.clip(ends - np.maximum(begins, used_kwh), 0.0, most_kwh)
    return out


def add(m: Model, s: Structure) -> None:
    """month_import_kw (2, T), block_kwh (2, K); with declining blocks block_entered (2, K - 1)."""
    blocks = s.site.tariff.energy_blocks
    if not blocks:
        return
    T, K, most = s.steps, len(blocks), _most_kwh(s)
    imported, own, block = m["import_kw"], m.var("month_import_kw", 2, T), m.var("block_kwh", 2, K)
    m.rows("month_import", (T,), lambda t: imported[t] == own[0, t] + own[1, t])
    m.rows(
        "blocks",
        (2,),
        lambda j: sum(s.step_h[t] * own[j, t] for t in range(T)) == sum(block[j, k] for k in range(K)),
    )
    if declining(blocks):
        entered, left = m.var("block_entered", 2, K - 1), m.par("block_left_kwh", 2, K - 1)
        m.rows("block_order", (2, K - 1), lambda j, k: block[j, k + 1] <= most * entered[j, k])
        m.rows(
            "block_full",
            (2, K - 1),
            lambda j, k: block[j, k] >= left[j, k] - most * (1 - entered[j, k]),
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Month of each step, what is left of each block, prices."""
    blocks = s.site.tariff.energy_blocks
    if not blocks:
        return
    most = _most_kwh(s)
    left = np.array([left_kwh(blocks, used, most) for used in p.blocks_used_kwh])
    steps = np.array([month.steps for month in p.months])
    n.bound("month_import_kw", 0.0, np.where(steps, s.site.grid.p_import_kw_max, 0.0))
    n.bound("block_kwh", 0.0, left)
    n.price("energy_blocks", "block_kwh", np.array([b.add_per_kwh for b in blocks]))
    if declining(blocks):
        n.par("block_left_kwh", left[:, :-1])
        n.bound("block_entered", 0.0, 1.0)
        n.whole("block_entered", np.ones((2, len(blocks) - 1), dtype=np.bool_))
