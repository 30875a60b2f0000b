"""`ems browse` of OPC UA servers: two of other makes than our client's tree walk, plain and protected."""

import dataclasses
import re
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from asyncua import ua

from cli.main import main
from connectors.link import LinkError
from connectors.opcua import browse as browsing
from connectors.opcua.browse import Line, browse
from ems.site import Connection
from ems.ua_path import browse_path, path_text
from tests.contract.node_plant import NodeUaPlant
from tests.contract.plants import START, URI, WRITABLE, OpcUaPlant

ORGANIZES, HAS_COMPONENT = ua.NodeId.from_string("i=35"), ua.NodeId.from_string("i=47")


async def held(connection: Connection) -> dict[str, Line]:
    lines = [line async for line in browse(connection, "127.0.0.1", connection.port)]
    assert len({line.place for line in lines}) == len(lines), "each once"
    return {line.place: line for line in lines}


@pytest.fixture
async def plant() -> AsyncIterator[OpcUaPlant]:
    one = OpcUaPlant()
    one.connection = dataclasses.replace(one.connection, timeout_s=5.0)
    await one.start()
    yield one
    await one.stop()


def the_same(lines: dict[str, Line], codecs: dict, writable: Collection[str]) -> None:
    """Every point of a map is there under its address, with its type and value, and what may be written."""
    for point, codec in codecs.items():
        name = point.removeprefix("dev.")
        line = lines[codec.point.address]
        assert line.type_name == codec.raw.name, line
        shown = line.about.split("; ")
        assert float({"True": "1", "False": "0"}.get(shown[0], shown[0])) == pytest.approx(
            float(codec.raw_reported(START[name])), rel=1e-5
        )
        assert ("writable" in shown) is (name in writable), line


async def test_every_point_of_a_map_is_listed_as_the_map_names_it(plant: OpcUaPlant):
    lines = await held(plant.connection)
    the_same(lines, plant.codecs, WRITABLE)
    assert not any(place.startswith("i=22") for place in lines), "not what the server tells of itself"
    told = lines[f"nsu={URI};s=dev.p_kw"].about.split("; ")[-1]
    assert browse_path(told)[-1][1] == "p_kw", "the path can be put into a map as well"


@pytest.mark.needs_server
async def test_server_of_node_opcua_is_browsed_over_a_protected_channel():
    node = NodeUaPlant()
    await node.start()
    try:
        lines = await held(dataclasses.replace(node.connection, timeout_s=20.0))
        the_same(lines, node.codecs, START)  # this server lets us write all of them
        with pytest.raises(LinkError, match="cannot connect"):
            await held(dataclasses.replace(node.connection, security=None, timeout_s=5.0))
    finally:
        await node.stop()


async def test_folders_arrays_texts_and_circles_are_walked_once(plant: OpcUaPlant, monkeypatch):
    """More references than fit into an answer, two ways to one node, and what a device calls its things."""
    monkeypatch.setattr(browsing, "REFERENCES", 3)
    assert plant.server is not None
    index = await plant.server.get_namespace_index(URI)
    folder = await plant.server.nodes.objects.add_folder(index, "a/b {&}")
    for k in range(10):
        await folder.add_variable(index, f"x{k}", [1.5, 2.5, float(k)])
    text = await folder.add_variable(index, "words", "two\x1b[2Jlines\n" + "x" * 90)
    below = await folder.add_folder(index, "below")
    await below.add_reference(folder, HAS_COMPONENT, forward=True)  # back to where we came from
    await plant.server.nodes.objects.add_reference(text, ORGANIZES, forward=True)
    lines = list((await held(plant.connection)).values())
    assert [line.type_name for line in lines].count("Double[3]") == 10
    (words,) = [line for line in lines if "words" in line.about]
    assert words.about.startswith("two?[2Jlines?xxx")
    assert words.about.isprintable()
    (x3,) = [line for line in lines if line.about.endswith("/x3")]
    path = x3.about.split("; ")[-1]
    assert browse_path(path) == ((URI, "a/b {&}"), (URI, "x3"))


async def test_server_without_end_is_left(plant: OpcUaPlant, monkeypatch):
    monkeypatch.setattr(browsing, "NODES_MAX", 5)
    with pytest.raises(LinkError, match="more than 5 nodes"):
        await held(plant.connection)


async def test_nobody_there_is_told():
    nobody = dataclasses.replace(OpcUaPlant().connection, timeout_s=1.0)
    with pytest.raises(LinkError, match="cannot connect"):
        await held(nobody)


async def test_command_prints_lines_for_a_map(plant: OpcUaPlant, capsys, tmp_path: Path):
    import asyncio

    here = f"127.0.0.1:{plant.connection.port}"
    code = await asyncio.to_thread(main, ["browse", here, "--opc-ua", "/plant", "--only", "p_kw"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert re.search(rf"nsu={URI};s=dev\.p_kw +Float +\S+; path=p_kw\n", out), out
    site = tmp_path / "site.yaml"
    site.write_text(
        f"""bess: {{bess1: {{}}}}
connections:
  pcs:
    protocol: opc_ua
    host: 127.0.0.1
    port: {plant.connection.port}
    endpoint: /plant
    poll_s: 1
    timeout_s: 1
    asset: bess1
    map: pcs.yaml
"""
    )
    point = f'{{address: "nsu={URI};s=dev.soc", type: Float, range: [0, 1], age_s_max: 3}}'
    (tmp_path / "pcs.yaml").write_text(f"device: A\nprotocol: opc_ua\npoints:\n  soc: {point}\n")
    code = await asyncio.to_thread(main, ["browse", str(site), "--device", "pcs", "--only", "s=dev.soc"])
    said = capsys.readouterr()
    assert (code, said.out.count("\n")) == (0, 1), said
    code = await asyncio.to_thread(main, ["browse", str(site), "--device", "pcs", "--only", "nothing-such"])
    said = capsys.readouterr()
    assert (code, said.out) == (1, ""), said.err
    code = await asyncio.to_thread(main, ["browse", here, "--opc-ua", "--dnp3", "3"])
    assert code != 0
    assert "--dnp3: found with --opc-ua" in capsys.readouterr().err


@pytest.mark.parametrize(
    "steps",
    [
        (("urn:a", "Plant"), ("urn:a", "Meter")),
        (("urn:b", "Pl{a}nt"), ("urn:a", "a/b&c")),
        (("http://opcfoundation.org/UA/", "Server"), ("http://opcfoundation.org/UA/", "ServerStatus")),
        (("urn:b", "x"), ("http://opcfoundation.org/UA/", "EURange")),
    ],
)
def test_path_is_written_as_it_is_read(steps: tuple[tuple[str, str], ...]):
    assert browse_path(path_text(steps)) == steps
