"""A simulated OPC UA device: nodes from the point map, values pushed from the world, writes into it."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from connectors.point_map import PointCodec
from ems.errors import EmsError
from ems.site import IdentityField
from ems.ua_path import browse_path, is_path
from sim.world import World
from sim.writes import WriteVerdict

logging.getLogger("asyncua").setLevel(logging.CRITICAL)
VALUE = AttributeIds.Value
REFUSAL = {
    WriteVerdict.UNKNOWN_POINT: StatusCodes.BadNodeIdUnknown,
    WriteVerdict.READ_ONLY: StatusCodes.BadNotWritable,
    WriteVerdict.BAD_VALUE: StatusCodes.BadOutOfRange,
    WriteVerdict.SILENT: StatusCodes.BadNoCommunication,
    WriteVerdict.REFUSED: StatusCodes.BadInvalidState,
}


class UaDevice:
    """One OPC UA server over a world.

    Parameters
    ----------
    world : the plant.
    codecs : points of the server, by the map of its connection.
    url : endpoint, e.g. opc.tcp://127.0.0.1:48401/meter.
    identity : what it says it is.
    """

    def __init__(
        self,
        world: World,
        codecs: Sequence[PointCodec],
        url: str,
        identity: Sequence[tuple[IdentityField, str]] = (),
    ) -> None:
        self._world = world
        self._codecs = tuple(codecs)
        self._url = url
        self._identity = tuple(identity)
        self._server = Server()
        self._nodes: dict[str, ua.NodeId] = {}
        self._writable: dict[ua.NodeId, PointCodec] = {}
        self._store = self._server.iserver.aspace.write_attribute_value

    async def start(self) -> None:
        """Build the address space and listen.

        Raises
        ------
        EmsError : the port is in use.
        """
        server = self._server
        await server.init()
        server.set_endpoint(self._url)
        server.set_server_name("simulated device")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for codec in self._codecs:
            await self._add(codec)
        for field, text in self._identity:
            folder, node_id, name = await self._place(field.address)
            raw = text if field.data_type == "string" else int(text)
            kind = ua.VariantType["String" if field.data_type == "string" else field.data_type]
            await folder.add_variable(node_id, name, raw, varianttype=kind)
        server.iserver.aspace.write_attribute_value = self._write  # type: ignore[method-assign]
        await self.publish()
        try:
            await server.start()
        except OSError as error:
            raise EmsError(f"cannot listen on {self._url}: {error.strerror}") from error

    async def stop(self) -> None:
        """Close every session and the socket."""
        await self._server.stop()

    async def publish(self) -> None:
        """Put the world's present values into the nodes."""
        readings, at = self._world.readings(), self._world.scenario.at(self._world.now_s)
        for codec in self._codecs:
            await self._push(codec, readings, at)

    async def _push(self, codec: PointCodec, readings: Mapping[str, float], at: datetime) -> None:
        point = codec.point.point
        good = point in readings
        raw = codec.raw_reported(readings.get(point))
        data = ua.DataValue(
            Value=ua.Variant(raw, ua.VariantType[codec.raw.name]),
            StatusCode=status(StatusCodes.Good if good else StatusCodes.BadNoCommunication),
            SourceTimestamp=at,  # type: ignore[arg-type]
        )
        await self._store(self._nodes[point], VALUE, data)

    async def _add(self, codec: PointCodec) -> None:
        folder, node_id, name = await self._place(codec.point.address)
        raw = codec.raw_reported(0.0)
        node = await folder.add_variable(
            node_id,
            name,
            raw,
            varianttype=ua.VariantType[codec.raw.name],
        )
        self._nodes[codec.point.point] = node_id
        if codec.point.writable:
            await node.set_writable()
            self._writable[node_id] = codec

    async def _place(self, address: str) -> tuple[Node, ua.NodeId, ua.QualifiedName]:
        """Folder, node id and browse name of an address; the folders of a browse path are made on the way."""
        folder = self._server.nodes.objects
        if not is_path(address):
            node_id = await self._node_id(address)
            return folder, node_id, ua.QualifiedName(str(node_id.Identifier), node_id.NamespaceIndex)
        *way, (uri, last) = browse_path(address)
        for step_uri, name in way:
            step = ua.QualifiedName(name, await self._server.register_namespace(step_uri))
            known = [c for c in await folder.get_children() if await c.read_browse_name() == step]
            folder = (
                known[0]
                if known
                else await folder.add_folder(ua.NodeId(ua.Int32(0), step.NamespaceIndex), step)
            )
        index = await self._server.register_namespace(uri)
        return folder, ua.NodeId.from_string(f"ns={index};s={address}"), ua.QualifiedName(last, index)

    async def _node_id(self, address: str) -> ua.NodeId:
        if address.startswith("nsu="):
            uri, _, rest = address.removeprefix("nsu=").partition(";")
            return ua.NodeId.from_string(f"ns={await self._server.register_namespace(uri)};{rest}")
        return ua.NodeId.from_string(address)

    async def _write(self, nodeid: ua.NodeId, attr: Any, value: ua.DataValue) -> ua.StatusCode:
        """A client writes: the world decides, and the answer says what it decided."""
        codec = self._writable.get(nodeid)
        if codec is None or attr != VALUE:
            return await self._store(nodeid, attr, value)
        variant = value.Value
        if variant is None or variant.VariantType is not ua.VariantType[codec.raw.name]:
            return status(StatusCodes.BadTypeMismatch)
        decoded = codec.from_raw(variant.Value)
        if decoded.value is None:
            return status(StatusCodes.BadOutOfRange)
        verdict = self._world.write(codec.point.point, decoded.value)
        if verdict is not WriteVerdict.ACCEPTED:
            return status(REFUSAL[verdict])
        world = self._world
        await self._push(codec, world.readings(), world.scenario.at(world.now_s))
        return status(StatusCodes.Good)


def status(code: int) -> ua.StatusCode:
    """An OPC UA status of this code."""
    return ua.StatusCode(ua.UInt32(code))
