"""`ems browse`: what an IEC 61850 device holds, from libiec61850 and from one that lists nonsense."""

import asyncio
import re

import pytest
from open61850.mms import pdu
from open61850.server import protocol as served

from cli.main import main
from connectors.iec61850.browse import browse
from connectors.link import LinkError
from tests.contract.libiec_plant import LibIecServer
from tests.contract.test_iec61850_adversary import ber_id, rig

__all__ = ["rig"]


@pytest.mark.needs_server
async def test_ems_browse_lists_what_the_device_holds(capsys):
    server = LibIecServer()
    await server.start()
    await server.ask("listen")
    await server.ask("put", kind="int", ref="BESSDER/MMXU1.TotVA.units.multiplier", value=3)
    assert await asyncio.to_thread(main, ["browse", f"127.0.0.1:{server.port}", "--only", "MMXU1.TotW"]) == 0
    assert capsys.readouterr().out.split() == ["BESSDER/MMXU1.TotW.mag.f", "[MX]", "FLOAT32"]
    assert await asyncio.to_thread(main, ["browse", f"127.0.0.1:{server.port}"]) == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    held = {fields[0]: fields[1:] for fields in lines}
    assert held["BESSDER/GGIO1.AnSbo [CO]"] == ["FLOAT32", "select before operate, normal security"]
    assert held["BESSDER/MMXU1.TotVA.mag.f [MX]"] == ["FLOAT32", "times 10^3"]
    assert held["BESSDER/LPHD1.PhyNam.vendor [DC]"] == ["string"]
    assert held["BESSDER/GGIO1.Pos1.stVal [ST]"] == ["Dbpos"]
    assert held["BESSDER/LLN0.urcbParts [RP]"] == ["report control block"]
    assert await asyncio.to_thread(main, ["browse", f"127.0.0.1:{server.port}", "--only", "nothing"]) == 1
    await server.stop()


async def test_browse_lists_what_a_map_may_name_and_nothing_that_is_no_name(rig):
    rig.ied.names = [
        *rig.ied.names,
        "GGIO1$ST$\x1b[2J",
        "GGIO1$ST$Lost",
        "GGIO1",
        "GGIO1$ST",
        "LLN0$RP$urcb01",
    ]
    lines = [(h.reference, h.type_name, h.about) async for h in browse("127.0.0.1", rig.ied.port, 1.0)]
    assert lines == [
        ("LD0/GGIO1.SPCSO1 [CO]", "BOOLEAN", "direct, enhanced security"),
        ("LD0/GGIO1.WSet.setMag.f [SP]", "FLOAT32", ""),
        ("LD0/GGIO1.IntIn1.stVal [ST]", "INT32", ""),
        ("LD0/GGIO1.SPCSO1.stVal [ST]", "BOOLEAN", ""),
        ("LD0/MMXU1.TotVAr.mag.f [MX]", "FLOAT32", ""),
        ("LD0/MMXU1.TotW.mag.f [MX]", "FLOAT32", ""),
        ("LD0/LLN0.urcb01 [RP]", "", "report control block"),
    ]
    assert rig.ied.written == []


async def test_browse_list_without_end_is_refused(rig):
    rig.ied.spoils = ("names",)
    rig.ied.spoil = lambda message: pdu.wrap(
        served.confirmed_response(ber_id(pdu.unwrap(message)), 1, served.get_name_list_response([], True))
    )
    with pytest.raises(LinkError, match="without end"):
        [h async for h in browse("127.0.0.1", rig.ied.port, 1.0)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["h:x"], "HOST or HOST:PORT"),
        ([":102"], "HOST or HOST:PORT"),
        (["h", "--timeout", "0"], "--timeout: found 0"),
        (["127.0.0.1:1"], "127.0.0.1:1: "),
    ],
)
def test_browse_that_cannot_be_is_told(arguments, said, capsys):
    assert main(["browse", *arguments]) == 2
    assert said in capsys.readouterr().err
