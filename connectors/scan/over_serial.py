"""Questions on a serial bus, after listening: a bus with another master on it is not asked anything."""

import asyncio

from connectors.link import LinkError
from connectors.modbus.frames import DATA_AT, MalformedReply, exception_code
from connectors.modbus.rtu import answer, crc, gap_s, tcp_layout
from connectors.modbus.serial_port import SerialPort, open_serial
from connectors.scan.asking import READ_IDENTIFICATION, Answer, Kind, only_reads
from ems.clock import wall_sleep
from ems.errors import EmsError
from ems.site import SerialLine


class BusInUse(EmsError):
    """Somebody else talks on the bus; asking would put two masters on it."""


class SerialAsker(asyncio.Protocol):
    """Asks the units of one bus.

    Parameters
    ----------
    line : the port and how characters look on it.
    timeout_s : for each whole answer, wall time [s].
    """

    can_identify = False  # the length of such an answer is not known before it is over

    def __init__(self, line: SerialLine, timeout_s: float) -> None:
        self._line, self._timeout_s = line, timeout_s
        self._port: SerialPort | None = None
        self._sent = self._received = b""
        self._whole: asyncio.Future[bytes] | None = None
        self._strange = 0  # bytes that nobody asked for
        self._late = False  # bytes may still be an answer to the question before

    @property
    def name(self) -> str:
        """The port."""
        return self._line.device

    async def listen(self, listen_s: float) -> None:
        """Open the port and hear whether anybody talks on it.

        Raises
        ------
        BusInUse : somebody does, or another program holds the port.
        EmsError : the port cannot be opened.
        """
        try:
            self._port = open_serial(self._line, self)
        except LinkError as error:
            held = BusInUse if "held by" in str(error) else EmsError
            raise held(str(error)) from None
        await wall_sleep(listen_s)
        self._refuse_strangers()

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        """One question. Raises BusInUse where bytes came that nobody had asked for."""
        assert pdu[0] != READ_IDENTIFICATION, "not asked on a serial line"
        self._refuse_strangers()
        if self._port is None:
            return Answer(kind=Kind.SILENT, text=f"{self.name} was lost")
        body = bytes((unit,)) + only_reads(pdu)
        self._sent, self._received = tcp_layout(body), b""
        self._whole = asyncio.get_running_loop().create_future()
        self._port.write(body + crc(body))
        try:
            async with asyncio.timeout(self._timeout_s):
                got = await self._whole
        except TimeoutError:
            got = None
        except MalformedReply as error:
            await self._let_fall_silent()
            return Answer(kind=Kind.GARBLED, text=str(error))
        finally:
            self._whole = None
        if got is None:
            await self._let_fall_silent()
            return Answer(kind=Kind.SILENT, text="no answer in time")
        await wall_sleep(gap_s(self._line.baud))
        code = exception_code(got)
        if code is not None:
            return Answer(kind=Kind.EXCEPTION, code=code, text=f"exception {code}")
        return Answer(kind=Kind.DATA, data=got[DATA_AT - 1 :])

    def close(self) -> None:
        """Close the port."""
        port, self._port = self._port, None
        if port is not None:
            port.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the line: of the answer, too late for one, or of somebody else."""
        if self._whole is None or self._whole.done():
            self._strange += 0 if self._late else len(data)
            return
        self._received += data
        try:
            whole = answer(self._sent, self._received)
        except MalformedReply as error:
            self._whole.set_exception(error)
            return
        if whole is not None:
            self._whole.set_result(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is gone."""
        self._port = None

    async def _let_fall_silent(self) -> None:
        self._late = True
        await wall_sleep(self._timeout_s)
        self._late = False

    def _refuse_strangers(self) -> None:
        if self._strange:
            raise BusInUse(
                f"{self.name}: found {self._strange} bytes that nobody here asked for; allowed: a bus "
                "without another master (stop it, or unplug it, and scan again)"
            )
