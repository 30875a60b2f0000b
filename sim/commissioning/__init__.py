"""Commissioning on the simulated plant: the matrices on the grid, islanded and on back-up, row by row."""

from sim.commissioning import back_up, islanded, on_grid
from sim.commissioning.base import Trial, TrialRow, run_trial

MATRIX: tuple[Trial, ...] = (*on_grid.TRIALS, *islanded.TRIALS, *back_up.TRIALS)

__all__ = ["MATRIX", "Trial", "TrialRow", "run_trial"]
