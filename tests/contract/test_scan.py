"""`ems scan` reads, is slow on purpose, survives whatever answers, and proposes lines that can be used."""

import argparse
import asyncio
import os
import shlex
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from cli.main import main
from cli.scan import configure, host_of, units_of
from connectors.identity import to_registers
from connectors.scan import survey as survey_module
from connectors.scan.asking import Answer, Kind, only_reads
from connectors.scan.over_serial import BusInUse, SerialAsker
from connectors.scan.over_tcp import TcpAsker
from connectors.scan.survey import Finding, Pace, survey
from ems.clock import wall_sleep
from ems.errors import EmsError, InvariantBroken
from ems.family import Family
from ems.site import SerialLine
from ems.site_schema import load_families
from tests.contract.cable import Cable
from tests.contract.plants import free_port
from tests.contract.register_device import RegisterDevice
from tests.contract.test_independent_peers import slave  # noqa: F401  a fixture

FAMILIES = list(load_families().values())
TOLD = [f for f in FAMILIES if f.is_told]
QUICK = 10_000.0  # questions a second: the pace has a test of its own


def pretend(device: RegisterDevice, family: Family, serial: str = "4711") -> None:
    """The device tells of itself what the family is for."""
    for field in family.identity:
        told = field.expected or (field.one_of[0] if field.one_of else field.starts or serial)
        device.put(field.table, int(field.address), to_registers(field, told))


async def scan(port: int, units: list[int], timeout_s: float = 0.3) -> list[Finding]:
    asker = TcpAsker("127.0.0.1", port, timeout_s)
    try:
        return [f async for f in survey([(asker, units)], FAMILIES, Pace(QUICK))]
    finally:
        asker.close()


@pytest.mark.parametrize("family", TOLD, ids=lambda f: f.name)
async def test_scan_knows_each_family_by_its_identity_and_no_other_and_reads_only(family):
    async with RegisterDevice() as device:
        pretend(device, family)
        (finding,) = await scan(device.port, [1])
        assert [m.family.name for m in finding.matches] == [family.name]
        assert finding.is_there
        assert set(device.functions) <= {3, 4, 43}
        assert device.writes == 0


async def test_scan_tells_sunspec_device_identification_and_who_is_not_there():
    async with RegisterDevice(unit=7) as device:
        device.put("holding", 50000, [0x5375, 0x6E53])
        device.device_id = {0: "Acme", 1: "PX-100", 2: "V2.1"}
        absent, there = await scan(device.port, [6, 7], timeout_s=0.1)
        assert (absent.is_there, absent.doubts) == (False, ["no answer in time"])
        assert there.sunspec_at == 50000
        assert there.told == {"vendor": "Acme", "product code": "PX-100", "revision": "V2.1"}
        assert not there.matches


async def test_scan_asks_each_question_once_however_many_families_want_to_know():
    async with RegisterDevice() as device:
        asker = TcpAsker("127.0.0.1", device.port, 0.3)
        twice = [*TOLD, *TOLD]
        (finding,) = [f async for f in survey([(asker, [1])], twice, Pace(QUICK))]
        asker.close()
        (once,) = await scan(device.port, [1])
        assert finding.questions == once.questions


class Slow:
    """An asker that counts how many questions are in flight."""

    name, can_identify = "slow", True

    def __init__(self, state: dict[str, int]) -> None:
        self.state = state

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        self.state["now"] += 1
        self.state["max"] = max(self.state["max"], self.state["now"])
        await asyncio.sleep(0)
        self.state["now"] -= 1
        return Answer(kind=Kind.EXCEPTION, code=2)


async def test_scan_one_question_in_flight_and_five_a_second_over_all_lines(monkeypatch):
    now, asked = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(survey_module, "wall_s", lambda: now[0])
    monkeypatch.setattr(survey_module, "wall_sleep", sleep)
    state = {"now": 0, "max": 0}

    class Timed(Slow):
        async def ask(self, unit: int, pdu: bytes) -> Answer:
            asked.append(now[0])
            return await super().ask(unit, pdu)

    pace = Pace()

    async def whole() -> None:
        async for _ in survey([(Timed(state), [1, 2])], FAMILIES, pace):
            pass

    await asyncio.gather(whole(), whole())
    assert state["max"] == 1
    assert len(asked) > 20
    assert min(b - a for a, b in pairwise(asked)) >= 0.2 - 1e-9


@pytest.mark.parametrize("function", [1, 2, 5, 6, 8, 15, 16, 22, 23])
def test_scan_nothing_but_reads_can_be_sent(function):
    with pytest.raises(InvariantBroken):
        only_reads(bytes((function, 0, 0, 0, 1)))


