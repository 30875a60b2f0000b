"""One connection to an OPC UA server: bounded in bytes, messages and time, whoever is at the other end."""

import asyncio
from collections.abc import Callable
from typing import Any

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.server.internal_session import SessionState
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import uatcp_to_binary
from asyncua.ua.uaerrors import UaError

from connectors.northbound.client import Client
from connectors.northbound.guard import Budget
from connectors.northbound.listener import Served
from connectors.northbound.ua_guard import ACTIVATION_S, GuardedProcessor, GuardedServer, NotLetIn
from connectors.opcua.values import FAULTS
from ems.clock import wall_sleep

CHUNK_MIN, CHUNK_MAX, MESSAGE_MAX = 8192, 65535, 1_048_576  # the least is that of OPC 10000-6, 7.1.2.3
LIMITS = TransportLimits(
    max_recv_buffer=CHUNK_MAX, max_send_buffer=CHUNK_MAX, max_chunk_count=32, max_message_size=MESSAGE_MAX
)
BUFFERED_MAX = 4 * MESSAGE_MAX  # bytes of answers that a client has not taken
HEADER = 8  # bytes until the length of a chunk is known


class UaConnection(OPCUAProtocol, Served):
    """asyncua's connection with our processor.

    Parameters
    ----------
    policies : factories of the security policies that are offered.
    closing : takes the tasks that clear up behind it.
    budget : messages it may have served; what is more waits.
    leave : called once when it is over.
    """

    iserver: GuardedServer

    def __init__(
        self,
        iserver: GuardedServer,
        policies: list[Any],
        clients: list[OPCUAProtocol],
        closing: list[asyncio.Task[Any]],
        *,
        budget: Budget,
        leave: Callable[[], None],
        monotonic_s: Callable[[], float],
    ) -> None:
        super().__init__(iserver, policies, clients, closing, LIMITS)
        self._budget, self._leave, self._monotonic_s = budget, leave, monotonic_s
        self._last_s = monotonic_s()
        self._address = ""

    def begin(self, client: Client) -> None:
        self._address = client.address

    def overdue(self, now_s: float) -> str:
        session = None if self.processor is None else self.processor.session
        if session is not None and session.state is SessionState.Activated:
            return ""  # its session has a time-out of its own
        if now_s - self._last_s > ACTIVATION_S:
            return f"no session for {ACTIVATION_S:g} s"
        return ""

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=BUFFERED_MAX)
        if self.transport is not None:
            self.processor = GuardedProcessor(self.iserver, transport, LIMITS)
            self.processor.set_policies(self.policies)  # type: ignore[no-untyped-call]

    def connection_lost(self, ex: BaseException | None) -> None:
        super().connection_lost(ex)
        self._leave()

    def pause_writing(self) -> None:
        self._refuse("it does not take its answers")

    def resume_writing(self) -> None:
        """Nothing: whoever has not taken so much is gone."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self._buffer) >= HEADER:
            size = int.from_bytes(self._buffer[4:HEADER], "little")
            if not HEADER <= size <= CHUNK_MAX or len(self._buffer) >= size:
                self._refuse(f"a chunk of {size} bytes, or one that is none")

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        while (wait_s := self._budget.spend()) > 0.0:
            await wall_sleep(wait_s)
        self._last_s = self._monotonic_s()
        try:
            goes_on = await super()._process_one_msg(header, buf)
            if self.processor is None or self.processor._limits.max_send_buffer >= CHUNK_MIN:
                return goes_on
            self._refuse(f"it takes chunks of less than {CHUNK_MIN} bytes: an answer would be thousands")
        except UaError as error:
            self._tell(int(getattr(error, "code", StatusCodes.BadTcpMessageTypeInvalid)))
            self._refuse("" if isinstance(error, NotLetIn) else f"{error!r}"[:200], told=True)
        except (*FAULTS, RecursionError, NotImplementedError) as error:
            self._refuse(f"a message that cannot be read: {type(error).__name__}")
        return False

    def _tell(self, code: int) -> None:
        if self.transport is not None:
            message = ua.ErrorMessage(ua.StatusCode(ua.UInt32(code)), ua.String(""))
            told: Any = ua.MessageType.Error  # an enum of bytes
            self.transport.write(uatcp_to_binary(told, message))

    def _refuse(self, why: str, *, told: bool = False) -> None:
        if why:
            self.iserver.face.refused(None, self._address, "message", why)
        self._buffer = b""
        if self.transport is not None:
            self.transport.close() if told else self.transport.abort()
