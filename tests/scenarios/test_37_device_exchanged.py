"""37: firmware shifts the map, a device is exchanged: nothing is written until somebody has looked."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cli.commission_record import RecordBook
from cli.free_ports import free_ports
from cli.main import main
from cli.process_config import ProcessConfig
from cli.writing_permit import permit
from connectors.field import FieldIO
from connectors.identity import from_registers, to_registers, unlike_map
from dispatch.commissioning.rows import PointRow, Verdict
from ems.clock import SystemClock, VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.errors import ConfigError
from ems.site import IdentityField, Protocol, Site
from ems.site_schema import load_site
from ems.telemetry import Reading
from sim.rig import Rig
from sim.rig_scenario import rig_scenario
from sim.servers import PlantServers
from sim.world import World
from tests.builders import T0
from tests.contract.plants import command
from tests.scenarios.signed_place import placed

pytestmark = pytest.mark.scenario(37)
LOAD = {"critical": 110.0, "essential": 160.0, "deferrable": 80.0}
AT_S = 60.0
OTHER = {"pcs": "serial is 'B-2', 'A-1' was commissioned"}


def devices_written(rig: Rig, from_s: float, until_s: float) -> set[str]:
    return {c.point.partition(".")[0] for r in rig.rows(from_s, until_s) for c in r.commands}


def test_serial_changed_nothing_is_written_until_it_is_the_one_commissioned(demo: Site):
    """Setpoints and heartbeat stop in the cycle it is known in; the unit is not counted on; it is told."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=400.0)
    rig.at(AT_S, lambda r: r.strangers.update(OTHER)).at(2.0 * AT_S, lambda r: r.strangers.clear())
    rig.run(3.0 * AT_S)
    assert "bess1" in devices_written(rig, 0.0, AT_S)
    assert "bess1" not in devices_written(rig, AT_S, 2.0 * AT_S)
    assert "pv1" in devices_written(rig, AT_S, 2.0 * AT_S)
    away = list(rig.rows(AT_S, 2.0 * AT_S))
    assert all(("device.identity", "pcs") in {(a.code, a.asset) for a in r.decisions.alarms} for r in away)
    assert not any(r.decisions.condition.bess["bess1"].available for r in away)
    assert "bess1" in devices_written(rig, 2.0 * AT_S, 3.0 * AT_S)
    assert not rig.last.alarmed("device.identity")


def test_serial_changed_the_safe_table_is_not_written_to_it_either(demo: Site):
    rig = Rig(demo, load_kw=LOAD, pv_kw=400.0)
    rig.at(AT_S, lambda r: r.strangers.update(OTHER))
    rig.run(AT_S + 5.0)
    from sim.drive import drive

    rig.io.results.clear()
    drive(rig.runtime.safe_stop())
    assert {r.command.point.partition(".")[0] for r in rig.io.results} == {"pv1"}


@asynccontextmanager
async def on_the_wire(
    site: Site, told: Mapping[str, str], commissioned: Mapping[str, str] | None
) -> AsyncIterator[tuple[FieldIO, dict[str, Reading], list[str]]]:
    """The demo's converter behind a real Modbus server that says `told` of itself."""
    (pcs,) = [c for c in site.connections if c.id == "pcs"]
    address = ("127.0.0.1", free_ports(1)[0])
    scenario = rig_scenario(site, load_kw=LOAD, pv_kw=0.0, mains=(), faults=(), start=T0, horizon_s=60.0)
    servers = PlantServers(World(scenario), [pcs], addresses={"pcs": address}, identities={"pcs": told})
    events: list[str] = []
    async with servers:
        io = FieldIO(
            replace(site, connections=(pcs,)),
            clock=VirtualClock(T0),
            addresses={"pcs": address},
            commissioned={"pcs": commissioned} if commissioned is not None else None,
            on_event=lambda at, kind, fields: events.append(kind),
        )
        try:
            yield io, {r.point: r for r in await io.read_all()}, events
        finally:
            await io.close()


async def write_zero(io: FieldIO) -> tuple[WriteOutcome, str]:
    (result,) = await io.write([command("bess1.p_set_kw", 0.0)])
    return result.outcome, result.detail


BEFORE = {"manufacturer": "Invented", "model": "PCS-600", "firmware": "2.1", "serial": "A-1"}


async def test_device_as_commissioned_is_written(demo: Site):
    async with on_the_wire(demo, {"serial": "A-1"}, BEFORE) as (io, readings, events):
        assert all(r.is_good for r in readings.values())
        assert io.identities() == {"pcs": BEFORE}
        assert io.strangers() == {}
        assert await write_zero(io) == (WriteOutcome.CONFIRMED, "")
        assert "device.identity.wrong" not in events


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"firmware": "2.5"}, "firmware is '2.5', '2.1' was commissioned"),  # inside the range of the map
        ({"firmware": "2.1 "}, ""),
    ],
)
async def test_firmware_that_the_map_allows_is_read_and_written_only_as_commissioned(
    demo: Site, told: Mapping[str, str], why: str
):
    async with on_the_wire(demo, {"serial": "A-1", **told}, BEFORE) as (io, readings, _):
        assert all(r.is_good for r in readings.values())
        assert io.strangers() == ({"pcs": why} if why else {})
        assert (await write_zero(io))[0] is (WriteOutcome.NOT_SENT if why else WriteOutcome.CONFIRMED)


