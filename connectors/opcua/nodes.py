"""Where the points of a map are on one server: node ids of this session, and browse paths looked up."""

from collections.abc import Mapping, Sequence

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from connectors.opcua.limits import follow
from connectors.opcua.values import node_id
from ems.ua_path import browse_path, is_path

OBJECTS = ua.NodeId.from_string("i=85")
HIERARCHICAL = ua.NodeId.from_string("i=33")  # and all its kinds: Organizes, HasComponent, HasProperty
WHOLE = 0xFFFFFFFF  # of a target: the whole path was followed on this server
_NONE_THERE = frozenset({StatusCodes.BadNoMatch, StatusCodes.BadNodeIdUnknown})


async def resolve(
    session: UaSession, addresses: Mapping[str, str], namespaces: Sequence[str], *, paths_max: int
) -> dict[str, ua.NodeId]:
    """Node ids of addresses that are node ids or browse paths; a path that leads nowhere is left out.

    Parameters
    ----------
    addresses : by any name; the keys of the result.
    namespaces : of the server, by index, as read in this session.
    paths_max : how many paths the server takes in one request; 0: as many as there are.

    Raises
    ------
    UaError : a namespace is missing, or a path leads to more than one node or to another server.
    """
    out = {k: node_id(a, namespaces) for k, a in addresses.items() if not is_path(a)}
    paths = {k: a for k, a in addresses.items() if is_path(a)}
    asked = [_browse_path(a, namespaces) for a in paths.values()]
    results = await follow(session, asked, paths_max)
    for (key, address), result in zip(paths.items(), results, strict=True):
        found = _target(address, result)
        if found is not None:
            out[key] = found
    return out


def _browse_path(address: str, namespaces: Sequence[str]) -> ua.BrowsePath:
    elements = []
    for uri, name in browse_path(address):
        if uri not in namespaces:
            raise UaError(f"the server has no namespace {uri}")
        elements.append(
            ua.RelativePathElement(
                ReferenceTypeId=HIERARCHICAL,
                IsInverse=False,  # type: ignore[arg-type]  # asyncua's Boolean is a bool
                IncludeSubtypes=True,  # type: ignore[arg-type]
                TargetName=ua.QualifiedName(name, namespaces.index(uri)),
            )
        )
    return ua.BrowsePath(StartingNode=OBJECTS, RelativePath=ua.RelativePath(Elements=elements))


def _target(address: str, result: ua.BrowsePathResult) -> ua.NodeId | None:
    if result.StatusCode.value in _NONE_THERE:
        return None
    if not result.StatusCode.is_good():
        raise UaError(f"the server cannot follow {address}: {result.StatusCode.name}")
    found = [t for t in result.Targets if t.RemainingPathIndex == WHOLE]
    if len(found) != 1 or len(result.Targets) != 1:
        raise UaError(f"{address} leads to {len(result.Targets)} nodes of the server, not to one")
    target = found[0].TargetId
    return ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
