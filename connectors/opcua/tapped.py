"""The bytes of an OPC UA client, which asyncua sends and takes by itself, told to a tap."""

import asyncio
from typing import cast

from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol

from connectors.wire_log import Tap


class _Told:
    """A transport that tells what is written to it; everything else is that of the one below."""

    def __init__(self, below: asyncio.Transport, tap: Tap) -> None:
        self._below, self._tap = below, tap

    def write(self, data: bytes) -> None:
        """Send, and tell."""
        self._tap.sent(data)
        self._below.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._below, name)


class _Telling(UASocketProtocol):
    """asyncua's end of the connection, which tells what comes."""

    tap: Tap

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncua's
        self.tap.noted("connected")
        super().connection_made(cast("asyncio.Transport", _Told(transport, self.tap)))

    def data_received(self, data: bytes) -> None:
        self.tap.received(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.tap.noted("connection lost" if exc is None else f"connection lost: {exc}")
        super().connection_lost(exc)


def tapped(client: Client, tap: Tap) -> None:
    """Have a client that is not connected yet tell every byte as it is on the wire, encrypted or not."""
    make = client.uaclient._make_protocol

    def made() -> UASocketProtocol:
        protocol = make()
        protocol.__class__ = _Telling
        cast("_Telling", protocol).tap = tap
        return protocol

    client.uaclient._make_protocol = made  # type: ignore[method-assign]  # it has no parameter for it
