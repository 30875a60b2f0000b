"""The bytes of one connection, kept as `ems wire` keeps them, for tests that look at them."""

import subprocess
from datetime import timedelta
from pathlib import Path

from connectors.wire_log import TapOf, WireLog, ask
from tests.builders import T0


class Kept:
    """Asked for from the start on."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.log"
        self._log = WireLog(folder, [name], now=lambda: T0)
        folder.mkdir(exist_ok=True)
        ask(folder, name, T0 + timedelta(hours=1))
        self._log.look()

    @property
    def tap_of(self) -> TapOf:
        return self._log.tap

    def lines(self) -> list[str]:
        self._log.look()
        return self.file.read_text().splitlines() if self.file.exists() else []

    def said(self, direction: str) -> list[bytes]:
        """Entries sent ("O") or received ("I")."""
        out: list[bytes] = []
        mine = False
        for line in self.lines():
            if line[0] in "OI#":
                mine = line[0] == direction
                out += [b""] if mine else []
            elif mine:
                out[-1] += bytes.fromhex(line.split(" ", 1)[1])
        return out

    def captured(self, text2pcap: str, *link: str) -> bytes:
        """What Wireshark opens."""
        self.lines()
        pcap = self.file.with_suffix(".pcap")
        command = [text2pcap, "-D", "-t", "ISO", *link, str(self.file), str(pcap)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return pcap.read_bytes()
