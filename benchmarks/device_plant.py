"""The plant of the device benchmarks: a small site whose assets sit on one device, and many meters."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.bare_modbus import Request
from connectors.modbus.blocks import read_blocks
from connectors.point_map import point_codecs
from ems.points import POINTS, Access, point_id
from ems.site import Connection, PointMap, Protocol, Site
from plant_models.plant import PlantInput, initial_state, step
from tests import builders

ROOT = Path(__file__).resolve().parents[1]
POINTS_OF_A_METER = 24  # in two reads of 57 and 58 registers
BLOCKS_AT, SPACING, BEAT = (0, 200), 5, 257
DEMAND = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def row(point: str, address: int, *, beat: bool = False, writable: bool = False) -> PointMap:
    """One register pair as a float, or the counter of the heartbeat."""
    return PointMap(
        point=point,
        address=str(address),
        table="holding",
        data_type="u16" if beat else "f32",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=0.0,
        sign=1,
        unit="",
        low=0.0 if beat else -1e6,
        high=65534.0 if beat else 1e6,
        age_s_max=3.0,
        writable=beat or writable,
    )


def assets_map(site: Site) -> list[PointMap]:
    """Every point of the site's assets on one device."""
    rows, address = [], 0
    for asset, kind in site.asset_kinds().items():
        for spec in POINTS[kind]:
            if spec.access is Access.READ or point_id(asset, spec.name) in site.authority.setpoints:
                write = spec.access is Access.WRITE
                rows.append(row(point_id(asset, spec.name), address, writable=write))
                address += 2
    return rows


def meter_map(name: str) -> list[PointMap]:
    """Twenty-four values in two blocks, with small holes as real maps have."""
    half = POINTS_OF_A_METER // 2
    return [
        row(f"{name}.v{half * b + i}", at + SPACING * i)
        for b, at in enumerate(BLOCKS_AT)
        for i in range(half)
    ]


def plant(ports: Sequence[int], poll_s: float, timeout_s: float) -> Site:
    """The site with a connection for each port; each device gets the heartbeat."""
    site = builders.site()
    connections = []
    for i, port in enumerate(ports):
        rows = assets_map(site) if i == 0 else meter_map(f"m{i}")
        beat = row(f"m{i}.heartbeat", BEAT, beat=True)
        connections.append(
            Connection(
                id=f"d{i}",
                protocol=Protocol.MODBUS_TCP,
                host="127.0.0.1",
                port=port,
                unit_id=1,
                endpoint="",
                poll_s=poll_s,
                timeout_s=timeout_s,
                watchdog_point=beat.point,
                watchdog_period_s=0.5 * poll_s,
                points=(*rows, beat),
            )
        )
    return dataclasses.replace(site, connections=tuple(connections), cycle_s=poll_s)


def only(connections: Sequence[Connection]) -> Site:
    """The small site with these connections."""
    return dataclasses.replace(builders.site(), connections=tuple(connections))


def polls(site: Site) -> list[list[Request]]:
    """The read requests our side sends to each device."""
    return [
        [(3, b.address, b.count) for b in read_blocks(point_codecs(c).values())] for c in site.connections
    ]


def registers(site: Site) -> dict[int, dict[int, int]]:
    """What the devices hold: a plant at rest on the grid, and meters with any number."""
    start = initial_state(site, 0.6)
    given = PlantInput(mains_present=True, demand_kw=DEMAND, pv_potential_kw={"pv1": 150.0})
    values = step(site, start, given, 1.0)[1].readings()
    out: dict[int, dict[int, int]] = {}
    for i, c in enumerate(site.connections):
        for codec in point_codecs(c).values():
            encoded = codec.encode_reported(values.get(codec.point.point, 1.5))
            out.setdefault(i, {}).update({codec.address + k: r for k, r in enumerate(encoded)})
    return out


class Devices:
    """The process of the devices: its ports, and what it has written down."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout
        self.ports: list[int] = json.loads(self._out.readline())

    def fill(self, site: Site) -> None:
        """Give the devices their values."""
        self._ask("fill\n" + json.dumps(registers(site)))

    def dump(self) -> list[list[tuple[float, float, float]]]:
        """[first request, last reply, write] of each cycle of each device since the last dump [s]."""
        answer: list[Any] = json.loads(self._ask("dump"))
        return answer

    def _ask(self, line: str) -> str:
        self._in.write(line + "\n")
        self._in.flush()
        return self._out.readline()


@contextmanager
def devices(count: int, dead: int = 0) -> Iterator[Devices]:
    """Start so many devices, the last of them dead."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.light_devices", str(count), str(dead)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield Devices(process)
    finally:
        process.kill()
        process.communicate()
