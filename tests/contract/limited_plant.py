"""An OPC UA server that takes few nodes in one request, and tells so or does not."""

from collections.abc import Callable, Sequence
from typing import Any

from asyncua import ua
from asyncua.server.internal_session import InternalSession
from asyncua.server.server import Server
from asyncua.ua.uaerrors import BadTooManyOperations

from tests.contract.plants import OpcUaPlant

NODES = {"read": 11705, "write": 11707, "items": 11714, "paths": 11712, "browse": 11710}


class LimitedPlant(OpcUaPlant):
    """Of what others ask, `sizes` are noted and `enforced` are refused beyond; 0 or nothing: no limit."""

    def __init__(self) -> None:
        super().__init__()
        self.enforced: dict[str, int] = {}
        self.sizes: dict[str, list[int]] = {}
        self.meanwhile: Callable[[str, int], Any] | None = None  # kind of request, how many came before it

    async def prepare(self, server: Server) -> None:
        create = server.iserver.create_session

        def session(*args: Any, **kwargs: Any) -> InternalSession:
            made = create(*args, **kwargs)
            return self._watched(made) if made.external else made

        server.iserver.create_session = session  # type: ignore[method-assign]

    def _watched(self, session: InternalSession) -> InternalSession:
        ways: dict[str, tuple[str, Callable[[Any], Sequence[Any]]]] = {
            "read": ("read", lambda p: p.NodesToRead),
            "write": ("write", lambda p: p.NodesToWrite),
            "items": ("create_monitored_items", lambda p: p.ItemsToCreate),
            "paths": ("translate_browsepaths_to_nodeids", lambda p: p),
            "browse": ("browse", lambda p: p.NodesToBrowse),
        }
        for kind, (name, nodes) in ways.items():
            setattr(session, name, self._guarded(kind, getattr(session, name), nodes))
        return session

    def _guarded(self, kind: str, own: Any, nodes: Callable[[Any], Sequence[Any]]) -> Any:
        async def asked(parameters: Any) -> Any:
            before = self.sizes.setdefault(kind, [])
            size = len(nodes(parameters))
            if self.meanwhile is not None:
                await self.meanwhile(kind, len(before))
            before.append(size)
            if 0 < self.enforced.get(kind, 0) < size:
                raise BadTooManyOperations
            return await own(parameters)

        return asked

    def tell(self, **told: int) -> None:
        """Have the server tell these limits, others 0; of a type that allows for absurd ones."""
        assert self.server is not None
        for kind, number in NODES.items():
            value = ua.DataValue(ua.Variant(told.get(kind, 0), ua.VariantType.Int64))
            node = ua.NodeId.from_string(f"i={number}")
            self.server.iserver.set_attribute_value_callback(node, lambda *_, v=value: v)

    def forget(self) -> None:
        """As one that was never asked, has no limits and tells none."""
        self.enforced, self.meanwhile = {}, None
        self.sizes.clear()
        self.tell()