@asynccontextmanager
async def hostile(answer: Callable[[bytes], bytes], forever: bool = False) -> AsyncIterator[int]:
    """A server that answers every request with something else."""
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.read(260):
                writer.write(answer(request))
                while forever:
                    writer.write(b"\xff" * 4096)
                    await writer.drain()
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in serving:
        task.cancel()
    if serving:
        await asyncio.wait(serving)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "another transaction": lambda r: b"\xff\xff" + r[2:6] + r[6:8] + b"\x02\0\0",
    "another unit": lambda r: r[:4] + b"\0\x05" + bytes((r[6] ^ 1, r[7], 2, 0, 0)),
    "another function": lambda r: r[:4] + b"\0\x05" + bytes((r[6], 6, 2, 0, 0)),
    "huge length": lambda r: r[:4] + b"\xff\xff" + r[6:],
    "no length": lambda r: r[:4] + b"\0\0" + r[6:],
    "no Modbus": lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "one byte": lambda r: b"\0",
    "nothing": lambda r: b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_scan_hostile_server_is_nobody_and_does_not_stop_it(name):
    async with hostile(HOSTILE[name]) as port, RegisterDevice() as device:
        (finding,) = await scan(port, [1], timeout_s=0.05)
        assert not finding.is_there
        assert finding.doubts
        assert finding.questions <= 3
        pretend(device, TOLD[0])
        (after,) = await scan(device.port, [1])
        assert after.matches


async def test_scan_endless_answer_and_lies_in_the_right_frame_match_nothing():
    async with hostile(lambda r: b"", forever=True) as port:
        (finding,) = await scan(port, [1], timeout_s=0.1)
        assert not finding.is_there
    # right frames, wrong counts: no registers, too many, a device identification that promises more
    for body in (b"\0", b"\x04\0\0", b"\xfa" + b"\0" * 250, b"\x0e\1\1\0\0\x03\0\xff"):
        frame = lambda r, b=body: r[:4] + (2 + len(b)).to_bytes(2, "big") + r[6:8] + b  # noqa: E731
        async with hostile(frame) as port:
            (finding,) = await scan(port, [1])
            assert not finding.matches
            assert finding.sunspec_at is None
            assert not finding.told


async def test_scan_closed_port_is_told():
    (finding,) = await scan(free_port(), [1])
    assert not finding.is_there
    assert "cannot be reached" in finding.doubts[0]


def line(cable: Cable) -> SerialLine:
    return SerialLine(device=cable.port, baud=19200, parity="none", stop_bits=1)


def rtu_unit(family: Family) -> dict[int, int]:
    """Registers of a unit on a cable that pretends to be of a family; all others read 0."""
    device = RegisterDevice()
    pretend(device, family)
    return dict.fromkeys(range(65536), 0) | device.registers["holding"]


async def test_scan_serial_bus_in_silence_is_asked_by_reads_alone():
    cable = Cable()
    adam = next(f for f in FAMILIES if f.name == "advantech_adam4150")
    cable.units[3] = rtu_unit(adam)
    asker = SerialAsker(line(cable), 0.1)
    try:
        await asker.listen(0.05)
        found = [f async for f in survey([(asker, [2, 3])], FAMILIES, Pace(QUICK))]
    finally:
        asker.close()
        cable.close()
    assert [f.is_there for f in found] == [False, True]
    assert [m.family.name for m in found[1].matches] == ["advantech_adam4150"]
    assert {request[1] for request in cable.requests} <= {3, 4}


async def test_scan_serial_bus_with_another_master_refused_while_listening_and_while_asking():
    cable = Cable()
    cable.units[1] = rtu_unit(TOLD[0])
    asker = SerialAsker(line(cable), 0.05)
    try:

        async def master() -> None:
            await wall_sleep(0.02)
            os.write(cable._fd, b"\x01\x03\x00\x00\x00\x01\x84\x0a")

        talking = asyncio.create_task(master())
        with pytest.raises(BusInUse, match="without another master"):
            await asker.listen(0.1)
        await talking
        assert cable.requests == []  # nobody was asked anything
        asker.close()
        asker = SerialAsker(line(cable), 0.05)
        await asker.listen(0.02)
        findings = survey([(asker, [1, 1])], FAMILIES, Pace(QUICK))
        assert (await anext(findings)).is_there
        os.write(cable._fd, b"\x05\x03\x02\x00\x01\x00\x00")
        await wall_sleep(0.05)
        with pytest.raises(BusInUse, match="nobody here asked for"):
            await anext(findings)
    finally:
        asker.close()
        cable.close()


async def test_scan_serial_port_of_another_program_refused():
    cable = Cable()
    first, second = SerialAsker(line(cable), 0.05), SerialAsker(line(cable), 0.05)
    try:
        await first.listen(0.01)
        with pytest.raises(BusInUse, match="held by another process"):
            await second.listen(0.01)
        with pytest.raises(EmsError, match="cannot open"):
            await SerialAsker(
                SerialLine(device="/dev/none", baud=9600, parity="even", stop_bits=1), 1
            ).listen(1)
    finally:
        first.close()
        cable.close()


