"""Where devices are: serial ports, buses, hosts; and what is refused."""

import shutil
from pathlib import Path

import pytest

from dispatch.layout import layout_of
from ems.errors import ConfigError
from ems.site import Protocol, SerialLine
from ems.site_schema import load_site

DEMO = Path(__file__).parents[3] / "sites" / "demo"
GEN1 = "protocol: modbus_tcp\n    host: 127.0.0.1\n    port: 15022\n    unit_id: 1\n"
GEN2 = "protocol: modbus_tcp\n    host: 127.0.0.1\n    port: 15023\n    unit_id: 2\n"
SERIAL = "protocol: modbus_rtu\n    serial: {device: /dev/ttyUSB0, baud: 9600}\n    unit_id: %d\n"
GATEWAY = "protocol: modbus_rtu_tcp\n    host: 127.0.0.1\n    port: 15022\n    unit_id: %d\n"


def load(folder: Path, gen1: str, gen2: str):
    shutil.copytree(DEMO, folder, dirs_exist_ok=True)
    text = (folder / "site.yaml").read_text()
    assert text.count(GEN1) == text.count(GEN2) == 1
    (folder / "site.yaml").write_text(text.replace(GEN1, gen1).replace(GEN2, gen2))
    return load_site(folder / "site.yaml")


def test_two_units_on_one_serial_line_loaded_with_maps_made_for_modbus_tcp(tmp_path):
    site = load(tmp_path, SERIAL % 1, SERIAL % 2)
    first, second = (c for c in site.connections if c.protocol is Protocol.MODBUS_RTU)
    assert first.serial == SerialLine(device="/dev/ttyUSB0", baud=9600, parity="even", stop_bits=1)
    assert (first.host, first.port, second.unit_id) == ("", 0, 2)


def test_two_units_behind_one_gateway_loaded(tmp_path):
    site = load(tmp_path, GATEWAY % 1, GATEWAY % 2)
    assert sum(c.protocol is Protocol.MODBUS_RTU_TCP for c in site.connections) == 2


@pytest.mark.parametrize(
    ("gen1", "gen2", "key", "allowed"),
    [
        (SERIAL % 1, SERIAL % 1, "gen2_controller.serial", "one connection, one writer per device"),
        (SERIAL % 1, (SERIAL % 2).replace("9600", "19200"), "gen2_controller.serial", "the same settings"),
        (SERIAL % 0, SERIAL % 2, "gen1_controller.unit_id", "1 to 247 on a bus"),
        (GATEWAY % 1, GEN2.replace("15023", "15022"), "gen2_controller.port", "another port"),
        (GEN1.replace("modbus_tcp", "modbus_rtu"), GEN2, "gen1_controller.serial", "serial with modbus_rtu"),
        (SERIAL.replace("rtu", "tcp") % 1, GEN2, "gen1_controller.serial", "no serial with modbus_tcp"),
        ((SERIAL % 1).replace("9600", "9601"), GEN2, "gen1_controller.serial.baud", "9600"),
    ],
)
def test_device_twice_or_placed_wrongly_refused_by_key(tmp_path, gen1, gen2, key, allowed):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, gen1, gen2)
    found = [p for p in caught.value.problems if p.key == f"connections.{key}"]
    assert found, caught.value.problems
    assert allowed in found[0].allowed


def with_meter(folder: Path, changed: str) -> Path:
    """The demonstration site with another word on the meter's power."""
    shutil.copytree(DEMO, folder, dirs_exist_ok=True)
    for path in sorted((folder / "maps").glob("*.yaml")):
        lines = path.read_text().splitlines()
        mine = [i for i, x in enumerate(lines) if x.strip().startswith(changed.partition(":")[0] + ":")]
        for i in mine:
            lines[i] = lines[i].replace("age_s_max:", f"{changed.partition(':')[2].strip()}, age_s_max:")
        path.write_text("\n".join(lines))
    return folder / "site.yaml"


def test_rate_of_a_measurement_is_read_in_its_own_unit(tmp_path):
    site = load_site(with_meter(tmp_path, "soc: rate_per_s_max: 1 %"))
    rates = {m.point: m.rate_per_s_max for c in site.connections for m in c.points if m.rate_per_s_max}
    assert rates == {"bess1.soc": pytest.approx(0.01)}
    site = load_site(with_meter(tmp_path / "other", "p_kw: rate_per_s_max: 0.3 MW"))
    rates = {m.point: m.rate_per_s_max for c in site.connections for m in c.points if m.rate_per_s_max}
    assert rates["bess1.p_kw"] == pytest.approx(300.0)
    assert layout_of(site).rate_of == rates


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ("p_kw: rate_per_s_max: 0 kW", "more than 0"),
        ("p_kw: rate_per_s_max: -5 kW", "more than 0"),
        ("p_kw: rate_per_s_max: 5 Hz", "one number in kW"),
        ("state: rate_per_s_max: 1", "only measurements move steadily"),
        ("p_set_kw: rate_per_s_max: 1 kW", "only measurements move steadily"),
        ("p_discharge_kw_max: rate_per_s_max: 1 kW", "only measurements move steadily"),
    ],
)
def test_rate_that_makes_no_sense_is_refused_by_key(tmp_path, changed, allowed):
    with pytest.raises(ConfigError) as caught:
        load_site(with_meter(tmp_path, changed))
    found = [p for p in caught.value.problems if p.key.endswith("rate_per_s_max")]
    assert found, caught.value.problems
    assert allowed in found[0].allowed
