"""Ports that are chosen now and bound later."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import free_ports as module
from cli.free_ports import RANGE, free_ports
from ems.errors import EmsError


@pytest.fixture
def held() -> Iterator[int]:
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        yield port


def test_ports_are_different_and_can_be_bound():
    found = free_ports(50)
    assert len(set(found)) == 50
    for port in found:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4").is_dir(), reason="not Linux")
def test_no_outgoing_connection_is_given_one_of_them():
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not set(RANGE) & set(range(low, high + 1))


def test_port_that_is_held_is_not_chosen(held: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RANGE", range(held, held + 3))
    assert held not in free_ports(1)


def test_no_port_is_left(held: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RANGE", range(held, held + 1))
    with pytest.raises(EmsError, match=f"1 ports of {held} to {held} are needed, 0 are free"):
        free_ports(1)
