"""What the plant process loads of sim is light: the truth is computed by its parent and handed over."""

import subprocess
import sys

LIGHT = ("sim.servers", "sim.world", "sim.clock", "sim.scenario", "sim.direct_io", "sim.steps", "sim.noise")
HEAVY = ("pyomo", "highspy", "pandas", "scipy", "pvlib", "fastapi")


def test_plant_side_of_sim_loads_nothing_heavy(project_root):
    code = f"import sys, {', '.join(LIGHT)}; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root, check=True
    )
    assert found.stdout.strip() == "[]"
