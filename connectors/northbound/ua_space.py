"""The plant as nodes: organisation / portfolio / plant / subsystem / asset / point, and the image in them.

Node ids are names that stay: of a value its own name (`bess1.soc`, `limit.dso`), of a folder its path. They
do not move when an asset is put into another subsystem.
"""

import math
from collections.abc import Mapping
from datetime import datetime

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.internal_server import InternalServer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from connectors.northbound.image import Image, Shown
from ems.northbound_names import ANSWER, ANSWERS, Name, names
from ems.site import Site
from ems.telemetry import Quality

UNITS_URI = "http://www.opcfoundation.org/UA/units/un/cefact"
# UNECE Recommendation 20, as OPC 10000-8 (1.05), 5.6.4.3 numbers its codes; display, code, description
UNITS = {
    "kW": ("KWT", "kilowatt"),
    "kvar": ("KVR", "kilovar"),
    "A": ("AMP", "ampere"),
    "Hz": ("HTZ", "hertz"),
    "L": ("LTR", "litre"),
    "degC": ("CEL", "degree Celsius"),
    "h": ("HUR", "hour"),
}
PER_UNIT = "pu"  # has no code: 1 is the rated value
STATUS = {
    Quality.GOOD: StatusCodes.Good,
    Quality.STALE: StatusCodes.UncertainLastUsableValue,
    Quality.OUT_OF_RANGE: StatusCodes.BadOutOfRange,
    Quality.NOT_FINITE: StatusCodes.BadNoData,
    Quality.COMM_FAILED: StatusCodes.BadNoCommunication,
    Quality.DEVICE_BAD: StatusCodes.BadDeviceFailure,
    Quality.FROZEN: StatusCodes.UncertainLastUsableValue,
}
READ, READ_WRITE = 1, 3  # access levels


