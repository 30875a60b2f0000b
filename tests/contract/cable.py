"""A serial cable with something wrong with it: pseudo-terminals, and a loop that a test can meddle with."""

import asyncio
import os
import random
import tty
from collections.abc import Awaitable, Callable

from connectors.modbus.rtu import crc
from ems.clock import wall_sleep

Answer = Callable[["Cable", bytes], Awaitable[bytes | None]]


class Cable:
    """What the master writes goes to every end; what an end writes goes to the others, to the master as told.

    Ends may be programs on a pseudo-terminal (`plug`) or functions of this process (`units`).
    """

    def __init__(self) -> None:
        self._fd, self._held = os.openpty()
        tty.setraw(self._held)
        os.set_blocking(self._fd, False)
        self.port = os.ttyname(self._held)
        self.units: dict[int, dict[int, int]] = {}  # unit -> its registers
        self.mode: dict[int, str] = {}  # unit -> how it misbehaves
        self.requests: list[bytes] = []
        self.spoil_ratio = 0.0
        self.late_s = 0.0
        self.drip_s = 0.25
        self.spoilt = 0
        self._random = random.Random(28)
        self._ends: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(self._fd, self._from_master)

    def plug(self) -> str:
        """One more end for a program; its port."""
        fd, held = os.openpty()
        tty.setraw(held)
        os.set_blocking(fd, False)
        self._ends.append(fd)
        asyncio.get_running_loop().add_reader(fd, self._from_end, fd)
        return os.ttyname(held)

    def close(self) -> None:
        for fd in (self._fd, *self._ends):
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        for task in self._tasks:
            task.cancel()

    def _from_master(self) -> None:
        data = os.read(self._fd, 1024)
        self.requests.append(data)
        for fd in self._ends:
            os.write(fd, data)
        unit = data[0]
        if unit in self.units and crc(data[:-2]) == data[-2:]:
            task = asyncio.create_task(self._play(unit, data[1:-2]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _from_end(self, fd: int) -> None:
        data = os.read(fd, 1024)
        for other in self._ends:
            if other != fd:
                os.write(other, data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._random.random() < self.spoil_ratio:
            self.spoilt += 1
            at = self._random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
        os.write(self._fd, data)

    async def _play(self, unit: int, pdu: bytes) -> None:
        mode, registers = self.mode.get(unit, "ok"), self.units[unit]
        function, address, count = pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if mode == "silent":
            return
        if function == 6:
            registers[address] = count
            right = pdu
        else:
            words = [registers[address + i].to_bytes(2, "big") for i in range(count)]
            right = bytes([function, 2 * count]) + b"".join(words)
        match mode:
            case "busy":
                right = bytes([function | 0x80, 6])
            case "gateway":
                right = bytes([function | 0x80, 11])
            case "late":
                await wall_sleep(self.late_s)
        body = bytes([unit + 3 if mode == "another unit" else unit]) + right
        no_checksum = mode == "no checksum" or (mode == "no checksum on writes" and function == 6)
        frame = body + (b"\0\0" if no_checksum else crc(body))
        if mode == "drip":
            for byte in frame:
                os.write(self._fd, bytes([byte]))
                await wall_sleep(self.drip_s)
        else:
            self._send(frame)
