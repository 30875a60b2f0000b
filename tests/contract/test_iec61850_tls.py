"""MMS inside TLS (IEC 62351-3): libiec61850 inside stunnel, and devices not to believe."""

import dataclasses
from pathlib import Path

import pytest

from connectors.field import FieldIO
from connectors.iec61850.client import Iec61850Link
from connectors.link import LinkError, Untrusted
from connectors.point_map import point_codecs
from ems.clock import VirtualClock
from ems.commands import WriteOutcome
from ems.northbound import TlsFiles
from ems.site import Connection
from tests.contract.fake_ied import FakeIed
from tests.contract.libiec_plant import LibIecPlant
from tests.contract.plants import command, site_of
from tests.contract.test_iec61850_adversary import RIGHT, Rig
from tests.contract.test_modbus_tls import context_of
from tests.contract.test_northbound_tls import stunnel
from tests.contract.tls_pki import NOW, Authority


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def link_to(connection: Connection, tls: TlsFiles | None) -> Iec61850Link:
    with_files = dataclasses.replace(connection, tls=tls)
    codecs = list(point_codecs(with_files).values())
    return Iec61850Link(
        with_files, codecs, host="127.0.0.1", port=connection.port, timeout_s=1.0, now=lambda: NOW
    )


@pytest.mark.needs_server
async def test_libiec61850_inside_stunnel_is_read_and_operated(tmp_path, ca, require_program):
    plant = LibIecPlant()
    await plant.start()
    device = ca.signs("ied", hosts=("ied.example",))
    lines = (
        f"connect = 127.0.0.1:{plant.connection.port}\ncert = {device.certificate}\nkey = {device.key}\n"
        f"CAfile = {ca.file}\nverifyChain = yes\nrequireCert = yes\n"
    )
    async with stunnel(require_program("stunnel"), tmp_path, lines) as port:
        tls = ca.signs("ems").files(ca.file, "ied.example")
        connection = dataclasses.replace(plant.connection, port=port, tls=tls)
        io = FieldIO(site_of(connection), clock=VirtualClock(NOW))
        try:
            readings = {r.point: r for r in await io.read_all()}
            assert readings["dev.p_kw"].value == 12.5
            (result,) = await io.write([command("dev.run_request", 1.0)])
            assert result.outcome is WriteOutcome.CONFIRMED
            assert await plant.get("run_request") == 1.0
            assert list(io.expiring()) == []
        finally:
            await io.close()
            await plant.stop()


@pytest.mark.parametrize(
    ("made", "reason"),
    [({}, ""), ({"hosts": ("127.0.0.2",)}, "IP address mismatch")],
)
async def test_device_is_believed_by_its_certificate_alone(ca, made, reason):
    ied = FakeIed()
    await ied.start(context_of(ca, **made))
    link = link_to(Rig(ied).connection, ca.signs("ems").files(ca.file))
    if reason:
        with pytest.raises(Untrusted, match=reason):
            await link.connect()
    else:
        await link.connect()
        assert {p: v.value for p, v in (await link.read()).items()} == RIGHT
        assert [e.what for e in link.expiries][-1] == "the certificate of the device"
    await link.disconnect()
    await ied.stop()


async def test_device_without_tls_is_not_spoken_to(ca):
    ied = FakeIed()
    await ied.start()
    link = link_to(Rig(ied).connection, ca.signs("ems").files(ca.file))
    with pytest.raises(LinkError):
        await link.connect()
    assert ied.written == []
    await ied.stop()
