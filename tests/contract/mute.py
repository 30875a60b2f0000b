"""A transport that goes nowhere, so that a test can be the network."""

import asyncio


class MuteTransport(asyncio.Transport):
    """Takes what is written, and tells whether it was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True
