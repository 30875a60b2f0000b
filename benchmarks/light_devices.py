"""Light Modbus TCP devices in a process of their own, which write down when requests came and replies left.

    python -m benchmarks.light_devices COUNT DEAD     ports on stdout, then one answer per line of stdin

Each answers reads from an array of registers and takes writes into it; the last `DEAD` accept and are silent.
`dump` prints, as JSON by device, [first request, last reply, write] of each cycle on the machine's monotonic
clock, and forgets them; `fill` is followed by a line of JSON: {device: {register: value}}.
"""

import asyncio
import json
import struct
import sys
import time
from typing import Any

REGISTERS = 512


class Device:
    """One unit: registers and the times of its present cycle."""

    def __init__(self, dead: bool) -> None:
        self.dead = dead
        self.memory = bytearray(2 * REGISTERS)
        self.first_s = self.reply_s = 0.0
        self.cycles: list[tuple[float, float, float]] = []


class Session(asyncio.Protocol):
    """One connection to a device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        d = self._device
        if d.dead:
            return
        buffer = self._buffer + data
        while len(buffer) >= 12:
            size = 6 + int.from_bytes(buffer[4:6], "big")
            if len(buffer) < size:
                break
            self._answer(d, buffer[:size], time.monotonic())
            buffer = buffer[size:]
        self._buffer = buffer

    def _answer(self, d: Device, request: bytes, now_s: float) -> None:
        function, address, count = struct.unpack_from(">BHH", request, 7)
        if function in (3, 4):
            if d.first_s == 0.0:
                d.first_s = now_s
            body = d.memory[2 * address : 2 * (address + count)]
            head = request[:4] + struct.pack(">HBBB", 3 + len(body), request[6], function, len(body))
            self._transport.write(head + body)
            d.reply_s = time.monotonic()
            return
        if function == 6:
            d.memory[2 * address : 2 * address + 2] = request[10:12]
            self._transport.write(request)
        else:
            d.memory[2 * address : 2 * (address + count)] = request[13:]
            self._transport.write(request[:4] + b"\0\6" + request[6:12])
        if d.first_s > 0.0:
            d.cycles.append((d.first_s, d.reply_s, now_s))
        d.first_s = 0.0


async def main(count: int, dead: int) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    devices = [Device(i >= count - dead) for i in range(count)]
    servers = [
        await loop.create_server(lambda d=d: Session(d), "127.0.0.1", 0)  # type: ignore[misc]
        for d in devices
    ]
    print(json.dumps([s.sockets[0].getsockname()[1] for s in servers]), flush=True)
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        if line == "fill":
            for i, registers in json.loads(await reader.readline()).items():
                for address, value in registers.items():
                    struct.pack_into(">H", devices[int(i)].memory, 2 * int(address), value)
            print("filled", flush=True)
        else:
            print(json.dumps([d.cycles for d in devices]), flush=True)
            for d in devices:
                d.cycles = []


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
