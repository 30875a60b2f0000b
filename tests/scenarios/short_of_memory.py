"""An edge that records, in a process whose memory is at its limit: run by a test as a program of its own.

python -m tests.scenarios.short_of_memory FOLDER
"""

import gc
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from cli._sites import find_site
from ems.site_schema import load_site
from sim.rig import Rig
from sim.rig_scenario import Power
from tests.scenarios.recording import recording

LOAD: Mapping[str, Power] = {
    "critical": 60.0,
    "essential": lambda t: 80.0 + 60.0 * (int(t / 7.0) % 2),
    "deferrable": 40.0,
}
FROM_S, UNTIL_S, END_S = 20.0, 50.0, 60.0
MIB = 1 << 20
FOR_THE_LOG = 2  # MiB that the rig itself needs for the rows of half a minute


def commands(rig: Rig) -> list[tuple[float, str, float]]:
    return [(row.t_s, c.point, c.value) for row in rig.rows() for c in row.commands]


def in_use() -> int:
    """Address space of this process [bytes]."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def fill() -> list[bytearray]:
    """Take what the limit leaves."""
    gc.collect()
    held = list[bytearray]()
    for size in (MIB, 1 << 16, 1 << 12):
        try:
            while True:
                held.append(bytearray(size))
        except MemoryError:
            continue
    return held


def main(folder: Path) -> None:
    site = load_site(find_site("demo"))
    plain = commands(Rig(site, load_kw=LOAD, pv_kw=100.0).run(END_S))
    rig, recorder = recording(Rig(site, load_kw=LOAD, pv_kw=100.0), folder)
    rig.run(FROM_S)
    recorder.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + 8 * MIB, hard))
    held = fill()
    del held[:FOR_THE_LOG]
    short = False
    try:
        bytearray(4 * MIB)
    except MemoryError:
        short = True
    rig.run(UNTIL_S)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    held.clear()
    rig.run(END_S)
    closed = recorder.close()
    said = {"short": short, "broken": rig.broken, "same": commands(rig) == plain, "recorded": closed}
    print(json.dumps(said, default=repr))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
