"""Every shipped device family: reads back as printed, and reads and writes registers as its source says.

`family_values.csv` has for each point of each family the words of its registers, high byte first, and the
value that they mean. The words were worked out from the makers' documents, not with our codec.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.field import FieldIO
from connectors.identity import to_registers
from connectors.map_check import check_point_maps
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.points import POINTS, AssetKind
from ems.site import Connection
from ems.site_schema.build_wire import connections
from ems.site_schema.checks_identity import check_identity
from ems.site_schema.checks_wire import check_wire
from ems.site_schema.families import family_text, read_family, shipped_folder
from ems.site_schema.forms_maps import FamilyForm
from ems.site_schema.placing import read_draft
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.plants import command, site_of
from tests.contract.register_device import RegisterDevice

ROOT = Path(__file__).parents[2]
# Of Modbus; others are in test_j1939.py, test_dnp3_adversary.py, test_bacnet_peer.py, test_http_peer.py.
FILES = sorted(f for f in shipped_folder().glob("*.yaml") if "protocol: modbus" in f.read_text())
NAMES = [f.stem for f in FILES]
ASSETS = {
    AssetKind.BESS: "bess1",
    AssetKind.GENSET: "gen1",
    AssetKind.PV: "pv1",
    AssetKind.GRID: "grid1",
    AssetKind.FEEDER: "critical",
    AssetKind.BUS: "bus",
}
SETTINGS = {
    "v_ln_v": "230 V",
    "p_max_kw": "100 kW",
    "p_rated_kw": "100 kW",
    "tank_l": "1 m3",
    "p_yield_kw": "100 kW",
}


Known = tuple[list[int], float]  # words of the registers, and the value they mean


def values() -> dict[str, dict[str, Known]]:
    """family -> point or channel -> what is known of it."""
    out: dict[str, dict[str, Known]] = {}
    with (Path(__file__).with_name("family_values.csv")).open() as file:
        for row in csv.DictReader(file):
            words = [int(w, 16) for w in row["words"].split()]
            out.setdefault(row["family"], {})[row["point"]] = words, float(row["value"])
    return out


VALUES = values()


def family(name: str) -> FamilyForm:
    document, form = read_family(shipped_folder() / f"{name}.yaml")
    assert form is not None, document.problems
    return form


def part(name: str, under: str, phases: str) -> str:
    """A section of the demonstration site, with phases under one of its keys."""
    text = (ROOT / "sites" / "demo" / "site.yaml").read_text()
    found = re.search(rf"^{name}:\n(?:[ #].*\n|\n)+", text, re.MULTILINE)
    assert found is not None
    indent = re.search(rf"^( *){under}:\n", found[0], re.MULTILINE)
    assert indent is not None
    return found[0].replace(indent[0], f"{indent[0]}{indent[1]}  phases: {phases}\n", 1)


ASSETS_OF_SITE = "\n".join((
    part("grid", "grid", "{caps: total, i_a_max: 2 kA}"),
    part("bess", "pcs", "{margin_kw: 50}"),
    part("gensets", "gen1", "{margin_kw: 40}"),
    "pv: {pv1: x}\nfeeders: {critical: x}\n",
))  # fmt: skip


def wired(folder: Path, form: FamilyForm, kind: AssetKind | None, channels: dict[str, str]) -> Connection:
    """A family as a site file uses it; the rest of the site is just enough to have assets."""
    asked = ", ".join(f"{name}: {SETTINGS[name]}" for name in form.asks)
    wires = ", ".join(f"{point}: {{from: {channel}}}" for channel, point in channels.items())
    asset = f"asset: {ASSETS[kind]}" if kind is not None else ""
    (folder / "site.yaml").write_text(f"""{ASSETS_OF_SITE}
connections:
  dut:
    {{protocol: modbus_tcp, host: 127.0.0.1, port: 502, poll_s: 1, timeout_s: 500 ms, family: {form.family},
     settings: {{{asked}}}, points: {{{wires}}}, {asset}}}