@pytest.mark.needs_server
async def test_scan_libmodbus_device_is_known_by_what_somebody_else_wrote_into_it(slave):  # noqa: F811
    """A device of another make: the model of a Carlo Gavazzi EM24 in register 11, exceptions elsewhere."""
    port = free_port()
    process = subprocess.Popen([str(slave), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "listening\n"
        (finding,) = await scan(port, [1], timeout_s=1.0)
        assert (finding.is_there, finding.matches, finding.told) == (True, [], {})
        await wall_sleep(0.05)  # the scan's connection goes first: this device has room for one
        with socket.create_connection(("127.0.0.1", port), 1.0) as raw:
            raw.sendall(b"\0\1\0\0\0\6\1\6\0\x0b" + (1651).to_bytes(2, "big"))
            assert len(raw.recv(12)) == 12
        (finding,) = await scan(port, [1], timeout_s=1.0)
        assert [m.family.name for m in finding.matches] == ["carlo_gavazzi_em24"]
        assert finding.matches[0].told == {"model": "1651", "serial": None}
    finally:
        process.kill()
        process.communicate()


async def test_scan_command_proposes_lines_that_the_check_takes(tmp_path, capsys):
    em24 = next(f for f in FAMILIES if f.name == "carlo_gavazzi_em24")
    async with RegisterDevice() as device:
        pretend(device, em24, serial='KR\'1 "x"')
        code = await asyncio.to_thread(main, ["scan", f"127.0.0.1:{device.port}", "--timeout", "0.5"])
        assert device.writes == 0
        assert set(device.functions) <= {3, 4, 43}
    said = capsys.readouterr()
    assert code == 0
    assert "1 of 1: 127.0.0.1" in said.err
    assert "no write" in said.out
    assert "eastron_sdm630" in said.out  # what it could not have told
    lines = said.out[said.out.index("connections:") : said.out.index("\n\n", said.out.index("connections:"))]
    for key, value in (("asset", "grid1"), ("v_ln_v", "230"), ("p_max_kw", "9")):
        assert f"{key}: ???" in lines
        lines = lines.replace(f"{key}: ???", f"{key}: {value}")
    (tmp_path / "site.yaml").write_text(f"grid: {{id: grid1}}\n{lines}\n")
    assert main(["check", str(tmp_path)]) == 1
    found = capsys.readouterr().out
    mine = [line for line in found.splitlines() if "carlo_gavazzi_em24" in line]
    assert all("no map for grid1.breaker_closed" in line for line in mine), mine  # a meter does not tell that


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "HOST: found none"),
        (["192.168.1.0/24"], "no ranges of hosts"),
        (["a", "--serial", "/dev/x"], "HOST: found none, or"),
        (["a", "--units", "1-300"], "--units: found '1-300'"),
        (["a", "--units", "5-3"], "--units"),
        (["a:99999"], "HOST: found 'a:99999'"),
        (["a", "--timeout", "0"], "--timeout"),
        (["--serial", "/dev/x", "--baud", "1"], "--baud: found 1"),
    ],
)
def test_scan_wrong_arguments_refused_before_anything_is_sent(arguments, said, capsys):
    assert main(["scan", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_scan_commands_of_the_documentation_are_taken():
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    shown = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("ems scan ")]
    assert len(shown) == 2
    for arguments in shown:
        parser = argparse.ArgumentParser()
        configure(parser)
        args = parser.parse_args(arguments)
        assert units_of(args.units)
        assert bool([host_of(h) for h in args.host]) is (args.serial is None)


def test_scan_units_and_hosts_read():
    assert units_of("1, 3,10-12,3") == [1, 3, 10, 11, 12]
    assert host_of("plc.example:1502") == ("plc.example", 1502)
    assert host_of("[fe80::1]") == ("fe80::1", 502)


def test_scan_stopped_prints_what_it_knows(monkeypatch, capsys):
    async def one_then_stopped(*args: object) -> None:
        tally = args[-1]
        tally.findings.append(Finding(where="h:502", unit=1, is_there=True))  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.scan._tcp", one_then_stopped)
    assert main(["scan", "h"]) == 130
    assert "h:502 unit 1: answers" in capsys.readouterr().out


def test_scan_report_of_the_shipped_families_names_each_that_cannot_be_told(capsys, tmp_path: Path):
    mute = {f.name for f in FAMILIES if f.protocol.is_modbus and not f.is_told}
    assert "eastron_sdm630" in mute
    assert main(["scan", f"127.0.0.1:{free_port()}"]) == 1
    out = capsys.readouterr().out
    assert all(name in out for name in mute)
    assert "nobody there" in out
