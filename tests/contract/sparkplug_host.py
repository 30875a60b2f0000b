"""A Sparkplug host of another make (sparkplug-payload on node), and what it holds each message against."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.mosquitto import Mosquitto

HERE = Path(__file__).parent / "node_sparkplug"
Key = tuple[str, str, int]  # device, metric, ms since 1970 UTC


class Host:
    """What it knows of one node; `faults` says what was not as it must be."""

    def __init__(self, broker: Mosquitto, group: str, *host_id: str) -> None:
        node = shutil.which("node")
        if node is None or not (HERE / "node_modules" / "sparkplug-payload").is_dir():
            pytest.skip(f"sparkplug-payload is not installed (npm ci --prefix {HERE})")
        self.faults: list[str] = []
        self.heard: list[str] = []  # kinds and devices, in order
        self.births: dict[str, list[dict[str, Any]]] = {}  # by device, "" the node
        self.bd_seqs: list[int] = []
        self.values: dict[Key, float | None] = {}  # data alone
        self.fresh: list[Key] = []  # told as of now, in order
        self.texts: dict[str, str] = {}
        self.twice = self.unlike = self.twice_and_fresh = 0
        self.quality: dict[Key, dict[str, Any]] = {}
        self.alive: set[str] = set()
        self._aliases: dict[int, tuple[str, str]] = {}
        self._seq = -1
        self.listens = threading.Event()
        self._process = subprocess.Popen(
            [node, str(HERE / "host.js"), str(broker.plain), group, *host_id],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def order(self, **what: Any) -> None:
        """Publish a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def count(self, kind: str) -> int:
        return sum(1 for x in self.heard if x.split()[0] == kind)

    def close(self) -> None:
        """As if its power had failed."""
        self._process.kill()
        self._thread.join(5.0)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if told["type"] == "listening":
                self.listens.set()
                continue
            device = told.get("device") or ""
            self._take(told["type"], device, told["payload"])
            self.heard.append(f"{told['type']} {device}".strip())

    def _take(self, kind: str, device: str, payload: Mapping[str, Any]) -> None:
        if kind == "NDEATH":
            (metric,) = payload["metrics"]
            if self.bd_seqs and metric["value"] == self.bd_seqs[-1]:
                self.alive, self._seq = set(), -1
            if "seq" in payload:
                self.faults.append("NDEATH with a seq")
            return
        if kind == "NBIRTH":
            self._seq = -1
            self.alive = set()
        if payload["seq"] != (self._seq + 1) % 256:
            self.faults.append(f"{kind} {device}: seq {payload['seq']} after {self._seq}")
        self._seq = payload["seq"]
        metrics = payload.get("metrics", [])
        if kind.endswith("BIRTH"):
            self._birth(kind, device, metrics)
        elif kind == "DDEATH":
            self.alive.discard(device)
        elif device not in self.alive:
            self.faults.append(f"{kind} of {device or 'the node'}, which is not born")
        else:
            for metric in metrics:
                self._datum(device, metric)

    def _birth(self, kind: str, device: str, metrics: list[dict[str, Any]]) -> None:
        self.alive.add(device)
        self.births[device] = metrics
        for metric in metrics:
            if metric.get("name") == "bdSeq":
                self.bd_seqs.append(metric["value"])
            elif "alias" in metric:
                known = self._aliases.setdefault(metric["alias"], (device, metric["name"]))
                if kind == "DBIRTH" and known != (device, metric["name"]):
                    self._aliases[metric["alias"]] = (device, metric["name"])

    def _datum(self, device: str, metric: dict[str, Any]) -> None:
        of, name = self._aliases[metric["alias"]]
        if of != device or "name" in metric:
            self.faults.append(f"alias {metric['alias']} of {of} in a message of {device}")
        if not device:
            self.texts[metric["value"]] = name
            return
        key = (device, name, metric["timestamp"])
        historical = metric.get("isHistorical", False)
        if key in self.values:
            self.twice += 1
            self.twice_and_fresh += not historical
            self.unlike += self.values[key] != metric["value"]
        self.values[key] = metric["value"]
        self.quality[key] = metric.get("properties", {})
        if not historical:
            self.fresh.append(key)


@contextmanager
def hosting(broker: Mosquitto, group: str, *host_id: str) -> Iterator[Host]:
    host = Host(broker, group, *host_id)
    try:
        assert host.listens.wait(20.0), "it does not listen"
        yield host
    finally:
        host.close()
