"""Which decisions are common to all scenarios and which are recourse. Every variable of the model is listed.

First stage: commitment as long as `Uncertainty.commit_s` says, and every setpoint of the steps that are
common. What follows from setpoints (reserve held, peaks, pieces of cost, slack) is copied for each scenario:
in a common step all scenarios have equal numbers, so the copies agree without being tied.

The last axis of the first two groups is the step. Where each battery has a variable of its own, the number at
the end of its name is not in the list.

A variable that is not listed is recourse, which is never wrong, only loose; a test finds it.
"""

from collections.abc import Mapping

import numpy as np

from ems.timegrid import BoolArray

COMMITMENT = frozenset(["on", "start", "stop"])
SETPOINTS = frozenset(
    [
        "above_kw", "bess_kvar", "charge_kw", "device_kw", "device_on", "discharge_kw", "export_kw",
        "feeder_open", "genset_kvar", "import_kw", "pv_kvar", "pv_kw", "shed_kw",
    ]
)  # fmt: skip
RECOURSE = frozenset(
    [
        "above_kwh", "added_l", "ahead_kwh", "any_on", "aux_short_kw", "below_kw", "below_kwh",
        "block_entered", "block_kwh", "burn", "burn_over_h", "burnt", "charging", "dead",
        "depth_kwh", "device_lost_kwh", "device_over_kwh", "device_start", "device_starts",
        "device_starts_anew", "device_stop", "device_work_kwh", "down_kw", "drawn_kwh",
        "event_free_kw", "event_import_kw", "event_joined", "event_kwh", "exercise",
        "exercise_missed", "export_credit_cost", "export_excess_cost", "fast_kw", "feeder_closes",
        "feeder_opens", "floor_kw", "fresh_day_kwh", "fresh_year_kwh", "fuel_short_l", "full_begin",
        "full_going", "full_missed", "grid_kvar", "hot_start", "idle_kwh", "importing", "kept_kwh",
        "kvar_missing", "left_l", "low", "low_count_h", "low_over_h", "mean_over_kw",
        "mean_over_kwh", "minimum_short_cost", "month_import_kw", "month_kvar", "n1_down_short_kw",
        "n1_short_kw", "n1_tied_short_kw", "no_set", "over_day_kwh", "over_kvarh", "over_year_kwh",
        "part_peak_kw", "peak_kw", "piece_full", "ramp_over_kw", "reserve_kw", "reserve_short_kwh",
        "resting_kwh", "running_short_kw", "shared_level", "shed_hours_over", "shed_stretch_over",
        "sheds_over", "short_down_kw", "short_kw", "source_set", "spare_kw", "starts_over",
        "step_short_kw", "stored_kwh", "surplus_kw", "survive_fuel_kwh", "survive_short_kwh",
        "take_short_kwh", "taken_kw", "tank_short_l", "taper_over_kw", "transformer_over_kva",
        "unformed", "used_day_kwh", "used_l", "used_year_kwh", "voltage_high_kw", "voltage_low_kw",
        "warm_start", "weak_kw", "year_over_h",
    ]
)  # fmt: skip


def shared_columns(
    shapes: Mapping[str, tuple[int, ...]],
    columns: Mapping[str, np.ndarray],
    first_steps: int,
    commit_steps: int,
) -> BoolArray:
    """(N,) which columns of a model are common to all scenarios.

    Parameters
    ----------
    shapes, columns : of the variables of a compiled model.
    first_steps : leading steps that are common altogether, at least 1.
    commit_steps : leading steps with common commitment, at least `first_steps`.
    """
    out = np.zeros(sum(len(at) for at in columns.values()), dtype=np.bool_)
    for name, at in columns.items():
        steps = commit_steps if name in COMMITMENT else first_steps if name in SETPOINTS else 0
        if steps:
            out[at.reshape(shapes[name])[..., :steps]] = True
    return out
