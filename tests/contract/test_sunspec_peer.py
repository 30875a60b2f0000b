"""The example of docs/sunspec.md against devices of libmodbus, whose registers were written down by hand."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome, WriteResult
from ems.site import Site
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.mangler import Mangler
from tests.contract.plants import command
from tests.contract.sunspec_image import END, battery, inverter, meter, text
from tests.contract.sunspec_peer import Slave, build_slave, example

MINE = ("pv_inverter", "battery", "poi_meter")
IMAGES = dict(zip(MINE, (inverter, battery, meter), strict=True))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_slave(tmp_path_factory.mktemp("slave"))


@pytest.fixture
def devices(program: Path, tmp_path: Path) -> Iterator[dict[str, Slave]]:
    running = {name: Slave(program, image(), tmp_path) for name, image in IMAGES.items()}
    yield running
    for slave in running.values():
        slave.stop()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = example(tmp_path_factory.mktemp("site") / "example")
    return dataclasses.replace(site, connections=tuple(c for c in site.connections if c.id in MINE))


class Desk:
    """A FieldIO on these devices, polled once a second of a clock that the test moves."""

    def __init__(self, plant: Site, devices: dict[str, Slave], only: str = "") -> None:
        kept = tuple(c for c in plant.connections if only in ("", c.id))
        self.clock, self.told = VirtualClock(T0), list[str]()
        self.io = FieldIO(
            dataclasses.replace(plant, connections=kept),
            clock=self.clock,
            addresses={name: ("127.0.0.1", slave.port) for name, slave in devices.items()},
            on_event=lambda at, kind, fields: self.told.append(f"{kind} {fields}"),
        )

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def until(self, point: str, good: bool = True) -> dict[str, Reading]:
        readings = await self.read()
        for _ in range(300):
            if readings[point].is_good is good:
                return readings
            await wall_sleep(0.01)
            readings = await self.read()
        raise AssertionError(f"{point}: {readings[point]}, {self.told}")

    async def write(self, point: str, value: float) -> WriteResult:
        (result,) = await self.io.write([command(point, value)])
        return result


KNOWN = {
    "pv1.p_kw": 234.5,  # 2345 x 10^2 W
    "pv1.state": 1.0,
    "pv1.remote": 1.0,
    "pv1.p_limit_kw": 333.0,  # 555 x 10^-1 % of 6000 x 10^2 W
    "pv1.limit_timeout": 15.0,
    "pv1.limit_in_silence": 60.0,  # 100 x 10^-1 % of 600 kW
    "pv1.heartbeat": 5.0,
    "pv1.alive": 77.0,
    "bess1.p_kw": -123.4,
    "bess1.soc": 0.615,
    "bess1.p_charge_kw_max": 480.0,
    "bess1.p_discharge_kw_max": 500.0,
    "bess1.state": 1.0,
    "bess1.p_set_kw": 0.0,  # not enabled
    "bess1.set_timeout": 0.0,
    "bess1.set_in_silence": 0.0,
    "bess1.heartbeat": 3.0,
    "grid1.p_kw": 87.65,
    "grid1.v_pu": 229.8 * 0.00433,
    "grid1.f_hz": 49.98,
}


@pytest.mark.needs_server
async def test_values_by_hand_are_what_is_read_wherever_the_chain_begins(plant, devices):
    desk = Desk(plant, devices)
    readings = await desk.read()
    assert {r.quality for r in readings.values()} == {Quality.GOOD}
    assert {p: r.value for p, r in readings.items()} == pytest.approx(KNOWN)
    assert desk.io.identities()["pv_inverter"] == {
        "manufacturer": "Example Power",
        "model": "PV-600",
        "firmware": "3.4.1",
        "serial": "SN-0815",
        "models": "40000: 1/66 701/153 702/50 704/65 715/7",
    }
    assert desk.io.identities()["poi_meter"]["models"] == "0: 1/65 203/105"
    await desk.io.close()


@pytest.mark.needs_server
def test_another_client_reads_the_same_of_the_same_registers(devices):
    """pysunspec2 decodes the image too, so that the table above is not only what we make of it."""

    def points(name: str, base: int, unit: int = 1) -> dict[int, list]:
        device = SunSpecModbusClientDeviceTCP(
            slave_id=unit, ipaddr="127.0.0.1", ipport=devices[name].port, timeout=2
        )
        device.base_addr_list = [base]
        device.scan()
        device.close()
        return {m: list(v) for m, v in device.models.items() if isinstance(m, int)}

    pv, bess, poi = points("pv_inverter", 40000), points("battery", 50000), points("poi_meter", 0)
    assert pv[701][0].W.cvalue == 234500
    assert pv[704][0].WMaxLimPct.cvalue * pv[702][0].WMaxRtg.cvalue / 100 == pytest.approx(333000)
    assert pv[704][0].WMaxLimPctRvrtTms.cvalue == 15
    assert pv[715][0].DERHb.cvalue == 77
    assert bess[701][0].W.cvalue == -123400
    assert bess[802][0].SoC.cvalue == pytest.approx(61.5)
    assert bess[702][0].WChaRteMax.cvalue == 480000
    assert poi[203][0].W.cvalue == 87650
    assert poi[203][0].PhV.cvalue == pytest.approx(229.8)
    assert poi[203][0].Hz.cvalue == pytest.approx(49.98)


@pytest.mark.needs_server
async def test_scale_factor_changes_at_run_time_value_and_factor_are_of_one_reading(plant, devices):
    desk = Desk(plant, devices, "pv_inverter")
    assert (await desk.read())["pv1.p_kw"].value == 234.5
    devices["pv_inverter"].put({40080: [23450], 40186: [1], 40227: [600], 40270: [3]})
    readings = await desk.read()
    assert readings["pv1.p_kw"].value == 234.5
    assert readings["pv1.p_limit_kw"].value == pytest.approx(333.0)
    devices["pv_inverter"].put({40186: [0]})
    assert (await desk.read())["pv1.p_kw"].value == pytest.approx(23.45)
    await desk.io.close()


@pytest.mark.needs_server
@pytest.mark.parametrize(
    ("change", "point"),
    [
        ({40080: [0x8000]}, "pv1.p_kw"),  # not implemented
        ({40186: [0x8000]}, "pv1.p_kw"),  # no scale factor
        ({40186: [11]}, "pv1.p_kw"),  # none that is allowed
        ({40186: [0xFFF5]}, "pv1.p_kw"),
        ({40074: [0xFFFF]}, "pv1.state"),
        ({40347: [0xFFFF, 0xFFFF]}, "pv1.alive"),
        ({40346: [2]}, "pv1.remote"),  # a symbol that nobody has defined
        ({40227: [0xFFFF]}, "pv1.p_limit_kw"),  # a hundred percent of nothing
        ({40227: [0]}, "pv1.p_limit_kw"),
        ({40291: [0xFFFF]}, "pv1.p_limit_kw"),  # whether it is enabled is not known
    ],
)
async def test_what_stands_for_no_number_is_bad_and_the_others_stay(plant, devices, change, point):
    desk = Desk(plant, devices, "pv_inverter")
    await desk.read()
    devices["pv_inverter"].put(change)
    readings = await desk.read()
    assert (readings[point].value, readings[point].quality) == (None, Quality.DEVICE_BAD)
    gone = {"pv1.limit_in_silence"} if 40227 in change else set[str]()
    assert all(r.is_good for p, r in readings.items() if p not in {point, *gone})
    await desk.io.close()


@pytest.mark.needs_server
async def test_disabled_limit_reads_as_none_and_a_missing_model_as_bad(plant, devices):
    devices["pv_inverter"].put({40291: [0], 40344: END})
    desk = Desk(plant, devices, "pv_inverter")
    readings = await desk.read()
    assert readings["pv1.p_limit_kw"].value == pytest.approx(600.0)
    assert readings["pv1.remote"].quality is Quality.DEVICE_BAD
    result = await desk.write("pv1.heartbeat", 6.0)
    assert (result.outcome, result.detail) == (WriteOutcome.NOT_SENT, "the device has no model 715")
    await desk.io.close()


@pytest.mark.needs_server
async def test_models_move_under_an_open_connection_nothing_is_misread_and_nothing_written(plant, devices):
    """A firmware update puts model 702 behind 704: what was commissioned is not what is there."""
    desk = Desk(plant, devices, "pv_inverter")
    await desk.read()
    (device,) = desk.io._devices.values()
    device.commissioned = {k: str(v) for k, v in device.told.items()}
    moved = {
        40225: [704, 65, *[0xFFFF] * 65],
        40239: [1, 444, 100, 1, 0, 15, 0, 12],
        40279: [0xFFFF, 2, 0xFFFF],
        40292: [702, 50, 6000, *[0xFFFF] * 49],
        40337: [2],
    }
    devices["pv_inverter"].put(moved)
    readings = await desk.read()
    assert {r.quality for r in readings.values()} == {Quality.COMM_FAILED}
    assert any("is not at register" in t for t in desk.told)
    readings = await desk.until("pv1.p_kw")
    assert readings["pv1.p_limit_kw"].value == pytest.approx(266.4)
    assert "was commissioned" in desk.io.strangers()["pv_inverter"]
    result = await desk.write("pv1.p_limit_kw", 100.0)
    assert result.outcome is WriteOutcome.NOT_SENT
    assert "is not written to: models is" in result.detail
    await desk.io.close()


@pytest.mark.needs_server
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({40000: [0x5375, 0x6E54]}, "'SunS' is not at 40000"),
        ({40071: [154]}, "behind model 50, of 6000 registers from 40226, there is no register"),
        ({40002: [2]}, "comes model 2 at register 40002"),
        ({40345: [60000]}, "leaves the registers"),
        ({40345: [8]}, "behind model 715, of 8 registers from 40344, there is no register 40354"),
        ({40353: [0, 0]}, "behind model 715, of 7 registers from 40344, comes model 0"),
        ({40353: [64001, 20]}, "there is no register 40375"),
    ],
)
async def test_chain_that_cannot_be_is_told_and_nothing_believed(plant, devices, change, why):
    devices["pv_inverter"].put(change)
    desk = Desk(plant, devices, "pv_inverter")
    readings = await desk.read()
    assert {(r.value, r.quality) for r in readings.values()} == {(None, Quality.COMM_FAILED)}
    assert any(why in t for t in desk.told), desk.told
    await desk.io.close()


@pytest.mark.needs_server
@pytest.mark.parametrize(("at", "length"), [(40071, 149), (40226, 48), (40278, 0)])
async def test_length_that_no_such_model_has_its_points_are_bad(plant, devices, at, length):
    devices["pv_inverter"].put({at: [length], at + 1 + length: END})
    desk = Desk(plant, devices, "pv_inverter")
    readings = await desk.read()
    needs = {40071: {"pv1.p_kw", "pv1.state"}, 40226: {"pv1.p_limit_kw"}, 40278: {"pv1.p_limit_kw"}}
    for point in needs[at] | {"pv1.remote"}:
        assert (readings[point].value, readings[point].quality) == (None, Quality.DEVICE_BAD)
    assert (await desk.write("pv1.p_limit_kw", 100.0)).outcome is WriteOutcome.NOT_SENT
    await desk.io.close()


@pytest.mark.needs_server
async def test_firmware_the_map_is_not_for_nothing_is_believed(plant, devices):
    devices["pv_inverter"].put({40044: text(8, "4.0")})
    desk = Desk(plant, devices, "pv_inverter")
    readings = await desk.read()
    assert {r.quality for r in readings.values()} == {Quality.DEVICE_BAD}
    assert "firmware is '4.0', the map is for 3.0 to 3.9" in desk.io.strangers()["pv_inverter"]
    await desk.io.close()


@pytest.mark.needs_server
async def test_write_limit_value_and_reversion_go_before_what_enables_them(plant, devices):
    desk = Desk(plant, devices, "pv_inverter")
    await desk.read()
    result = await desk.write("pv1.p_limit_kw", 150.0)
    assert result.outcome is WriteOutcome.CONFIRMED, result.detail
    # 25.0 % of 600 kW, then 10.0 % (60 kW), enabled, after 15 s; then the limit is enabled
    assert devices["pv_inverter"].writes(2) == [[40292, 250, 100, 1, 0, 15], [40291, 1]]
    readings = await desk.read()
    assert readings["pv1.p_limit_kw"].value == pytest.approx(150.0)
    await desk.io.close()


@pytest.mark.needs_server
async def test_write_power_setpoint_is_not_active_before_its_mode_and_reversion_are_right(plant, devices):
    desk = Desk(plant, devices, "battery")
    await desk.read()
    assert (await desk.write("bess1.p_set_kw", -99.97)).outcome is WriteOutcome.CONFIRMED
    # enabled reversion after 15 s; -1000 x 10^2 W with reversion to 0; mode watts; enabled
    assert devices["battery"].writes(4) == [
        [50307, 1, 0, 15],
        [50301, 0xFFFF, 0xFC18, 0, 0],
        [50300, 1],
        [50299, 1],
    ]
    assert (await desk.read())["bess1.p_set_kw"].value == pytest.approx(-100.0)
    assert (await desk.write("bess1.p_set_kw", 50.0)).outcome is WriteOutcome.CONFIRMED
    assert devices["battery"].writes(3) == [[50307, 1, 0, 15], [50301, 0, 500, 0, 0], [50299, 1]]
    assert (await desk.write("bess1.heartbeat", 41.0)).outcome is WriteOutcome.CONFIRMED
    assert devices["battery"].writes(1) == [[50372, 41]]
    await desk.io.close()


@pytest.mark.needs_server
async def test_write_uses_the_scale_factor_and_rating_of_this_moment(plant, devices):
    desk = Desk(plant, devices, "pv_inverter")
    await desk.read()
    devices["pv_inverter"].put({40331: [0xFFFE], 40227: [3000]})  # after the poll: hundredths, 300 kW
    result = await desk.write("pv1.p_limit_kw", 150.0)
    assert result.outcome is WriteOutcome.CONFIRMED, result.detail
    assert devices["pv_inverter"].writes(2) == [[40292, 5000, 2000, 1, 0, 15], [40291, 1]]
    result = await desk.write("pv1.p_limit_kw", 450.0)
    assert result.outcome is WriteOutcome.NOT_SENT
    assert "150 % of 702.WMaxRtg" in result.detail
    await desk.io.close()


@pytest.mark.needs_server
async def test_write_without_the_timer_that_was_agreed_is_not_sent(plant, devices):
    devices["pv_inverter"].put({40295: [0xFFFF, 0xFFFF]})
    desk = Desk(plant, devices, "pv_inverter")
    await desk.read()
    result = await desk.write("pv1.p_limit_kw", 150.0)
    assert result.outcome is WriteOutcome.NOT_SENT
    assert "has no 704.WMaxLimPctRvrtTms: it cannot do in silence what is agreed" in result.detail
    await desk.io.close()


@pytest.mark.needs_server
@pytest.mark.parametrize("seed", [1, 2])
async def test_spoilt_answers_no_value_is_taken_that_the_device_does_not_hold(plant, devices, seed):
    """Late, torn, of another unit, or the one before: nothing of it is a value, whatever model it would fit.

    An answer of the request before with the right length cannot be told from the right one; the models of
    this device are of different lengths, so that their requests are.
    """
    line = Mangler(devices["pv_inverter"].port, seed, share=0.04, late_s=0.12)
    await line.start()
    kept = tuple(c for c in plant.connections if c.id == "pv_inverter")
    clock, good = VirtualClock(T0), 0
    io = FieldIO(
        dataclasses.replace(plant, connections=kept),
        clock=clock,
        addresses={"pv_inverter": ("127.0.0.1", line.port)},
        timeout_s=0.06,
        back_off_s_max=0.02,
    )
    for _ in range(120):
        clock.advance(1.0)
        for reading in await io.read_all():
            if reading.is_good:
                good += 1
                assert reading.value == pytest.approx(KNOWN[reading.point]), reading
        if all(d.health.value == "down" for d in io._devices.values()):
            await wall_sleep(0.02)
    assert good > 100
    assert len(line.spoilt) >= 5
    await io.close()
    await line.stop()