class Space:
    """The nodes of one server.

    Parameters
    ----------
    told : limits that may be written here.
    """

    def __init__(self, iserver: InternalServer, site: Site, index: int, told: tuple[str, ...]) -> None:
        self._iserver, self._site, self._index, self._told = iserver, site, index, told
        self._values: dict[str, ua.NodeId] = {}
        self._shown: dict[str, tuple[Shown, bool]] = {}
        self._answers: dict[str, int] = {}
        self.limits: dict[ua.NodeId, str] = {}  # nodes that may be written -> limit

    async def build(self) -> None:
        """Make every node; none is ever made or taken away later."""
        h = self._site.hierarchy
        parent = ua.NodeId(ua.Int32(ObjectIds.ObjectsFolder))
        path = ""
        for level in (h.organisation, h.portfolio, h.plant):
            path = f"{path}/{level}"
            parent = await self._folder(parent, path, level, ObjectIds.FolderType)
        plant, made = parent, dict[str, ua.NodeId]()
        for name in names(self._site):
            owner, _, short = name.name.partition(".")
            if owner not in made:
                above = plant
                if owner in h.subsystem_of:
                    subsystem = h.subsystem_of[owner]
                    if f"/{subsystem}" not in made:
                        made[f"/{subsystem}"] = await self._folder(
                            plant, f"{path}/{subsystem}", subsystem, ObjectIds.FolderType
                        )
                    above = made[f"/{subsystem}"]
                made[owner] = await self._folder(above, owner, owner, ObjectIds.BaseObjectType)
            await self._value(made[owner], name, short)
            if name.limit in self._told:
                answer = Name(name=f"{ANSWER}{name.limit}", unit="", meaning=ANSWERS)
                await self._value(made[owner], answer, f"{short}.answer")

    async def _folder(self, parent: ua.NodeId, identifier: str, name: str, kind: int) -> ua.NodeId:
        item = self._item(parent, identifier, name, ua.NodeClass.Object)
        item.ReferenceTypeId = ua.NodeId(ua.Int32(ObjectIds.Organizes))
        item.TypeDefinition = ua.NodeId(ua.Int32(kind))
        item.NodeAttributes = ua.ObjectAttributes(DisplayName=ua.LocalizedText(name))
        return await self._added(item)

    async def _value(self, parent: ua.NodeId, name: Name, short: str) -> None:
        writable = name.limit is not None and name.limit in self._told
        item = self._item(parent, name.name, short, ua.NodeClass.Variable)
        item.ReferenceTypeId = ua.NodeId(ua.Int32(ObjectIds.HasComponent))
        kind = ObjectIds.AnalogUnitType if name.unit else ObjectIds.BaseDataVariableType
        item.TypeDefinition = ua.NodeId(ua.Int32(kind))
        level = ua.Byte(READ_WRITE if writable else READ)
        item.NodeAttributes = ua.VariableAttributes(
            DisplayName=ua.LocalizedText(short),
            Description=ua.LocalizedText(name.meaning),
            DataType=ua.NodeId(ua.Int32(ObjectIds.Double)),
            Value=ua.Variant(0.0, ua.VariantType.Double),
            ValueRank=ua.Int32(-1),
            AccessLevel=level,
            UserAccessLevel=level,
        )
        node = await self._added(item)
        self._values[name.name] = node
        if writable and name.limit is not None:
            self.limits[node] = name.limit
        if name.unit:
            await Node(self._iserver.isession, node).add_property(
                ua.NodeId(ua.String(f"{name.name}.EngineeringUnits"), ua.Int16(self._index)),
                ua.QualifiedName("EngineeringUnits", ua.UInt16(0)),
                engineering_unit(name.unit),
            )

    def _item(
        self, parent: ua.NodeId, identifier: str, name: str, node_class: ua.NodeClass
    ) -> ua.AddNodesItem:
        return ua.AddNodesItem(
            ParentNodeId=ua.ExpandedNodeId(parent.Identifier, parent.NamespaceIndex),
            RequestedNewNodeId=ua.ExpandedNodeId(ua.String(identifier), ua.Int16(self._index)),
            BrowseName=ua.QualifiedName(name, ua.UInt16(self._index)),
            NodeClass=node_class,
        )

    async def _added(self, item: ua.AddNodesItem) -> ua.NodeId:
        (result,) = await self._iserver.isession.add_nodes([item])
        result.StatusCode.check()
        added: ua.NodeId = result.AddedNodeId
        return added

    async def show(self, image: Image, answers: Mapping[str, int]) -> None:
        """Put an image into the nodes; what has not changed is told to nobody."""
        for name in self._values:
            if name.startswith(ANSWER):
                continue
            shown = image.get(name)
            if self._shown.get(name) != (shown, True):
                self._shown[name] = shown, True
                await self._put(name, data_value(shown, image.at))
        for limit in self._told:
            answer = int(answers.get(limit, 0))
            if self._answers.get(limit) != answer and f"{ANSWER}{limit}" in self._values:
                self._answers[limit] = answer
                await self._put(f"{ANSWER}{limit}", ua.DataValue(ua.Variant(float(answer))))

    async def _put(self, name: str, value: ua.DataValue) -> None:
        await self._iserver.write_attribute_value(self._values[name], value)


def data_value(shown: Shown, at: datetime | None) -> ua.DataValue:
    """What is shown, with its quality as a status and the time it was measured or said."""
    code = STATUS[shown.quality]
    if shown.value is None or not math.isfinite(shown.value):
        code = code if code & 0x80000000 else StatusCodes.BadWaitingForInitialData
        variant = ua.Variant(None, ua.VariantType.Null)
    else:
        variant = ua.Variant(shown.value, ua.VariantType.Double)
    return ua.DataValue(
        Value=variant,
        StatusCode=ua.StatusCode(ua.UInt32(code)),
        SourceTimestamp=shown.at if shown.at is not None else at,  # type: ignore[arg-type]  # its DateTime
    )


def engineering_unit(unit: str) -> ua.EUInformation:
    """A unit of ours as OPC UA has it; -1 where UNECE has no code for it."""
    code, description = UNITS.get(unit, ("", "of its rated value" if unit == PER_UNIT else ""))
    return ua.EUInformation(
        NamespaceUri=UNITS_URI,
        UnitId=ua.Int32(int.from_bytes(code.encode(), "big") if code else -1),
        DisplayName=ua.LocalizedText("°C" if unit == "degC" else unit),
        Description=ua.LocalizedText(description),
    )