async def test_firmware_renewed_is_released_by_a_new_record_that_is_signed_and_by_nothing_less(
    demo: Site, tmp_path: Path
):
    """Its new identity alone voids the rows of its points; new rows count once they are signed."""
    now = {**BEFORE, "firmware": "2.5"}
    place = placed(tmp_path, {"pcs": BEFORE})
    site = load_site(place.site)
    config = ProcessConfig(
        site=place.site, directory=tmp_path, shadow=False, record=place.record, trust=place.trust
    )
    before = permit(config, site).identities
    assert before is not None
    async with on_the_wire(demo, now, before["pcs"]) as (io, _, _):
        assert (await write_zero(io))[0] is WriteOutcome.NOT_SENT
        told = io.identities()
    book = RecordBook(place.record, site, place.site, user="eve", clock=VirtualClock(T0))
    book.identities(told)
    points = {m.point for c in site.connections if c.id == "pcs" for m in c.points}
    with pytest.raises(ConfigError) as refused:
        permit(config, site)
    assert {p.key for p in refused.value.problems} == points
    for point in sorted(points):
        book.row(PointRow(point=point, verdict=Verdict.PASS, shown="read", text=""))
    with pytest.raises(ConfigError, match=r"found other contents; allowed: as signed by eve"):
        permit(config, site)
    assert main(["sign", "record", str(place.record), "--key", place.key("mallory")]) == 0
    with pytest.raises(ConfigError, match="allowed: eve"):
        permit(config, site)
    place.sign()
    after = permit(config, site).identities
    assert after is not None
    async with on_the_wire(demo, now, after["pcs"]) as (io, readings, _):
        assert all(r.is_good for r in readings.values())
        assert io.strangers() == {}
        assert await write_zero(io) == (WriteOutcome.CONFIRMED, "")


async def test_other_serial_is_read_and_not_written(demo: Site):
    async with on_the_wire(demo, {"serial": "B-2"}, BEFORE) as (io, readings, events):
        assert all(r.is_good for r in readings.values())
        assert io.strangers() == OTHER
        outcome, why = await write_zero(io)
        assert outcome is WriteOutcome.NOT_SENT
        assert "'B-2', 'A-1' was commissioned" in why
        assert "device.identity.wrong" in events


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"firmware": "3.0"}, "firmware is '3.0', the map is for 2.1 to 2.9"),
        ({"model": "PCS-900"}, "model is 'PCS-900', the map is for 'PCS-600'"),
        ({"serial": ""}, "serial is not told"),
    ],
)
async def test_other_firmware_or_model_its_values_are_not_believed_either(
    demo: Site, told: Mapping[str, str], why: str
):
    async with on_the_wire(demo, {"serial": "A-1", **told}, None) as (io, readings, _):
        assert io.strangers() == {"pcs": why}
        assert readings
        assert all(r.value is None and not r.is_good for r in readings.values())
        assert (await write_zero(io))[0] is WriteOutcome.NOT_SENT


async def test_exchanged_while_the_edge_runs_is_seen_at_the_reconnect(demo: Site):
    """The connection drops with the exchange; the new one is asked who it is before anything else."""
    (pcs,) = [c for c in demo.connections if c.id == "pcs"]
    address = ("127.0.0.1", free_ports(1)[0])
    scenario = rig_scenario(demo, load_kw=LOAD, pv_kw=0.0, mains=(), faults=(), start=T0, horizon_s=60.0)
    world, at = World(scenario), {"pcs": address}
    clock = SystemClock()
    io = FieldIO(replace(demo, connections=(pcs,)), clock=clock, addresses=at, back_off_s_max=0.1)
    try:
        async with PlantServers(world, [pcs], addresses=at):
            await io.read_all()
            assert io.strangers() == {}
        while not any(link["health"] == "down" for link in io.links().values()):
            await io.read_all()
            await wall_sleep(0.05)
        async with PlantServers(world, [pcs], addresses=at, identities={"pcs": {"firmware": "1.0"}}):
            while not io.strangers():
                await wall_sleep(0.02)
            assert (await write_zero(io))[0] is WriteOutcome.NOT_SENT
    finally:
        await io.close()


def field(**changes: object) -> IdentityField:
    base = IdentityField(
        name="firmware", address="0", table="holding", data_type="string", length=4, byte_order="big",
        word_order="big",
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("kind", "text"), [("string", "V2.10"), ("u16", "4711"), ("u32", "123456")])
def test_identity_registers_and_back(kind: str, text: str, order: str):
    f = field(data_type=kind, byte_order=order, word_order=order)
    assert from_registers(f, to_registers(f, text)) == text


@pytest.mark.parametrize(
    ("told", "low", "high", "fits"),
    [
        ("2.10", "2.9", "3", True),
        ("2.10", "2.9", "2.9", False),
        ("V3.0.1", None, "3.0", True),
        ("3.1", None, "3.0", False),
        ("2", "2.0", None, True),
        ("unknown", "1", None, False),
    ],
)
def test_firmware_range_counts_numbers_not_letters(told: str, low: str | None, high: str | None, fits: bool):
    assert (unlike_map([field(low=low, high=high)], {"firmware": told}) == []) is fits


def test_site_protocols_both_carry_identity(demo: Site):
    assert {c.protocol for c in demo.connections if c.identity} == {Protocol.MODBUS_TCP, Protocol.OPC_UA}