""")
    draft = read_draft(folder / "site.yaml")
    check_wire(draft)
    check_identity(draft)
    found = [str(p) for d in draft.shipped_documents.values() for p in d.problems]
    own = [p for p in draft.document.problems if p.key.startswith("connections")]
    found += [str(p) for p in own if not p.found.startswith("no map for")]
    assert not found, "\n".join(found)
    (connection,) = connections(draft)
    assert not check_point_maps([connection])
    return connection


def wire_identity(device: RegisterDevice, connection: Connection) -> None:
    """The device tells of itself what the family is for."""
    for field in connection.identity:
        told = field.expected or (field.one_of[0] if field.one_of else field.starts or "7")
        device.put(field.table, int(field.address), to_registers(field, told))


def wire_points(device: RegisterDevice, connection: Connection, known: dict[str, Known]) -> None:
    """Registers of the points hold the known words, those of setpoints zeros."""
    for row in connection.points:
        words = known[row.point][0]
        device.put(row.table, int(row.address), [0] * len(words) if row.writable else words)


def uses(folder: Path, form: FamilyForm) -> Iterator[tuple[Connection, dict[str, str]]]:
    """Every way a family is used: with each kind of asset, and its channels eight at a time."""
    for kind in form.assets:
        connection = wired(folder, form, kind, {})
        yield connection, {p.point: p.point.partition(".")[2] for p in connection.points}
    names = list(form.channels)
    for start in range(0, len(names), 8):
        chosen = {name: f"bus.contact_{i}" for i, name in enumerate(names[start : start + 8], 1)}
        wires = {point: name for name, point in chosen.items()}
        connection = wired(folder, form, form.assets[0] if form.assets else None, chosen)
        yield (
            connection,
            {p.point: wires.get(p.point, p.point.partition(".")[2]) for p in connection.points},
        )


@pytest.mark.parametrize("name", NAMES)
def test_family_printed_and_read_again_is_the_same(tmp_path, name):
    form = family(name)
    (tmp_path / f"{name}.yaml").write_text(family_text(form))
    document, again = read_family(tmp_path / f"{name}.yaml")
    assert not document.problems
    assert again == form


@pytest.mark.parametrize("name", NAMES)
def test_family_values_has_every_point_and_no_other(name):
    form = family(name)
    assert set(VALUES[name]) == {*form.points, *form.channels}


@pytest.mark.parametrize("name", NAMES)
def test_family_every_point_belongs_to_one_of_its_assets(name):
    form = family(name)
    named = {s.name for kind in form.assets for s in POINTS[kind]}
    assert set(form.points) <= named | {form.watchdog_point, form.heartbeat_in}


@pytest.mark.parametrize("name", NAMES)
async def test_family_every_point_reads_the_known_value_and_every_setpoint_is_written(tmp_path, name):
    form, seen = family(name), set()
    for connection, names in uses(tmp_path, form):
        known = {point: VALUES[name][names[point]] for point in names}
        seen |= set(names.values())
        async with RegisterDevice(connection.unit_id) as device:
            wire_identity(device, connection)
            wire_points(device, connection, known)
            clock = VirtualClock(T0)
            io = FieldIO(site_of(connection), clock=clock, addresses={"dut": ("127.0.0.1", device.port)})
            try:
                await (
                    io.read_all()
                )  # where the device refuses registers nobody mapped, the next one is without
                clock.advance(1.0)
                readings = {r.point: r for r in await io.read_all()}
                for row in connection.points:
                    if not row.writable:
                        assert readings[row.point].value == pytest.approx(known[row.point][1], rel=1e-6), row
                        assert readings[row.point].quality is Quality.GOOD, row
                assert device.writes == 0
                await write_and_read_back(io, clock, device, connection, known)
            finally:
                await io.close()
    assert seen == {*form.points, *form.channels}


async def test_registers_a_device_refuses_are_named_and_no_longer_once_it_gives_them(tmp_path):
    """A map that counts from 1, or from 40001: the device says so, and whoever commissions is told."""
    connection, names = next(uses(tmp_path, family("carlo_gavazzi_em24")))
    known = {point: VALUES["carlo_gavazzi_em24"][names[point]] for point in names}
    async with RegisterDevice(connection.unit_id) as device:
        wire_identity(device, connection)
        clock = VirtualClock(T0)
        io = FieldIO(site_of(connection), clock=clock, addresses={"dut": ("127.0.0.1", device.port)})
        try:
            await io.read_all()
            clock.advance(1.0)
            await io.read_all()
            (row, *_) = connection.points
            why = io.why_unread(row.point)
            assert why.startswith("exception 2 (illegal data address) to a read of ")
            assert f"registers {row.address} to" in why
            assert why.endswith("counted from 0")
            wire_points(device, connection, known)
            clock.advance(1.0)
            await io.read_all()
            assert io.why_unread(row.point) == ""
        finally:
            await io.close()
    assert io.why_unread("no.such_point") == ""


async def write_and_read_back(
    io: FieldIO,
    clock: VirtualClock,
    device: RegisterDevice,
    connection: Connection,
    known: dict[str, Known],
) -> None:
    written = [row for row in connection.points if row.writable]
    commands = [command(row.point, known[row.point][1], i) for i, row in enumerate(written)]
    assert {r.outcome for r in await io.write(commands)} <= {WriteOutcome.CONFIRMED}
    for row in written:
        words, table = known[row.point][0], device.registers[row.table]
        assert [table[int(row.address) + i] for i in range(len(words))] == words, row
    clock.advance(1.0)
    again = {r.point: r.value for r in await io.read_all()}
    for row in written:
        assert again[row.point] == pytest.approx(known[row.point][1]), row
